"""Features of pixels and images, against SciPy and NumPy."""

import jax
import numpy as np
import pytest
from scipy import ndimage

from rsjax.errors import ConfigError
from rsjax.models.pixel_features import Features

MEAN, STD = np.array([900.0, 2500.0, 40.0]), np.array([300.0, 700.0, 9.0])
PHYSICAL = tuple((1e-4 * s, 1e-4 * m) for m, s in zip(MEAN, STD, strict=True))


@pytest.fixture(scope="module")
def raw():
    found = np.random.default_rng(0).uniform(100, 4000, (2, 6, 9, 3))
    found[0, 0, 0, :2] = 0  # no sum to divide by
    return found


def test_mean_and_spread_of_a_square_are_those_of_the_pixels_that_are_there(raw):
    x = ((raw - MEAN) / STD).astype(np.float32)
    features = Features(radius_px=2, indices=((1, 0),), physical=PHYSICAL)
    found = np.asarray(features(x))
    index = (raw[..., 1] - raw[..., 0]) / np.maximum(raw[..., 1] + raw[..., 0], 1e-9)
    np.testing.assert_allclose(found[..., 3], index, atol=2e-6)
    own = found[..., :4].astype(np.float64)
    np.testing.assert_array_equal(found[..., :3], x)
    names = features.names(["a", "b", "c"])
    assert names[3] == "(b - a) / sum"
    assert names[7] == "mean 5x5 of (b - a) / sum"
    assert names[8] == "std 5x5 of a"
    assert found.shape[-1] == len(names) == 12
    for channel in range(4):
        for at, function in ((4, np.nanmean), (8, np.nanstd)):
            for image in range(2):
                wanted = ndimage.generic_filter(
                    own[image, ..., channel], function, size=5, mode="constant", cval=np.nan
                )
                np.testing.assert_allclose(
                    found[image, ..., at + channel], wanted, rtol=1e-6, atol=1e-5
                )


def test_an_even_square_has_no_spread_however_large_its_values():
    x = np.full((1, 5, 5, 1), 1234.567, np.float32)
    found = np.asarray(Features(radius_px=1)(x))
    np.testing.assert_array_equal(found[..., 1], x[..., 0])
    np.testing.assert_array_equal(found[..., 2], 0)


def test_an_image_is_told_by_mean_spread_and_percentiles(raw):
    x = raw.astype(np.float32)
    features = Features(per_image=True)
    found = np.asarray(features(x))
    flat = raw.reshape(2, -1, 3)
    ranked = np.percentile(flat, (10, 50, 90), axis=1)
    wanted = np.concatenate([flat.mean(axis=1), flat.std(axis=1), *ranked], axis=1)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    assert features.names(["a", "b", "c"])[6] == "percentile 10 of a"


def test_what_cannot_be_is_said():
    with pytest.raises(ConfigError, match=r"radius_px=8: must lie in \[0, 7\]"):
        Features(radius_px=8)
    with pytest.raises(ConfigError, match="without physical values"):
        Features(indices=((0, 1),))


def test_it_is_one_function_under_jit(raw):
    x = ((raw - MEAN) / STD).astype(np.float32)
    features = Features(indices=((1, 0),), physical=PHYSICAL)
    np.testing.assert_allclose(jax.jit(features)(x), features(x), atol=1e-6)
