import fractions
import math

import numpy as np
import pytest

from rsjax.datasets.info import ImageSpec
from rsjax.input import statistics

SPEC = ImageSpec("sentinel2_l2a", ("B02", "B03"), 8, 8, "uint16", "reflectance_1e4", 10.0, 0)


def test_integer_statistics_are_exact_and_leave_nodata_out():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 65536, (40, 8, 8, 2), np.uint16)
    images[:, :2] = 0  # nodata: every band is 0
    images[:, 2, :, 0] = 0  # a dark band is not
    parts = [statistics.of_image(i, SPEC) for i in images]
    uneven = [statistics.merge(parts[:3]), statistics.merge(parts[3:39]), parts[39]]
    table = statistics.finish(statistics.merge(uneven), SPEC.bands)
    for band, name in enumerate(SPEC.bands):
        values = [int(v) for v in images[:, 2:, :, band].ravel()]
        mean = fractions.Fraction(sum(values), len(values))
        square = fractions.Fraction(sum(v * v for v in values), len(values))
        assert table[name]["mean"] == float(mean)
        assert table[name]["std"] == pytest.approx(math.sqrt(square - mean**2), rel=1e-15)
        assert table[name]["pixels"] == len(values)
        assert table[name]["nodata"] == 40 * 2 * 8
        assert (table[name]["min"], table[name]["max"]) == (min(values), max(values))


def test_float_statistics_do_not_depend_on_the_shards():
    rng = np.random.default_rng(1)
    spec = ImageSpec("sentinel1", ("VV", "VH"), 8, 8, "float32", "db", 10.0)
    images = rng.normal(-12, 5, (30, 8, 8, 2)).astype(np.float32)
    parts = [statistics.of_image(i, spec) for i in images]
    one = statistics.finish(statistics.merge(parts), spec.bands)
    two = statistics.finish(
        statistics.merge([statistics.merge(parts[:7]), statistics.merge(parts[7:])]), spec.bands
    )
    flat = images.reshape(-1, 2).astype(np.float64)
    for band, name in enumerate(spec.bands):
        assert one[name]["mean"] == pytest.approx(flat[:, band].mean(), rel=1e-13)
        assert one[name]["std"] == pytest.approx(flat[:, band].std(), rel=1e-10)
        assert two[name]["mean"] == pytest.approx(one[name]["mean"], rel=1e-15)


def test_a_split_without_a_valid_pixel_has_no_mean():
    empty = statistics.of_image(np.zeros((8, 8, 2), np.uint16), SPEC)
    table = statistics.finish(empty, SPEC.bands)
    assert math.isnan(table["B02"]["mean"])
    assert table["B02"]["pixels"] == 0


def test_a_pixel_with_a_missing_value_in_any_band_is_left_out_of_a_series():
    spec = ImageSpec("s", ("a", "b"), 4, 4, "float32", "db", 10.0, math.nan, steps=3)
    series = np.random.default_rng(0).normal(-10, 3, (3, 4, 4, 2)).astype(np.float32)
    series[0, 1, 1, 0] = series[2, 3, 0, 1] = np.nan
    found = statistics.finish(statistics.of_image(series, spec), spec.bands)
    valid = series.reshape(-1, 2)[np.isfinite(series).all(-1).ravel()].astype(np.float64)
    assert found["a"]["pixels"] == len(valid) == 46
    assert found["a"]["nodata"] == 2
    for i, band in enumerate(spec.bands):
        np.testing.assert_allclose(found[band]["mean"], valid[:, i].mean(), rtol=1e-12)
        np.testing.assert_allclose(found[band]["std"], valid[:, i].std(), rtol=1e-9)
