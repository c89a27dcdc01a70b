import numpy as np
import pytest

from rsjax.errors import ConfigError
from rsjax.mapping import tiling


@pytest.mark.parametrize("step", [1, 2, 6])
def test_weights_sum_to_one_at_every_pixel_of_any_size(step):
    for size in (1, 2, 5, 11, 12, 13, 24, 25, 100):
        for window, overlap in ((12, 0), (12, 6), (24, 6), (24, 18), (24, 0)):
            axis = tiling.blended(size, window, overlap, step)
            total = np.zeros(axis.end)
            for start, weights in zip(axis.starts, axis.weights, strict=True):
                total[start : start + window] += weights
            np.testing.assert_allclose(total, 1, atol=1e-6)
            assert axis.end >= size
            assert all(start % step == 0 for start in axis.starts)
            assert (axis.weights > 0).all()
            apart = np.diff(axis.starts)
            assert (apart > 0).all()
            assert (apart <= window - overlap).all()
            # No further beyond the scene than a whole pixel of the coarsest band asks for.
            assert axis.end - max(size, window) < step


def test_weights_fall_off_as_a_hann_window():
    axis = tiling.blended(12, 8, 4)
    assert axis.starts == (0, 4)
    x = np.arange(8) + 0.5
    hann = np.sin(np.pi * x / 8) ** 2
    np.testing.assert_allclose(axis.weights[0][4:], hann[4:], rtol=1e-5)
    np.testing.assert_allclose(axis.weights[0][:4], 1)  # nobody else sees the edge
    np.testing.assert_allclose(tiling.blended(16, 8, 0).weights, 1)


def test_mirroring_is_numpys_symmetric():
    for size in (1, 2, 3, 10):
        image = np.arange(size)
        found = image[tiling.mirrored(-7, size + 9, size)]
        np.testing.assert_array_equal(found, np.pad(image, (7, 9), mode="symmetric"))


def test_widths_are_rounded_to_few():
    for step in (1, 2, 6):
        widths = np.arange(step, 12_000, step)
        found = np.array([tiling.rounded(int(width), step) for width in widths])
        assert (found >= widths).all()
        assert (found % step == 0).all()
        assert (found - widths < np.maximum(widths / 8, step)).all()
        assert len(set(found)) < 100


def test_cells_cover_the_scene_with_windows_around_them():
    axis = tiling.cells(25, 12, 4)
    assert axis.starts == (-2, 6, 14, 22)
    assert tiling.cells(25, 12, 4, step=4).starts == (0, 8, 16, 24)
    assert tiling.cells(1, 12, 0).starts == (0,)


@pytest.mark.parametrize(
    ("window", "overlap", "step", "text"),
    [
        (10, 0, 4, "window=10, expected a multiple of 4"),
        (0, 0, 1, "window=0"),
        (8, 8, 1, "overlap=8, expected 0 to below the window of 8"),
        (8, -1, 1, "overlap=-1"),
        (12, 2, 4, "overlap=2, expected .* in multiples of 4"),
    ],
)
def test_sizes_that_cannot_work_are_refused(window, overlap, step, text):
    for make in (tiling.blended, tiling.cells):
        with pytest.raises(ConfigError, match=text):
            make(100, window, overlap, step)
