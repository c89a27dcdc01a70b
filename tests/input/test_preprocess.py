import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsjax.datasets.info import ImageSpec
from rsjax.errors import SensorError
from rsjax.input.preprocess import Inputs, make_inputs, preprocess, resample
from rsjax.training.data import as_reflectance

IMAGES = {
    "s2_10m": ImageSpec("sentinel2_l2a", ("B02", "B03"), 12, 12, "uint16", "reflectance_1e4", 10.0),
    "s2_20m": ImageSpec("sentinel2_l2a", ("B05", "B8A"), 6, 6, "uint16", "reflectance_1e4", 20.0),
    "s1": ImageSpec("sentinel1", ("VV",), 12, 12, "float32", "db", 10.0),
}
STATISTICS = {
    "sentinel2_l2a": {b: {"mean": 1000.0 + i, "std": 300.0 + i}
                      for i, b in enumerate(("B02", "B03", "B05", "B8A"))},
    "sentinel1": {"VV": {"mean": -12.0, "std": 5.0}},
}  # fmt: skip


def raw(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "s2_10m": rng.integers(0, 65535, (3, 12, 12, 2), np.uint16),
        "s2_20m": rng.integers(0, 5000, (3, 6, 6, 2), np.uint16),
        "s1": rng.normal(-12, 5, (3, 12, 12, 1)).astype(np.float32),
    }


def test_bands_follow_their_names_not_their_positions():
    names = ("sentinel1/VV", "sentinel2_l2a/B8A", "sentinel2_l2a/B03", "sentinel2_l2a/B02")
    inputs = make_inputs(IMAGES, names, STATISTICS, (12, 12), "nearest")
    batch = raw()
    x = np.asarray(jax.jit(preprocess(inputs))(batch))
    assert x.shape == (3, 12, 12, 4)
    assert x.dtype == np.float32
    b8a = np.kron(batch["s2_20m"][..., 1], np.ones((1, 2, 2)))
    for channel, (image, mean, std) in enumerate([
        (batch["s1"][..., 0], -12.0, 5.0), (b8a, 1003.0, 303.0),
        (batch["s2_10m"][..., 1], 1001.0, 301.0), (batch["s2_10m"][..., 0], 1000.0, 300.0),
    ]):  # fmt: skip
        np.testing.assert_allclose(x[..., channel], (image - mean) / std, rtol=1e-5, atol=1e-4)


def test_entries_that_no_band_needs_are_not_read():
    inputs = make_inputs(IMAGES, ("sentinel1/VV",), STATISTICS, (12, 12))
    assert set(inputs.images) == {"s1"}
    assert preprocess(inputs)({"s1": raw()["s1"]}).shape == (3, 12, 12, 1)


def test_a_coarser_grid_is_the_mean_over_blocks():
    image = raw()["s2_10m"].astype(np.float32)
    found = resample(jnp.asarray(image), (4, 6), "bilinear")
    want = image.reshape(3, 4, 3, 6, 2, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(found, want, rtol=1e-5)


def test_bilinear_matches_scipy():
    from scipy import ndimage

    image = raw()["s2_20m"][..., :1].astype(np.float32)
    found = np.asarray(resample(jnp.asarray(image), (12, 12), "bilinear"))
    at = (np.arange(12) + 0.5) / 2 - 0.5
    rows, columns = np.meshgrid(at, at, indexing="ij")
    want = ndimage.map_coordinates(image[0, ..., 0], [rows, columns], order=1, mode="nearest")
    np.testing.assert_allclose(found[0, ..., 0], want, rtol=1e-4, atol=1e-2)


@pytest.mark.parametrize(
    ("bands", "message"),
    [
        (("sentinel2_l2a/B99",), "B99.*not in the shards"),
        (("sentinel2_l2a/B02",) * 2, "repeat"),
        ((), "config.data.bands"),
    ],
)
def test_unknown_or_repeated_bands_are_refused(bands, message):
    with pytest.raises(SensorError, match=message):
        make_inputs(IMAGES, bands, STATISTICS, (12, 12))


def test_constant_bands_and_missing_statistics_are_refused():
    flat = {"sentinel1": {"VV": {"mean": 1.0, "std": 0.0}}}
    with pytest.raises(SensorError, match="no usable statistics"):
        make_inputs(IMAGES, ("sentinel1/VV",), flat, (12, 12))
    with pytest.raises(SensorError, match="no usable statistics"):
        make_inputs(IMAGES, ("sentinel1/VV",), {}, (12, 12))


def test_inputs_survive_json():
    inputs = make_inputs(IMAGES, ("sentinel1/VV", "sentinel2_l2a/B8A"), STATISTICS, (12, 12))
    for one in (inputs, dataclasses.replace(inputs, rescale=((1.0, 2.0), (3.0, 4.0)))):
        assert Inputs.from_json(json.loads(json.dumps(one.to_json()))) == one


def test_missing_values_are_the_mean_also_where_the_model_takes_another_quantity():
    spec = ImageSpec("landsat8", ("B4",), 1, 2, "float32", "landsat_c2_l2", 30.0, math.nan)
    inputs = Inputs({"a": spec}, ("landsat8/B4",), (15000.0,), (500.0,), (1, 2))
    found = preprocess(as_reflectance(inputs))({"a": np.array([[[[np.nan], [18000]]]], "f4")})
    stored = np.array([15000, 18000])
    np.testing.assert_allclose(found.ravel(), 1e4 * (2.75e-5 * stored - 0.2), rtol=1e-5)


SERIES = {
    "s2": ImageSpec("sentinel2_l2a", ("B02", "B03"), 6, 6, "float32", "reflectance_1e4", 20.0,
                    math.nan, steps=3),
    "s1": IMAGES["s1"],
}  # fmt: skip


def test_steps_of_a_series_are_chosen_by_name():
    names = ("sentinel2_l2a/B03@2", "sentinel1/VV", "sentinel2_l2a/B02@0", "sentinel2_l2a/B03@0")
    inputs = make_inputs(SERIES, names, STATISTICS, (6, 6))
    assert Inputs.from_json(json.loads(json.dumps(inputs.to_json()))) == inputs
    series = np.random.default_rng(0).uniform(0, 4000, (3, 3, 6, 6, 2)).astype(np.float32)
    x = np.asarray(jax.jit(preprocess(inputs))({"s2": series, "s1": raw()["s1"]}))
    for channel, (step, band) in {0: (2, 1), 2: (0, 0), 3: (0, 1)}.items():
        want = (series[:, step, ..., band] - (1000 + band)) / (300 + band)
        np.testing.assert_allclose(x[..., channel], want, rtol=1e-5, atol=1e-5)


def test_missing_values_are_the_mean_and_stay_in_their_band():
    series = np.full((1, 3, 6, 6, 2), 2000, np.float32)
    series[0, 1, 2, 3, 0] = np.nan
    names = ("sentinel2_l2a/B02@1", "sentinel2_l2a/B03@1")
    inputs = make_inputs(SERIES, names, STATISTICS, (6, 6))
    x = np.asarray(preprocess(inputs)({"s2": series}))
    assert x[0, 2, 3, 0] == 0
    assert np.isfinite(x).all()
    assert (np.delete(x[..., 0].ravel(), 2 * 6 + 3) == x[0, 0, 0, 0]).all()
    assert (x[..., 1] == x[0, 0, 0, 1]).all()


@pytest.mark.parametrize("band", ["sentinel2_l2a/B02", "sentinel2_l2a/B02@3", "sentinel1/VV@0"])
def test_a_step_that_a_series_does_not_have_is_refused(band):
    with pytest.raises(SensorError, match=r"not in the shards; they have .*B02@0 to @2"):
        make_inputs(SERIES, (band,), STATISTICS, (6, 6))


def test_a_series_of_varying_length_has_the_steps_asked_for():
    images = {"s2": dataclasses.replace(SERIES["s2"], steps=0)}
    inputs = make_inputs(images, ("sentinel2_l2a/B03@4",), STATISTICS, (6, 6))
    series = np.random.default_rng(1).uniform(0, 4000, (2, 7, 6, 6, 2)).astype(np.float32)
    x = np.asarray(preprocess(inputs)({"s2": series}))
    np.testing.assert_allclose(x[..., 0], (series[:, 4, ..., 1] - 1001) / 301, rtol=1e-5, atol=1e-5)


def test_nan_as_nodata_equals_itself_whoever_made_it():
    one, other = (dataclasses.replace(SERIES["s2"], nodata=float("nan")) for _ in range(2))
    assert one == other == SERIES["s2"]
    assert len({one, other}) == 1
    assert one != dataclasses.replace(one, nodata=0.0)
    assert one != dataclasses.replace(one, steps=2)
