import dataclasses
import itertools
import json

import numpy as np
import pytest
from rasterio.crs import CRS

from rsjax.datasets import blocks, leakage
from rsjax.errors import DatasetError

UTM = CRS.from_epsg(32631)


def patches(rows, cols, side=100.0, left=600_000.0, top=5_700_000.0):
    """(left, bottom, right, top) of patches side by side."""
    return np.array(
        [
            (left + c * side, top - (r + 1) * side, left + (c + 1) * side, top - r * side)
            for r in range(rows)
            for c in range(cols)
        ]
    )


def plane(boxes, crs=UTM):
    extent = (*boxes[:, :2].min(axis=0), *boxes[:, 2:].max(axis=0))
    return blocks.Plane([(crs, extent)])


def distance(a, b):
    """Between two boxes."""
    dx = max(a[0] - b[2], b[0] - a[2], 0)
    dy = max(a[1] - b[3], b[1] - a[3], 0)
    return np.hypot(dx, dy)


def test_blocks_are_those_of_the_ground():
    boxes = patches(6, 6)
    on = plane(boxes)
    found = blocks.of_patches(on, on.corners(UTM, boxes), 300.0)
    expected = [(c // 3, r // 3) for r in range(6) for c in range(6)]
    np.testing.assert_array_equal(found, expected)


def test_shares_are_met_as_well_as_blocks_allow():
    boxes = patches(40, 40)
    on = plane(boxes)
    where = blocks.of_patches(on, on.corners(UTM, boxes), 200.0)
    split = blocks.draw(where, (0.7, 0.1, 0.2), 0)
    counts = np.bincount(split, minlength=3)
    assert np.abs(counts / 1600 - (0.7, 0.1, 0.2)).max() < 0.005
    for block in np.unique(where, axis=0):
        assert len(set(split[(where == block).all(axis=1)])) == 1
    assert (blocks.draw(where, (0.7, 0.1, 0.2), 0) == split).all()
    assert (blocks.draw(where, (0.7, 0.1, 0.2), 1) != split).any()
    assert set(blocks.draw(where, (0.8, 0.0, 0.2), 0)) == {0, 2}


def test_every_split_gets_a_block_where_there_are_as_many():
    where = np.array([[0, 0], [1, 0], [2, 0]]).repeat(4, axis=0)
    for seed in range(10):
        assert set(blocks.draw(where, (0.98, 0.01, 0.01), seed)) == {0, 1, 2}
    with pytest.raises(DatasetError, match="2 blocks for 3 splits"):
        blocks.draw(where[:8], (0.7, 0.1, 0.2), 0)


@pytest.mark.parametrize("buffer_m", [0.0, 100.0, 150.0])
def test_nothing_is_nearer_than_the_buffer_and_nothing_else_is_left_out(buffer_m):
    # Patches that overlap by half, so that blocks share ground at their edges.
    boxes = np.concatenate([patches(12, 12), patches(11, 11, left=600_050.0, top=5_699_950.0)])
    on = plane(boxes)
    corners = on.corners(UTM, boxes)
    split = blocks.draw(blocks.of_patches(on, corners, 300.0), (0.6, 0.2, 0.2), 3)
    gone = blocks.near(corners, split, buffer_m)
    order = {2: (), 1: (2,), 0: (1, 2)}
    for i in range(len(boxes)):
        others = [j for j in range(len(boxes)) if split[j] in order[split[i]] and not gone[j]]
        overlap = any(
            (np.minimum(boxes[i][2:], boxes[j][2:]) - np.maximum(boxes[i][:2], boxes[j][:2])).min()
            > 0
            for j in others
        )
        nearest = min((distance(boxes[i], boxes[j]) for j in others), default=np.inf)
        assert gone[i] == (overlap or nearest < buffer_m)
    kept = np.flatnonzero(~gone)
    names = [("train", "validation", "test")[split[i]] for i in kept]
    told = leakage.report(corners[kept], [str(i) for i in kept], names, {"a": 3, "b": 0})
    assert told["overlaps"] == 0
    assert told["dropped"] == {"a": 3}
    assert told["patches"] == {n: names.count(n) for n in ("train", "validation", "test")}
    for pair, metres in told["nearest_m"].items():
        one, other = pair.split("-")
        expected = min(
            distance(boxes[kept[i]], boxes[kept[j]])
            for i in range(len(kept))
            for j in range(len(kept))
            if (names[i], names[j]) == (one, other)
        )
        assert metres == pytest.approx(expected, abs=0.02)
        assert metres >= buffer_m - 0.02
    assert json.loads(json.dumps(told)) == told
    assert any("no overlap" in line for line in leakage.lines(told))


def test_shared_ground_is_refused_and_names_a_pair():
    boxes = np.array([[0, 0, 100, 100], [100, 0, 200, 100], [199, 50, 299, 150.0]]) + 600_000
    corners = plane(boxes).corners(UTM, boxes)
    names = ["train", "train", "test"]
    with pytest.raises(DatasetError, match=r"1 pairs .*'train' and 'test'.*e\.g\. b and c"):
        leakage.report(corners, ["a", "b", "c"], names, {})
    told = leakage.report(corners[:2], ["a", "b"], ["train", "test"], {})  # touching is not
    assert told["nearest_m"] == {"train-test": 0.0}


def test_degrees_and_feet_are_measured_in_metres():
    # One hundredth of a degree at 60 degrees north: 1,113 m along the meridian, 557 m across.
    boxes = np.array([[10.0, 60.0, 10.01, 60.01], [10.02, 60.0, 10.03, 60.01]])
    corners = plane(boxes, CRS.from_epsg(4326)).corners(CRS.from_epsg(4326), boxes)
    told = leakage.report(corners, ["a", "b"], ["train", "test"], {})
    assert told["nearest_m"]["train-test"] == pytest.approx(557, rel=0.01)
    feet = CRS.from_epsg(2264)  # North Carolina, US survey feet
    boxes = np.array([[2e6, 7e5, 2e6 + 100, 7e5 + 100], [2e6 + 200, 7e5, 2e6 + 300, 7e5 + 100]])
    corners = plane(boxes, feet).corners(feet, boxes)
    told = leakage.report(corners, ["a", "b"], ["train", "test"], {})
    assert told["nearest_m"]["train-test"] == pytest.approx(30.48, abs=0.01)


def test_scenes_of_two_zones_share_one_plane():
    """The same ground seen in two zones of UTM overlaps; its distances are those of the ground."""
    other = CRS.from_epsg(32632)
    from rasterio.warp import transform

    # On the zones' common edge, at 6 degrees east.
    x, y = transform(CRS.from_epsg(4326), UTM, [6.0], [50.0])
    u, v = transform(CRS.from_epsg(4326), other, [6.0], [50.0])
    a = np.array([[x[0], y[0], x[0] + 1000, y[0] + 1000]])
    b = np.array([[u[0], v[0], u[0] + 1000, v[0] + 1000]])
    on = blocks.Plane([(UTM, tuple(a[0])), (other, tuple(b[0]))])
    corners = np.concatenate([on.corners(UTM, a), on.corners(other, b)])
    with pytest.raises(DatasetError, match="share ground"):
        leakage.report(corners, ["a", "b"], ["train", "test"], {})
    far = b + np.array([5000, 0, 5000, 0])
    corners = np.concatenate([on.corners(UTM, a), on.corners(other, far)])
    told = leakage.report(corners, ["a", "b"], ["train", "test"], {})
    assert 3900 < told["nearest_m"]["train-test"] < 4100


def test_own_scenes_by_scene_and_by_polygons(downloads, tmp_path):
    import shutil

    from rsjax.datasets import scene_list
    from rsjax.datasets.own_scenes import OwnScenes

    root = shutil.copytree(downloads("scenes", 9), tmp_path / "copy")
    where = root / "scenes.json"
    given = scene_list.read(where.read_bytes(), "x")
    scenes = tuple(
        dataclasses.replace(s, split=name)
        for s, name in zip(given.scenes, ("train", "test"), strict=True)
    )
    by_scene = dataclasses.replace(
        given, scenes=scenes, split=scene_list.Split("scene", buffer_m=500.0)
    )
    scene_list.write(by_scene, where)
    dataset = OwnScenes(root)
    assert list(dataset.info.splits) == ["train", "test"]
    assert all(key.startswith("west@") for key in dataset.keys("train"))
    assert len(dataset.keys("train")) == 5
    assert dataset.report()["nearest_m"] == {"train-test": 1280.0}  # the gap between the scenes
    scene_list.write(
        dataclasses.replace(by_scene, split=scene_list.Split("scene", buffer_m=1281.0)), where
    )
    dropped = OwnScenes(root).report()["dropped"]
    # In the west: 5 of 6 places. The upper row's last is 1,280 m from the east.
    assert dropped == {
        "more of the image missing than max_nodata": 1,
        "train, nearer to another split than buffer_m": 1,
    }

    # Polygons in degrees: the middles of the first column train, all others of the west test.
    first = OwnScenes(root).read("west@0_0")["transform"]
    from rasterio.warp import transform

    def ring(left, right):
        top, bottom = first[5] + 50, first[5] - 5000
        x, y = transform(UTM, CRS.from_epsg(4326), [left, right, right, left, left],
                         [top, top, bottom, bottom, top])  # fmt: skip
        return [list(point) for point in zip(x, y, strict=True)]

    west = first[2]
    features = [
        {"type": "Feature", "properties": {"split": name},
         "geometry": {"type": "Polygon", "coordinates": [ring(west + a, west + b)]}}
        for name, a, b in (("train", 0, 400), ("test", 700, 2000))
    ]  # fmt: skip
    (root / "split.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": features})
    )
    rule = scene_list.Split("vector", vector="split.geojson")
    scene_list.write(dataclasses.replace(given, split=rule), where)
    dataset = OwnScenes(root)
    assert dataset.keys("train") == ["west@0_0", "west@64_0"]
    assert set(dataset.keys("test")) == {"west@0_64", "west@0_128", "west@64_64"}
    assert dataset.report()["dropped"]["in no polygon of the split's vector file"] == 4
    for change, message in (
        ({"split": "val"}, "val in field 'split', expected train, validation, test"),
        ({"other": "test"}, "no field 'split', expected one of other"),
    ):
        features[0]["properties"] = features[1]["properties"] = change
        (root / "split.geojson").write_text(
            json.dumps({"type": "FeatureCollection", "features": features})
        )
        with pytest.raises(DatasetError, match=message):
            OwnScenes(root).keys("test")


def test_splits_by_place_hold_for_overlapping_dates(tmp_path):
    """Two dates of one place: every patch has its twin in its own split."""
    boxes = patches(8, 8)
    twice = np.concatenate([boxes, boxes])
    on = plane(boxes)
    corners = on.corners(UTM, twice)
    split = blocks.draw(blocks.of_patches(on, corners, 200.0), (0.5, 0.25, 0.25), 0)
    np.testing.assert_array_equal(split[:64], split[64:])
    assert not blocks.near(corners, split, 0.0).any()
    assert all(itertools.starmap(np.equal, zip(split[:64], split[64:], strict=True)))
