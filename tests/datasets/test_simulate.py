import hashlib
import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import rasterio

from rsjax import datasets, landcover
from rsjax.datasets import simulate as simulation
from rsjax.datasets.bigearthnet import BigEarthNet
from rsjax.datasets.simulate import fields, simulate, spectra
from rsjax.datasets.simulate.plan import make_plan, pick
from rsjax.errors import ConfigError, DatasetError

pytestmark = pytest.mark.once

# The least that a layout holds: three pairs of 16 tiles, 24 cities, four cities, one a split.
LEAST = {
    **{"levir_cd": 48, "oscd": 24, "spacenet2": 4, "sen2lulc": 5},
    **{"epfl_roofs": 3, "massachusetts_buildings": 3, "inria": 2},
}


def digests(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*.*")
        if path.is_file()
    }


def all_keys(dataset):
    return [key for split in dataset.info.splits for key in dataset.keys(split)]


@pytest.mark.parametrize("name", simulation._WRITERS)
def test_same_seed_same_files(name, tmp_path):
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        simulate(name, tmp_path / folder, 12, seed=seed)
    first, same, other = (digests(tmp_path / folder) for folder in "abc")
    assert first == same
    assert first != other
    note = json.loads((tmp_path / "a" / "SIMULATED.json").read_text())
    assert (note["simulated"], note["dataset"], note["count"], note["seed"]) == (True, name, 12, 1)
    dataset = datasets.get(name)(tmp_path / "a")
    assert dataset.simulated
    assert len(all_keys(dataset)) == max(12, LEAST.get(name, 0))


@pytest.mark.parametrize("name", simulation._WRITERS)
@pytest.mark.parametrize("count", [1, 5])
def test_small_counts(name, count, tmp_path):
    if name == "scenes":
        with pytest.raises(ConfigError, match="at least 6: a block for each split"):
            simulate(name, tmp_path / "x", count)
        return
    simulate(name, tmp_path / "x", count)
    dataset = datasets.get(name)(tmp_path / "x")
    keys = all_keys(dataset)
    assert len(keys) == max(count, LEAST.get(name, 0))
    for key in keys:
        example = dataset.read(key)
        for entry, spec in dataset.info.images.items():
            assert example[entry].dtype == np.dtype(spec.dtype)
            bad = np.isinf(example[entry]) if spec.missing_is_nan else ~np.isfinite(example[entry])
            assert not bad.any()


def test_refusals(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DatasetError, match="not an empty folder"):
        simulate("eurosat", tmp_path, 3)
    with pytest.raises(DatasetError, match="not an empty folder"):
        simulate("eurosat", tmp_path / "file", 3)
    assert (tmp_path / "file").read_text() == "mine"
    with pytest.raises(ConfigError, match="no simulation of 'x'; there are bigearthnet"):
        simulate("x", tmp_path / "new", 3)
    with pytest.raises(ConfigError, match="count=0"):
        simulate("eurosat", tmp_path / "new", 0)
    with pytest.raises(ConfigError, match="at most 100 images"):
        simulate("ucmerced", tmp_path / "new", 2101)
    with pytest.raises(ConfigError, match="places for split"):
        make_plan(10**6, 0)
    assert set(simulation._WRITERS) == set(datasets.names()) - {"folder"}


def test_bigearthnet_splits_and_classes():
    plan = make_plan(315, 0)
    counts = {s: sum(p.split == s for p in plan) for s in ("train", "validation", "test")}
    assert counts == {"train": 189, "validation": 63, "test": 63}
    left = pick(plan, 15, 0)
    assert len(left) == 15
    for split in counts:
        classes = {p.wanted for p in plan if p.split == split and p.index not in left}
        assert classes == set(range(19))
    places = {(p.scene.tile, p.column, p.row) for p in plan}
    assert len(places) == 315
    rings = {p.split: set() for p in plan}
    for p in plan:
        rings[p.split].add(max(abs(p.column - 45), abs(p.row - 45)))
    assert max(rings["test"]) < min(rings["validation"])
    assert max(rings["validation"]) < min(rings["train"])
    assert max(rings["train"]) <= 45


def test_bigearthnet_files_are_as_the_official_ones(downloads, samples):
    """Same tags, strips and file sizes, byte order and parquet schema as the real files."""
    root, real = downloads("bigearthnet", 40), samples / "bigearthnet_v2"
    for ending in ("_B02.tif", "_B8A.tif", "_B01.tif", "_VV.tif", "_reference_map.tif"):
        ours, theirs = (next(folder.rglob(f"*{ending}")) for folder in (root, real))
        with rasterio.open(ours) as a, rasterio.open(theirs) as b:
            mine, wanted = dict(a.profile), dict(b.profile)
            for profile in (mine, wanted):
                profile["transform"] = profile["transform"][0], profile["transform"][4]
                profile["crs"] = profile["crs"].to_wkt()[:26]
            assert mine == wanted
            assert a.tags() == b.tags()
            assert a.tags(ns="IMAGE_STRUCTURE") == b.tags(ns="IMAGE_STRUCTURE")
        if ending.startswith("_B"):  # all three uncompressed
            assert ours.stat().st_size == theirs.stat().st_size
    for name in ("metadata", "metadata_for_patches_with_snow_cloud_or_shadow"):
        ours, theirs = (pq.ParquetFile(folder / f"{name}.parquet") for folder in (root, real))
        assert ours.schema_arrow.equals(theirs.schema_arrow)
        assert [ours.schema.column(i).path for i in range(8)] == [
            theirs.schema.column(i).path for i in range(8)
        ]
        rows = ours.read().to_pylist()
        assert [r["patch_id"] for r in rows] == sorted(r["patch_id"] for r in rows)
        for row in rows:
            assert row["labels"] == sorted(set(row["labels"]))
            assert len(row["patch_id"]) == 50
            flags = row["contains_seasonal_snow"], row["contains_cloud_or_shadow"]
            assert sum(flags) == (name != "metadata")


def test_bigearthnet_labels_follow_the_official_rule(downloads):
    dataset = BigEarthNet(downloads("bigearthnet", 40), snow_cloud=True)
    walk = landcover.load("corine_l3").crosswalk(landcover.load("bigearthnet19"))
    sizes = []
    for key in all_keys(dataset):
        example = dataset.read(key)
        classes = walk[example["mask"]]
        assert (classes == 255).mean() < 0.25
        assert set(np.unique(classes[classes != 255])) == set(np.flatnonzero(example["label"]))
        sizes.append(int(example["label"].sum()))
        assert min(example[e].min() for e in ("s2_10m", "s2_20m", "s2_60m")) > 0
    assert 1 <= min(sizes) < max(sizes) <= 6


def test_every_class_and_band_differs():
    table = np.stack([spectrum[:13] for spectrum in spectra.corine().values()])
    assert set(landcover.load("corine_l3").codes) <= set(spectra.corine())
    apart = np.abs(np.log(table[:, None] / table[None])).max(axis=-1)
    assert apart[~np.eye(len(table), dtype=bool)].min() > 0.05
    means = np.array(sorted(table.mean(axis=0)))
    assert (means[1:] / means[:-1]).min() > 1.0


def test_pixels_can_be_classified_and_a_wrong_band_order_shows(downloads):
    """Nearest class mean, learnt on the training patches, on the ten bands of 10 and 20 m."""
    dataset = BigEarthNet(downloads("bigearthnet", 120))
    walk = landcover.load("corine_l3").crosswalk(landcover.load("bigearthnet19"))

    def pixels(split):
        x, y = [], []
        for key in dataset.keys(split):
            example = dataset.read(key)
            coarse = example["s2_10m"].reshape(60, 2, 60, 2, 4).mean(axis=(1, 3))
            x.append(np.concatenate([coarse, example["s2_20m"]], axis=-1)[::3, ::3])
            y.append(walk[example["mask"]][::6, ::6])
        x, y = np.concatenate(x).reshape(-1, 10), np.concatenate(y).ravel()
        return np.log(x[y != 255]), y[y != 255]

    x, y = pixels("train")
    means = np.stack([x[y == c].mean(axis=0) for c in range(19)])
    x, y = pixels("test")

    def accuracy(order):
        return (((x[:, None, order] - means) ** 2).sum(axis=-1).argmin(axis=1) == y).mean()

    right = accuracy(list(range(10)))
    assert right > 0.55
    assert accuracy([2, 1, 0, 3, 4, 5, 6, 7, 8, 9]) < right - 0.05  # red and blue
    assert accuracy([0, 1, 2, 3, 4, 5, 6, 8, 9, 7]) < right - 0.2  # B8A sorted after B12


@pytest.mark.parametrize("kind", ["blobs", "halves", "stripes", "blocks", "discs", "line",
                                  "cross", "one"])  # fmt: skip
def test_patterns_cover_a_part(kind):
    scale = {"line": 0.2, "cross": 0.2, "one": 0.5}.get(kind, 4)
    shares = [fields.pattern(np.random.default_rng(i), kind, 64, scale).mean() for i in range(20)]
    assert 0.05 < np.mean(shares) < 0.9


def test_smooth_fields():
    field = fields.smooth(np.random.default_rng(0), 200, 60, 10.0)
    assert field.shape == (200, 60, 60)
    assert abs(field.std() - 1) < 0.1
    step = np.diff(field, axis=2).std()
    assert step < 0.2


def test_no_two_surfaces_of_the_scenes_are_alike():
    from rsjax.datasets.simulate import scenes

    for table, name in ((scenes._EUROSAT, "eurosat"), (scenes._UCMERCED, "ucmerced")):
        assert tuple(table) == landcover.load(name).names
        for ground, cover, kind, _ in table.values():
            a, b = spectra.mixture(ground), spectra.mixture(cover)
            assert np.abs(a[:13] / b[:13] - 1).max() > 0.1
            assert fields.pattern(np.random.default_rng(0), kind, 16, 0.5).shape == (16, 16)
