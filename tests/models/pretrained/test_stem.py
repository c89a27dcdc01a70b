import numpy as np
import pytest

from rsjax.errors import SensorError
from rsjax.models.pretrained.stem import adapt, counterpart

RGB = ("rgb/red", "rgb/green", "rgb/blue")
S2 = tuple(f"sentinel2_l2a/{b}" for b in ("B02", "B03", "B04", "B08"))
KERNEL = np.random.default_rng(0).normal(size=(3, 3, 3, 5)).astype(np.float32)


def respond(kernel, bands):
    """What the kernel makes of one window, (3, 3, bands)."""
    return np.einsum("hwcd,hwc->d", kernel, bands)


def test_the_same_bands_in_another_order_see_the_same():
    order = ("rgb/blue", "rgb/red", "rgb/green")
    found, lines = adapt(KERNEL, RGB, order, "strict")
    window = np.random.default_rng(1).normal(size=(3, 3, 3))
    np.testing.assert_allclose(
        respond(found, window[..., [2, 0, 1]]), respond(KERNEL, window), rtol=1e-5
    )
    assert lines == [f"{band}: kernel of {band}" for band in order]
    same, lines = adapt(KERNEL, RGB, RGB, "strict")
    assert same is KERNEL
    assert lines == []


def test_other_bands_are_refused_unless_a_rule_is_asked_for():
    with pytest.raises(SensorError, match=r"no kernel for band sentinel2_l2a/B02.*--stem=by_name"):
        adapt(KERNEL, RGB, S2, "strict")
    with pytest.raises(SensorError, match="fewer bands than the weights have"):
        adapt(KERNEL, RGB, RGB[:2], "strict")
    with pytest.raises(SensorError, match=r"no kernel for band sentinel2_l2a/B08.*--fill=mean"):
        adapt(KERNEL, RGB, S2, "by_name")
    with pytest.raises(SensorError, match="strict, by_name, mean, repeat"):
        adapt(KERNEL, RGB, S2, "average")
    with pytest.raises(SensorError, match="name each once"):
        adapt(KERNEL, RGB, (RGB[0], RGB[0]), "mean")
    with pytest.raises(SensorError, match="by_name takes --fill"):
        adapt(KERNEL, RGB, S2, "mean", "zero")


def test_by_name_gives_colours_their_kernels_and_fills_what_is_left():
    zero, lines = adapt(KERNEL, RGB, S2, "by_name", "zero")
    np.testing.assert_array_equal(zero[:, :, :3], KERNEL[:, :, ::-1])
    assert not zero[:, :, 3].any()
    assert lines[0] == "sentinel2_l2a/B02: kernel of rgb/blue"
    assert lines[3] == "sentinel2_l2a/B08: zeros"
    mean, _ = adapt(KERNEL, RGB, S2, "by_name", "mean")
    np.testing.assert_array_equal(mean[:, :, :3], KERNEL[:, :, ::-1])
    np.testing.assert_allclose(mean[:, :, 3], KERNEL.mean(2), rtol=1e-6)


def test_mean_and_repeat_make_of_equal_bands_what_the_given_make():
    grey = np.random.default_rng(2).normal(size=(3, 3, 1))
    wanted = respond(KERNEL, np.repeat(grey, 3, 2))
    for count in (1, 4, 10):
        bands = [f"sentinel2_l1c/B{i:02d}" for i in range(1, count + 1)]
        mean, lines = adapt(KERNEL, RGB, bands, "mean")
        np.testing.assert_allclose(respond(mean, np.repeat(grey, count, 2)), wanted, rtol=1e-4)
        assert len(lines) == count
    six = [f"sentinel2_l1c/B0{i}" for i in range(1, 7)]
    repeated, _ = adapt(KERNEL, RGB, six, "repeat")
    np.testing.assert_allclose(repeated[:, :, 4], KERNEL[:, :, 1] / 2)
    np.testing.assert_allclose(respond(repeated, np.repeat(grey, 6, 2)), wanted, rtol=1e-4)


@pytest.mark.parametrize(
    ("band", "given", "wanted"),
    [
        ("sentinel2_l2a/B05", ("sentinel2_l1c/B05",), "sentinel2_l1c/B05"),
        ("landsat9/B4", ("sentinel2_l2a/B02", "sentinel2_l2a/B04"), "sentinel2_l2a/B04"),
        ("landsat8/B4", ("landsat5/B4", "landsat5/B3"), "landsat5/B3"),  # red; B4 is infrared
        ("sentinel1/VV", RGB, None),
        ("sentinel2_l2a/B08", RGB, None),
        ("modis/B1", ("modis/B2", "rgb/red"), "rgb/red"),
    ],
)
def test_counterparts_are_of_the_same_kind(band, given, wanted):
    assert counterpart(band, given) == wanted
