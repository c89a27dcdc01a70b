"""The majority filter against a loop, and by blocks against the whole."""

import numpy as np
import pytest
from scipy import ndimage

from rsjax.errors import ConfigError
from rsjax.mapping.majority import by_blocks, majority


def slow(classes, side):
    """By scipy, which hands over each window; 255 is nothing, inside and beyond the edge."""

    def mode(values):
        own = int(values[len(values) // 2])
        if own == 255:
            return 255
        counts = np.bincount(values[values != 255].astype(int), minlength=5)
        return own if counts[own] == counts.max() else counts.argmax()

    return ndimage.generic_filter(classes, mode, side, mode="constant", cval=255)


@pytest.mark.parametrize("side", [3, 5])
def test_the_filter_is_that_of_a_loop_over_windows(side):
    rng = np.random.default_rng(side)
    for shape in ((17, 23), (1, 9), (2, 2)):
        classes = rng.integers(0, 5, shape).astype(np.uint8)
        classes[rng.random(shape) < 0.2] = 255
        found = majority(classes, side)
        np.testing.assert_array_equal(found, slow(classes, side))
        assert found.dtype == np.uint8
        for rows in (1, 4, 100):
            target = np.empty_like(classes)
            by_blocks(classes, target, side, rows)
            np.testing.assert_array_equal(target, found)


def test_equal_counts_keep_the_own_class_else_the_lowest():
    kept = np.array([[3, 3, 3, 0, 0, 0]], np.uint8).repeat(2, 0)
    np.testing.assert_array_equal(majority(kept, 3), kept)
    lowest = np.array([[4, 4, 0], [0, 3, 4], [0, 255, 0]], np.uint8)
    lowest[2, 2] = 4
    assert majority(lowest, 3)[1, 1] == 4
    lowest[0, 1] = 255
    assert majority(lowest, 3)[1, 1] == 0  # three of 0, three of 4
    assert majority(lowest, 3)[2, 1] == 255


def test_pixels_of_kept_classes_stay_and_others_may_join_them():
    classes = np.random.default_rng(9).integers(0, 5, (15, 12)).astype(np.uint8)
    free = majority(classes, 3)
    expected = np.where(np.isin(classes, (1, 4)), classes, free)
    target = np.empty_like(classes)
    by_blocks(classes, target, 3, 4, keep=(1, 4))
    np.testing.assert_array_equal(target, expected)
    assert (free != expected).any()
    assert ((target == 1) & (classes != 1)).any()


@pytest.mark.parametrize("side", [2, 1, -3])
def test_a_window_without_a_middle_is_refused(side):
    with pytest.raises(ConfigError, match=f"majority={side}, expected the side of a window"):
        majority(np.zeros((3, 3), np.uint8), side)
