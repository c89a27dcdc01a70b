"""The minimum mapping unit against a loop that labels the map anew after every merge."""

import numpy as np
import pytest
import rasterio.features
from rasterio import Affine
from rasterio.crs import CRS
from scipy import ndimage

from rsjax.errors import ConfigError, SceneError
from rsjax.mapping import mapping_unit, pixel_area
from rsjax.mapping.mapping_unit import merge_small


def regions_of(classes, connectivity):
    """(first pixel in reading order, mask) of each region."""
    structure = np.ones((3, 3)) if connectivity == 8 else None
    for one in np.unique(classes[classes != 255]):
        labels, count = ndimage.label(classes == one, structure)
        for i in range(1, count + 1):
            mask = labels == i
            yield int(np.flatnonzero(mask)[0]), mask


def slow(classes, least, each, connectivity=4, keep=()):
    classes = classes.copy()
    while True:
        small = []
        for first, mask in regions_of(classes, connectivity):
            own = classes.ravel()[first]
            border = np.zeros(256, int)
            for row, col in np.argwhere(mask):
                for down, right in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                    r, c = row + down, col + right
                    if 0 <= r < mask.shape[0] and 0 <= c < mask.shape[1] and not mask[r, c]:
                        border[classes[r, c]] += 1
            border[255] = 0
            area = each[mask].sum()
            if area < least - 1e-9 and own not in keep and border.any():
                small.append((round(area, 9), first, border.argmax(), mask))
        if not small:
            return classes
        *_, kind, mask = min(small, key=lambda one: one[:2])
        classes[mask] = kind


def random(seed, shape=(10, 13)):
    rng = np.random.default_rng(seed)
    classes = rng.integers(0, 4, shape).astype(np.uint8)
    classes = ndimage.median_filter(classes, 2) if seed % 2 else classes
    classes[rng.random(shape) < 0.15] = 255
    return classes


@pytest.mark.parametrize("connectivity", [4, 8])
def test_merging_is_that_of_a_loop_over_whole_maps(connectivity, monkeypatch):
    for seed in range(4):
        classes = random(seed)
        each = np.ones(classes.shape)
        monkeypatch.setattr(mapping_unit, "PIXELS", (13, 30, 10**6)[seed % 3])
        for least, keep in ((2, ()), (6, (1,)), (40, ())):
            found = np.empty_like(classes)
            merge_small(classes, found, least, None, connectivity, keep)
            expected = slow(classes, least, each, connectivity, keep)
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(found == 255, classes == 255)
            again = np.empty_like(classes)
            assert merge_small(found, again, least, None, connectivity, keep) == 0
            np.testing.assert_array_equal(again, found)


def comb(side):
    """Stripes a pixel wide, every other of them made of single pixels of two classes."""
    classes = np.tile(np.arange(side) % 2, (side, 1)).astype(np.uint8)
    classes[::2, ::2] = 2
    return classes


def test_a_comb_is_merged_exactly():
    for classes in (comb(9), comb(8).T.copy()):
        for least in (5, 20, 1e9):
            found = np.empty_like(classes)
            merge_small(classes, found, least)
            np.testing.assert_array_equal(found, slow(classes, least, np.ones(classes.shape)))
    # With copies of the largest list, this would be the slowest test of this file by far.
    classes = comb(200)
    found = np.empty_like(classes)
    assert merge_small(classes, found, 1e9) > 19_000
    assert len(np.unique(found)) == 1


def test_hectares_are_those_on_the_ellipsoid():
    classes = random(7, (30, 9))
    transform = Affine(0.01, 0, 10, 0, -0.7, 70)  # pixels grow from north to south
    areas = pixel_area.of_grid(CRS.from_epsg(4326), transform, classes.shape)
    row, col = np.indices(classes.shape)
    each = areas.at(row.ravel(), col.ravel()).reshape(classes.shape)
    assert each[-1, 0] > 1.3 * each[0, 0]
    least = 3.5 * each[20, 0]
    found = np.empty_like(classes)
    assert merge_small(classes, found, least, areas) > 0
    np.testing.assert_array_equal(found, slow(classes, least, each))
    by_pixels = np.empty_like(classes)
    merge_small(classes, by_pixels, 3.5)
    assert (found != by_pixels).any()


def test_islands_in_one_class_go_as_gdal_sieves_them():
    rng = np.random.default_rng(5)
    classes = np.zeros((40, 60), np.uint8)
    for top in range(2, 36, 6):
        for left in range(2, 56, 6):
            rows, columns = rng.integers(1, 4, 2)
            classes[top : top + rows, left : left + columns] = rng.integers(1, 4)
    found = np.empty_like(classes)
    islands = merge_small(classes, found, 5)
    assert 0 < islands < 54
    np.testing.assert_array_equal(found, rasterio.features.sieve(classes, 5))


def test_the_longest_border_decides_and_not_the_largest_neighbour():
    classes = np.zeros((7, 9), np.uint8)
    classes[2:5, 2:5] = 1
    classes[3, 3:6] = 2  # 2 sides more to class 1 than to class 0
    classes[0, 0] = 255
    found = np.empty_like(classes)
    assert merge_small(classes, found, 4) == 1
    assert (found[3, 3:6] == 1).all()
    assert (rasterio.features.sieve(classes, 4)[3, 3:6] == 0).all()


def test_what_has_no_neighbour_stays_and_corners_count_where_they_join():
    lone = np.full((5, 5), 255, np.uint8)
    lone[1, 1], lone[2, 2], lone[4, 4] = 1, 2, 3
    found = np.empty_like(lone)
    for connectivity in (4, 8):
        assert merge_small(lone, found, 10, None, connectivity) == 0
        np.testing.assert_array_equal(found, lone)
    joined = np.zeros((6, 6), np.uint8)
    joined[[1, 2, 3], [1, 2, 3]] = 1
    found = np.empty_like(joined)
    assert merge_small(joined, found, 3, None, 8) == 0
    assert merge_small(joined, found, 3, None, 4) == 3
    assert not found.any()


@pytest.mark.parametrize("text", ["9", "0px", "-1ha", "ha", "1 km2", "nanha"])
def test_an_area_without_unit_is_refused(text):
    with pytest.raises(ConfigError, match=r"expected an area, e\.g\. 0\.5ha or 9px"):
        mapping_unit.parse(text)
    assert mapping_unit.parse("0.5ha") == (0.5, "ha")
    assert mapping_unit.parse("9px") == (9.0, "px")


def test_too_much_for_memory_is_refused(monkeypatch):
    monkeypatch.setattr(mapping_unit, "MAX_RUNS", 100)
    with pytest.raises(SceneError, match=r"more than 100 runs .*--majority=3"):
        merge_small(random(0), random(0), 3)
    with pytest.raises(ConfigError, match="connectivity=6, expected 4 or 8"):
        merge_small(random(0), random(0), 3, None, 6)
