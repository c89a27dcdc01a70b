import dataclasses
import json
import math
import pickle

import numpy as np
import pyogrio
import pytest
import rasterio
import rasterio.warp
import shapely
from rasterio.windows import Window

from rsjax import landcover
from rsjax.datasets import scene_list, scene_plan
from rsjax.datasets.info import DatasetInfo
from rsjax.datasets.own_scenes import OwnScenes
from rsjax.datasets.scene_list import BandFile, Grid, Labels, Scene, SceneList, Split
from rsjax.errors import DatasetError, NomenclatureError, SensorError
from rsjax.input import build, notes
from rsjax.input.source import ShardSource

COUNT = 9
UTM = "EPSG:32631"
CLASSES = """# title: Three
# source: made up
code,name,colour,parent,ignore
1,water,#0000ff,,
2,forest,#00ff00,,
3,town,#ff0000,,
0,unknown,,,yes
"""
BLOCKS = Split(block_patches=1, shares=(0.5, 0.25, 0.25))


def tif(path, array, left=600_000.0, top=5_700_000.0, gsd=10.0, crs=UTM, nodata=None, **more):
    """Writes a GeoTIFF of (height, width) or (bands, height, width)."""
    planes = array if array.ndim == 3 else array[None]
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", count=len(planes), height=planes.shape[1],
        width=planes.shape[2], dtype=planes.dtype, crs=crs, nodata=nodata,
        transform=rasterio.Affine(gsd, 0, left, 0, -gsd, top), **more,
    ) as raster:  # fmt: skip
        raster.write(planes)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.fixture
def small(tmp_path, rng):
    """`small(**changes)`: a list of one scene of 8x8 patches of 8 px, and its folder."""
    image = rng.integers(1, 9000, (2, 64, 64)).astype(np.uint16)
    labels = rng.integers(1, 4, (64, 64)).astype(np.uint8)
    tif(tmp_path / "a.tif", image)
    tif(tmp_path / "labels.tif", labels)
    (tmp_path / "classes.csv").write_text(CLASSES)

    def make(**changes):
        given = SceneList(
            sensor="sentinel2_l2a",
            unit="reflectance_1e4",
            nodata=0.0,
            scenes=(Scene("a", files=(BandFile("a.tif", ("B03", "B04")),)),),
            labels=Labels("classes.csv", raster=("labels.tif",)),
            grid=Grid(patch_px=8),
            split=BLOCKS,
        )
        given = dataclasses.replace(given, **changes)
        scene_list.write(given, tmp_path / "scenes.json")
        return OwnScenes(tmp_path)

    make.folder, make.image, make.labels = tmp_path, image, labels
    return make


def every(dataset):
    return [dataset.read(key) for split in dataset.info.splits for key in dataset.keys(split)]


def place(example):
    row, col = example["id"].rpartition("@")[2].split("_")
    return int(row), int(col)


def test_simulated_scenes_are_read_as_plain_rasterio_reads_them(downloads):
    root = downloads("scenes", COUNT)
    dataset = OwnScenes(root)
    assert dataset.simulated
    given = json.loads((root / "scenes.json").read_text())
    assert [s["id"] for s in given["scenes"]] == ["west", "east"]
    px = given["grid"]["patch_px"]
    with rasterio.open(root / "landcover.tif") as raster:
        assert raster.crs.to_epsg() == 3035
        codes, to_map, there = raster.read(1), ~raster.transform, raster.crs
    groups = {"image_10m": (("B02", "B03", "B04", "B08"), 1),
              "image_20m": (("B05", "B06", "B07", "B8A", "B11", "B12"), 2)}  # fmt: skip
    names = landcover.load("worldcover")
    seen = []
    for example in every(dataset):
        scene, (row, col) = example["scene"], place(example)
        for entry, (bands, step) in groups.items():
            for i, band in enumerate(bands):
                with rasterio.open(root / scene / f"{band}.tif") as raster:
                    window = Window(col // step, row // step, px // step, px // step)
                    plane = raster.read(1, window=window)
                    a, _, left, _, e, top = raster.transform[:6]
                    assert example["crs"] == raster.crs.to_string()
                np.testing.assert_array_equal(example[entry][..., i], plane)
                assert example[entry].dtype == np.uint16
                if step == 1:
                    corner = (a, 0, left + a * col, 0, e, top + e * row)
                    np.testing.assert_array_equal(example["transform"], corner)
        a, _, left, _, e, top = example["transform"]
        y, x = np.mgrid[:px, :px] + 0.5
        x, y = rasterio.warp.transform(UTM, there, (left + a * x).ravel(), (top + e * y).ravel())
        cols = np.floor(to_map.a * np.array(x) + to_map.c).astype(int)
        rows = np.floor(to_map.e * np.array(y) + to_map.f).astype(int)
        inside = (rows >= 0) & (cols >= 0) & (rows < codes.shape[0]) & (cols < codes.shape[1])
        rows, cols = np.where(inside, rows, 0), np.where(inside, cols, 0)
        found = np.where(inside, codes[rows, cols], 0).reshape(px, px)
        expected = np.full((px, px), 255)
        for index, code in enumerate(names.codes):
            expected[found == code] = index
        np.testing.assert_array_equal(example["mask"], expected)
        seen.append(example["id"])
    assert len(seen) == len(set(seen)) == COUNT
    first = dataset.read("west@0_0")
    assert (first["date"], first["block"]) == ("2020-06-01", "0_0")
    assert dataset.read("east@0_64")["block"] == "6_0"  # 3 patches, 1,280 m, one patch


def test_card(downloads):
    info = OwnScenes(downloads("scenes", COUNT)).info
    fine, coarse = info.images.values()
    assert (fine.height, fine.gsd_m, coarse.height, coarse.gsd_m) == (64, 10.0, 32, 20.0)
    assert fine.unit == coarse.unit == "reflectance_1e4"
    assert fine.nodata == coarse.nodata == 0.0
    assert info.mask == (64, 64)
    assert info.mask_nomenclature == info.nomenclature == "worldcover"
    assert info.rgb == ("image_10m", ("B04", "B03", "B02"))
    assert info.georeferenced
    assert DatasetInfo.from_json(json.loads(json.dumps(info.to_json()))) == info


def test_shards_hold_what_the_dataset_reads_and_tell_the_leakage(small, tmp_path_factory):
    out = tmp_path_factory.mktemp("shards")
    dataset = small()
    made = build.build("scenes", small.folder, out, workers=1)
    assert {s: e["records"] for s, e in made.splits.items()} == {
        s: len(dataset.keys(s)) for s in ("train", "validation", "test")
    }
    source = ShardSource(made.root, "test")
    block = source.read(np.arange(len(source)))
    for i, key in enumerate(dataset.keys("test")):
        np.testing.assert_array_equal(block["image"][i], dataset.read(key)["image"])
        np.testing.assert_array_equal(block["mask"][i], dataset.read(key)["mask"])
    assert notes.read(str(made.root), "leakage.json") == dataset.report()
    assert made.nomenclature.names == ("water", "forest", "town")


def test_every_pixel_once_without_overlap_and_again_with_it(small):
    found = np.zeros((64, 64, 2), np.uint16)
    for example in every(small()):
        row, col = place(example)
        assert not found[row : row + 8, col : col + 8].any()
        found[row : row + 8, col : col + 8] = example["image"]
        np.testing.assert_array_equal(
            example["mask"], small.labels[row : row + 8, col : col + 8] - 1
        )
    np.testing.assert_array_equal(found, np.moveaxis(small.image, 0, -1))
    dataset = small(grid=Grid(patch_px=8, overlap_px=4), split=Split(block_patches=4))
    kept = {s: [place({"id": k}) for k in dataset.keys(s)] for s in dataset.info.splits}
    total = sum(len(p) for p in kept.values())
    assert total + sum(dataset.report()["dropped"].values()) == 15 * 15
    for one in kept:
        for other in kept:
            for a in kept[one]:
                near = [b for b in kept[other] if max(abs(a[0] - b[0]), abs(a[1] - b[1])) < 8]
                assert one == other or not near


def test_missing_pixels_are_kept_and_their_labels_are_not(small):
    image = small.image.copy()
    image[:, :4, :8] = 0  # half of the first patch, and one band of one pixel elsewhere
    image[0, 9, 9] = 0
    image[:, 0:5, 8:16] = 0  # five eighths
    tif(small.folder / "a.tif", image)
    dataset = small()
    first = dataset.read("a@0_0")
    assert (first["image"][:4] == 0).all()
    assert (first["mask"][:4] == 255).all()
    np.testing.assert_array_equal(first["mask"][4:], small.labels[4:8, :8] - 1)
    np.testing.assert_array_equal(dataset.read("a@8_8")["mask"], small.labels[8:16, 8:16] - 1)
    assert dataset.report()["dropped"] == {"more of the image missing than max_nodata": 1}
    assert "a@0_8" not in {example["id"] for example in every(dataset)}
    assert "a@0_8" in {example["id"] for example in every(small(max_nodata=0.7))}


def test_patches_without_labels_are_left_out_and_counted(small):
    labels = small.labels.copy()
    labels[:16, :] = 0
    labels[0, 0] = 1
    tif(small.folder / "labels.tif", labels)
    ids = {example["id"] for example in every(small())}
    assert len(ids) == 49
    assert "a@0_0" in ids
    dataset = small(min_labelled=0.1)
    assert len(every(dataset)) == 48
    assert dataset.report()["dropped"] == {"fewer labelled pixels than min_labelled, or none": 16}


def test_floats_have_nan_where_any_file_has_its_own_nodata(small):
    a = small.image[0].astype(np.float32)
    b = small.image[1].astype(np.int16)
    a[3, 3], b[5, 5] = -99999, -32768
    tif(small.folder / "a1.tif", a, nodata=-99999)
    tif(small.folder / "a2.tif", b, nodata=-32768)
    files = (BandFile("a1.tif", ("B03",)), BandFile("a2.tif", ("B04",)))
    dataset = small(scenes=(Scene("a", files=files),), nodata=None)
    spec = dataset.info.images["image"]
    assert spec.dtype == "float32"
    assert spec.nodata is math.nan
    image = dataset.read("a@0_0")["image"]
    expected = np.stack([a, b], axis=-1)[:8, :8].astype(np.float32)
    expected[3, 3, 0] = expected[5, 5, 1] = np.nan
    np.testing.assert_array_equal(image, expected)
    mask = dataset.read("a@0_0")["mask"]
    assert (mask[3, 3], mask[5, 5], (mask == 255).sum()) == (255, 255, 2)


def test_coarse_files_that_do_not_divide_a_patch_are_resampled(small, rng):
    fine = small.image[0]
    coarse = rng.integers(1, 9000, (22, 22)).astype(np.uint16)  # 30 m: 3 does not divide 8
    tif(small.folder / "f.tif", fine)
    tif(small.folder / "c.tif", coarse, gsd=30.0)
    files = (BandFile("f.tif", ("B03",)), BandFile("c.tif", ("B05",)))
    dataset = small(scenes=(Scene("a", files=files),))
    assert list(dataset.info.images) == ["image"]
    assert dataset.info.images["image"].bands == ("B03", "B05")
    whole = np.zeros((64, 64), np.uint16)
    rasterio.warp.reproject(
        coarse, whole, src_transform=rasterio.Affine(30, 0, 6e5, 0, -30, 5.7e6), src_crs=UTM,
        dst_transform=rasterio.Affine(10, 0, 6e5, 0, -10, 5.7e6), dst_crs=UTM,
        resampling=rasterio.warp.Resampling.bilinear, src_nodata=0, dst_nodata=0,
    )  # fmt: skip
    for example in every(dataset):
        row, col = place(example)
        np.testing.assert_array_equal(example["image"][..., 0], fine[row : row + 8, col : col + 8])
        np.testing.assert_array_equal(example["image"][..., 1], whole[row : row + 8, col : col + 8])


def test_a_stated_grid_is_that_of_the_patches(small):
    dataset = small(grid=Grid(crs="EPSG:32632", gsd_m=20.0, patch_px=4), max_nodata=0.9)
    example = next(e for e in every(dataset) if (e["mask"] != 255).all())
    a, _, left, _, e, top = example["transform"]
    assert (example["crs"], a, e) == ("EPSG:32632", 20.0, -20.0)
    assert (left % 20, top % 20) == (0, 0)
    # Labels: the pixel of the map under each centre. Images: between those of the neighbours.
    for row in range(4):
        for col in range(4):
            x, y = rasterio.warp.transform(
                "EPSG:32632", UTM, [left + a * (col + 0.5)], [top + e * (row + 0.5)]
            )
            r, c = int((5.7e6 - y[0]) // 10), int((x[0] - 6e5) // 10)
            assert example["mask"][row, col] == small.labels[r, c] - 1
            around = small.image[:, max(r - 3, 0) : r + 4, max(c - 3, 0) : c + 4]
            assert (example["image"][row, col] >= around.min(axis=(1, 2))).all()
            assert (example["image"][row, col] <= around.max(axis=(1, 2))).all()


def test_chosen_bands_in_the_stated_order(small):
    dataset = small(bands=("B04",))
    assert dataset.info.images["image"].bands == ("B04",)
    np.testing.assert_array_equal(
        dataset.read("a@8_16")["image"][..., 0], small.image[1, 8:16, 16:24]
    )
    np.testing.assert_array_equal(
        small(bands=("B04", "B03")).read("a@0_0")["image"],
        np.moveaxis(small.image[::-1, :8, :8], 0, -1),
    )


def test_scenes_of_two_units_are_brought_to_the_stated_one(small):
    tif(small.folder / "b.tif", small.image, left=700_000.0)
    tif(small.folder / "labels_b.tif", small.labels, left=700_000.0)
    bands = ("B03", "B04")
    scenes = (
        Scene("a", files=(BandFile("a.tif", bands),)),
        Scene(
            "b",
            files=(BandFile("b.tif", bands),),
            unit="reflectance_1e4_offset1000",
            labels=Labels("classes.csv", raster=("labels_b.tif",)),
        ),
    )
    dataset = small(scenes=scenes)
    before, after = dataset.read("a@0_0")["image"], dataset.read("b@0_0")["image"]
    np.testing.assert_array_equal(after, np.maximum(before.astype(int) - 1000, 1))
    assert after.dtype == np.uint16


def test_nearest_of_several_label_files_and_their_nodata(small):
    west, east = small.labels.copy()[:, :32], small.labels.copy()[:, 24:]
    west[0, 30] = 9  # nodata of the first: the second fills it
    tif(small.folder / "west.tif", west, nodata=9)
    tif(small.folder / "east.tif", east + 0, left=600_240.0, nodata=9)
    dataset = small(labels=Labels("classes.csv", raster=("west.tif", "east.tif")))
    for example in every(dataset):
        row, col = place(example)
        np.testing.assert_array_equal(
            example["mask"], small.labels[row : row + 8, col : col + 8] - 1
        )


def test_labels_of_one_transform_and_two_names_need_a_word(small):
    tif(small.folder / "labels.tif", small.labels, crs="EPSG:32632")
    with pytest.raises(DatasetError, match=r"EPSG:32632.*EPSG:32631.*trust_transform: true"):
        small().keys("train")
    labels = Labels("classes.csv", raster=("labels.tif",), trust_transform=True)
    np.testing.assert_array_equal(
        small(labels=labels).read("a@8_8")["mask"], small.labels[8:16, 8:16] - 1
    )
    apart = dataclasses.replace(labels, trust_transform=False)
    with pytest.raises(DatasetError, match=r"labels\.tif: lies at .*expected labels where"):
        small(labels=apart).keys("train")


def test_what_was_found_is_found_anew_when_a_file_changes(small, monkeypatch):
    before = [e["id"] for e in every(small())]

    def never(*_):
        raise AssertionError("looked again")

    with monkeypatch.context() as patched:
        patched.setattr(scene_plan, "find", never)
        assert [e["id"] for e in every(small())] == before
        labels = small.labels.copy()
        labels[:8] = 0
        tif(small.folder / "labels.tif", labels)
        with pytest.raises(AssertionError, match="looked again"):
            every(small())
    assert len(every(small())) == len(before) - 8


def test_tiles_that_were_never_written_are_refused_or_missing(small):
    profile = {"tiled": True, "blockxsize": 16, "blockysize": 16, "sparse_ok": True}
    image = np.zeros_like(small.image)
    image[:, :32] = small.image[:, :32]  # as a writer that was killed halfway
    tif(small.folder / "a.tif", image, **profile)
    report = small().report()
    assert report["dropped"] == {"more of the image missing than max_nodata": 32}
    with pytest.raises(DatasetError, match=r"a\.tif: rows 32 to 48, columns 0 to 16 were never"):
        small(nodata=None).keys("train")
    tif(small.folder / "a.tif", small.image, **profile)
    assert len(every(small(nodata=None))) == 64
    labels = np.where(image[0] > 0, small.labels, 0).astype(np.uint8)
    tif(small.folder / "labels.tif", labels, **profile)
    with pytest.raises(DatasetError, match=r"labels\.tif: rows 32 to 48.*were never written"):
        small().keys("train")


def test_fingerprint_and_pickle(small):
    dataset = small()
    first = dataset.fingerprint()
    again = pickle.loads(pickle.dumps(dataset))  # as a worker gets it
    assert again.fingerprint() == first
    np.testing.assert_array_equal(again.read("a@0_0")["mask"], dataset.read("a@0_0")["mask"])
    assert small(split=dataclasses.replace(BLOCKS, seed=1)).fingerprint() != first
    assert small(title="other").fingerprint() != first


def cut(path, share=0.6):
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])


def rewrite(path, **changes):
    data = json.loads(path.read_text())
    path.write_text(json.dumps(data | changes))


def vrt(small):
    (small.folder / "a.tif").write_text(
        '<VRTDataset rasterXSize="64" rasterYSize="64"><VRTRasterBand dataType="UInt16" band="1">'
        "</VRTRasterBand></VRTDataset>"
    )


def text(small):
    (small.folder / "a.tif").write_text("<html>404</html>")


FAULTS = {
    "truncated image": (lambda s: cut(s.folder / "a.tif"), r"a\.tif: .*(truncated|whole file)"),
    "truncated labels": (lambda s: cut(s.folder / "labels.tif"), r"labels\.tif: .*whole file"),
    "no image": (lambda s: (s.folder / "a.tif").unlink(), r"a\.tif: no such file"),
    "no labels": (lambda s: (s.folder / "labels.tif").unlink(), r"labels\.tif: no such file"),
    "a page": (text, r"a\.tif: does not open as GTiff"),
    "a VRT": (vrt, r"a\.tif: does not open as GTiff"),
    "one band": (lambda s: tif(s.folder / "a.tif", s.image[0]), r"a\.tif: 1 bands, expected 2"),
    "no place": (
        lambda s: tif(s.folder / "a.tif", s.image, crs=None),
        r"a\.tif: no coordinate system",
    ),
    "complex": (
        lambda s: tif(s.folder / "a.tif", s.image.astype(np.complex64)),
        r"a\.tif: pixels of .*complex64",
    ),
    "labels of two bands": (
        lambda s: tif(s.folder / "labels.tif", np.stack([s.labels] * 2)),
        r"labels\.tif: 2 bands, expected one",
    ),
    "labels elsewhere": (
        lambda s: tif(s.folder / "labels.tif", s.labels, left=900_000.0),
        r"labels\.tif: lies at .*\(900000, .*expected labels where .*\(600000, ",
    ),
    "labels that are no classes": (
        lambda s: tif(s.folder / "labels.tif", s.labels + np.float32(0.5)),
        r"labels\.tif, from 0, 0 .*: code .*\.5, expected whole numbers",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_named(small, fault):
    spoil, message = FAULTS[fault]
    dataset = small()
    spoil(small)
    with pytest.raises(DatasetError, match=message):
        every(dataset)


def test_an_unknown_code_names_file_and_code(small):
    labels = small.labels.copy()
    labels[40, 40] = 77
    tif(small.folder / "labels.tif", labels)
    with pytest.raises(
        NomenclatureError, match=r"labels\.tif, from 40, 0 .*codes 77 .*1, 2, 3, 0\."
    ):
        small().keys("train")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"bands": ("B02",)}, SensorError, "band B02 is missing; there are B03, B04"),
        ({"sensor": "landsat8", "unit": "reflectance"}, SensorError,
         "'landsat8' has no band 'B03'"),
        ({"unit": "db"}, DatasetError, "unit='db', expected one of reflectance_1e4"),
        ({"nodata": -1.0}, DatasetError, r"a\.tif: nodata -1.0 cannot be stored in uint16"),
        ({"grid": Grid(patch_px=65)}, DatasetError, "64x64 pixels, expected at least one patch"),
        ({"split": Split(block_patches=8)}, DatasetError, "1 blocks for 3 splits"),
        ({"split": dataclasses.replace(BLOCKS, buffer_m=5000.0)}, DatasetError,
         "no patches in train, validation of 64"),
        ({"grid": Grid(crs="EPSG:4326", gsd_m=10.0, patch_px=8)}, DatasetError,
         "grid in EPSG:4326, expected a projected one"),
        ({"grid": Grid(crs="EPSG:32632", gsd_m=10.0, patch_px=8), "nodata": None}, DatasetError,
         "without a value for the pixels outside"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(small, changes, error, message):
    dataset = small(**changes)
    with pytest.raises(error, match=message):
        dataset.keys("train")


def test_a_wrong_checksum_is_named(small):
    files = (BandFile("a.tif", ("B03", "B04"), "0" * 64),)
    with pytest.raises(DatasetError, match=rf"a\.tif: sha256 [0-9a-f]+, expected {'0' * 64}"):
        small(scenes=(Scene("a", files=files),)).fingerprint()


def test_unsafe_paths_never_reach_gdal(small, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside") / "b.tif"
    tif(outside, small.image)
    (small.folder / "link.tif").symlink_to(outside)
    scene = Scene("a", files=(BandFile("link.tif", ("B03", "B04")),))
    with pytest.raises(DatasetError, match=r"link\.tif: a link that leads out"):
        small(scenes=(scene,)).keys("train")
    small()
    path = small.folder / "scenes.json"
    for name in ("/etc/a.tif", "../a.tif", "/vsicurl/http://x/a.tif", "http://x/a.tif"):
        scene = {"id": "a", "files": [{"path": name, "bands": ["B03", "B04"]}]}
        rewrite(path, scenes=[scene])
        with pytest.raises(DatasetError, match="expected a path inside the folder"):
            OwnScenes(small.folder).keys("train")
    (small.folder / "a.vrt").write_text("<VRTDataset/>")
    rewrite(path, scenes=[{"id": "a", "files": [{"path": "a.vrt", "bands": ["B03", "B04"]}]}])
    with pytest.raises(DatasetError, match=r"a\.vrt: expected one of \.tif, \.tiff, \.jp2"):
        OwnScenes(small.folder).keys("train")


def test_wrong_folders_and_keys(small, tmp_path, downloads):
    with pytest.raises(DatasetError, match=r"nowhere: no such local folder"):
        OwnScenes(tmp_path / "nowhere").keys("train")
    with pytest.raises(DatasetError, match=r"scenes\.json: no such file, expected one that lists"):
        OwnScenes(downloads("ucmerced", 21)).keys("train")
    dataset = small()
    for key in ("a", "b@0_0", "a@0_1", "a@64_0", "a@0_0_0", "../a@0_0"):
        with pytest.raises(DatasetError, match="has no sample"):
            dataset.read(key)


def test_two_scenes_must_be_alike(small):
    tif(small.folder / "b.tif", small.image[0], left=700_000.0)
    scenes = (
        Scene("a", files=(BandFile("a.tif", ("B03", "B04")),)),
        Scene("b", files=(BandFile("b.tif", ("B03",)),)),
    )
    with pytest.raises(DatasetError, match=r"scene 'b': image: B03 .*as the first.*B03, B04"):
        small(scenes=scenes).keys("train")


LANDSAT = "scenes/landsat7_north_carolina"
BANDS7 = {"10": "B1", "20": "B2", "30": "B3", "40": "B4", "50": "B5", "70": "B7"}
STRATA = """# title: landclass96
# source: GRASS
code,name,colour,parent,ignore
1,developed,#d7191c,,
2,agriculture,#fdae61,,
3,herbaceous,#ffffbf,,
4,shrubland,#a6d96a,,
5,forest,#1a9641,,
6,water,#2c7bb6,,
7,sediment,#a6611a,,
"""


def linked(source, folder, names):
    """The real files, inside a folder; links out of it are refused, so hard copies."""
    for name in names:
        (folder / name).write_bytes((source / name).read_bytes())


def north_carolina(samples, folder, labels, grid, names=()):
    root = samples / LANDSAT
    files = {f"lsat7_2000_{number}.tif": band for number, band in BANDS7.items()}
    linked(root, folder, [*files, *names])
    (folder / "strata.csv").write_text(STRATA)
    given = SceneList(
        sensor="landsat7", unit="dn8", grid=grid, labels=labels, split=BLOCKS, max_nodata=0.4,
        scenes=(Scene("nc", files=tuple(BandFile(n, (b,)) for n, b in files.items())),),
    )  # fmt: skip
    scene_list.write(given, folder / "scenes.json")
    return OwnScenes(folder)


def test_real_landsat_with_labels_of_another_name_for_the_same_grid(samples, tmp_path):
    grid = Grid(patch_px=96)
    labels = Labels("strata.csv", raster=("strata.tif",))
    dataset = north_carolina(samples, tmp_path, labels, grid, ["strata.tif"])
    with pytest.raises(DatasetError, match=r"strata\.tif: in EPSG:3358, and the images EPSG:32119"):
        dataset.keys("train")
    labels = dataclasses.replace(labels, trust_transform=True)
    dataset = north_carolina(samples, tmp_path, labels, grid)
    assert dataset.info.images["image"].gsd_m == 28.5
    planes = []
    for number in BANDS7:
        with rasterio.open(tmp_path / f"lsat7_2000_{number}.tif") as raster:
            plane = raster.read(1).astype(np.float32)
            planes.append(np.where(plane == raster.nodata, np.nan, plane))
    image = np.stack(planes, axis=-1)
    with rasterio.open(tmp_path / "strata.tif") as raster:
        strata = raster.read(1)
    examples = every(dataset)
    for example in examples:
        row, col = place(example)
        window = (slice(row, row + 96), slice(col, col + 96))
        np.testing.assert_array_equal(example["image"], image[window])
        expected = np.where(strata[window] > 0, strata[window] - 1, 255)
        expected[np.isnan(image[window]).any(axis=-1)] = 255
        np.testing.assert_array_equal(example["mask"], expected)
    kept = len(examples)
    assert kept + sum(dataset.report()["dropped"].values()) == (443 // 96) * (489 // 96)


def test_real_points_label_the_pixels_that_they_lie_in(samples, tmp_path):
    names = [f"landsat96_points.{end}" for end in ("shp", "shx", "dbf", "prj")]
    labels = Labels("strata.csv", vector="landsat96_points.shp", field="label")
    dataset = north_carolina(samples, tmp_path, labels, Grid(patch_px=48), names)
    examples = every(dataset)
    # The table of the same points has the pixels' values: bands 1 to 5 and 7.
    meta, _, wkb, fields = pyogrio.raw.read(tmp_path / "landsat96_points.shp")
    columns = dict(zip(meta["fields"], fields, strict=True))
    points = shapely.get_coordinates(shapely.from_wkb(wkb))
    x, y = rasterio.warp.transform("EPSG:3358", "EPSG:32119", points[:, 0], points[:, 1])
    names = landcover.read_csv(tmp_path / "strata.csv").names
    checked = 0
    for example in examples:
        a, _, left, _, e, top = example["transform"]
        cols, rows = np.floor((np.array(x) - left) / a), np.floor((np.array(y) - top) / e)
        inside = (rows >= 0) & (rows < 48) & (cols >= 0) & (cols < 48)
        expected = np.full((48, 48), 255)
        for i in np.flatnonzero(inside):
            row, col = int(rows[i]), int(cols[i])
            if not np.isnan(example["image"][row, col]).any():
                expected[row, col] = names.index(columns["label"][i])
                checked += 1
        np.testing.assert_array_equal(example["mask"], expected)
    assert checked > 500
    before = dataset.fingerprint()
    table = tmp_path / "landsat96_points.dbf"
    table.write_bytes(table.read_bytes().replace(b"forest   ", b"water    ", 1))
    assert OwnScenes(tmp_path).fingerprint() != before


def amazon(samples, folder, grid, nodata=None):
    linked(samples / "scenes/amazon", folder, ["sen2.tif", "trainingPolygons_sen2.geojson"])
    (folder / "classes.csv").write_text(
        "# title: Amazon\n# source: the authors\ncode,name,colour,parent,ignore\n"
        "1,dryout,#aaaa00,,\n2,forest,#00aa00,,\n3,village,#aa0000,,\n4,water,#0000aa,,\n"
    )
    bands = (*(f"B0{i}" for i in range(1, 9)), "B8A", "B09", "B11", "B12")
    given = SceneList(
        sensor="sentinel2_l2a", unit="reflectance_1e4", grid=grid, split=BLOCKS, nodata=nodata,
        scenes=(Scene("sen2", files=(BandFile("sen2.tif", bands),)),),
        labels=Labels("classes.csv", vector="trainingPolygons_sen2.geojson", field="class"),
    )  # fmt: skip
    scene_list.write(given, folder / "scenes.json")
    return OwnScenes(folder)


def test_real_scene_in_degrees_with_polygons(samples, tmp_path):
    dataset = amazon(samples, tmp_path, Grid(patch_px=40))
    examples = every(dataset)
    assert {e["crs"] for e in examples} == {"EPSG:4326"}
    assert dataset.info.images["image"].gsd_m == 10.0
    with rasterio.open(tmp_path / "sen2.tif") as raster:
        image = raster.read()
        to_pixel = ~raster.transform
    # The polygons, drawn by hand: a pixel is in one where its centre is.
    polygons = json.loads((tmp_path / "trainingPolygons_sen2.geojson").read_text())["features"]
    order = ("dryout", "forest", "village", "water")
    expected = np.full(image.shape[1:], 255)
    y, x = np.mgrid[: image.shape[1], : image.shape[2]] + 0.5
    back = ~to_pixel
    lon, lat = back.a * x + back.c, back.e * y + back.f
    for feature in polygons:
        inside = shapely.contains_xy(shapely.geometry.shape(feature["geometry"]), lon, lat)
        expected[inside] = order.index(feature["properties"]["class"])
    with rasterio.open(samples / "scenes/amazon/trainingPolygons_sen2.tif") as raster:
        published = raster.read(1)
    assert ((expected != 255) == (published > 0)).mean() > 0.99
    for example in examples:
        row, col = place(example)
        window = (slice(row, row + 40), slice(col, col + 40))
        np.testing.assert_array_equal(example["image"], np.moveaxis(image[:, *window], 0, -1))
        np.testing.assert_array_equal(example["mask"], expected[window])
    left_out = dataset.report()["dropped"]
    assert len(examples) + sum(left_out.values()) == (237 // 40) * (247 // 40)


def test_real_scene_in_degrees_on_a_grid_of_utm(samples, tmp_path):
    dataset = amazon(samples, tmp_path, Grid("EPSG:32721", 10.0, 40), nodata=0.0)
    examples = every(dataset)
    assert examples
    with rasterio.open(tmp_path / "sen2.tif") as raster:
        image, transform, crs = raster.read(), raster.transform, raster.crs
    for example in examples[:3]:
        out = np.zeros((12, 40, 40), np.uint16)
        rasterio.warp.reproject(
            image, out, src_transform=transform, src_crs=crs, src_nodata=0, dst_nodata=0,
            dst_transform=rasterio.Affine(*example["transform"]), dst_crs="EPSG:32721",
            resampling=rasterio.warp.Resampling.bilinear, tolerance=0.001,
        )  # fmt: skip
        apart = np.abs(np.moveaxis(out, 0, -1).astype(int) - example["image"])
        assert apart.max() <= 1  # rounding


def test_real_worldcover_tile_as_labels_of_a_scene_in_utm(samples, tmp_path, rng):
    name = "ESA_WorldCover_10m_2021_v200_N00E006_Map.tif"
    linked(samples / "scenes/worldcover_N00E006", tmp_path, [name])
    # The coast of São Tomé, with an image of nothing: it is the labels that are looked at.
    x, y = rasterio.warp.transform("EPSG:4326", "EPSG:32632", [6.6625], [0.413])
    tif(
        tmp_path / "a.tif", rng.integers(1, 9000, (256, 256)).astype(np.uint16),
        left=round(x[0], -1), top=round(y[0], -1), crs="EPSG:32632",
    )  # fmt: skip
    given = SceneList(
        sensor="sentinel2_l2a", unit="reflectance_1e4", split=BLOCKS, grid=Grid(patch_px=64),
        scenes=(Scene("a", files=(BandFile("a.tif", ("B03",)),)),),
        labels=Labels("worldcover", raster=(name,)),
    )  # fmt: skip
    scene_list.write(given, tmp_path / "scenes.json")
    examples = every(OwnScenes(tmp_path))
    classes = landcover.load("worldcover")
    seen = set()
    with rasterio.open(tmp_path / name) as raster:
        for example in examples:
            a, _, left, _, e, top = example["transform"]
            row, col = np.mgrid[:64, :64] + 0.5
            lon, lat = rasterio.warp.transform(
                "EPSG:32632", "EPSG:4326", (left + a * col).ravel(), (top + e * row).ravel()
            )
            t = raster.transform
            across, down = (np.array(lon) - t.c) / t.a, (np.array(lat) - t.f) / t.e
            cols, rows = np.floor(across).astype(int), np.floor(down).astype(int)
            window = Window(cols.min(), rows.min(), np.ptp(cols) + 1, np.ptp(rows) + 1)
            codes = raster.read(1, window=window)[rows - rows.min(), cols - cols.min()]
            # On the very edge between two pixels of the map either may hold.
            edge = np.minimum(abs(across - np.rint(across)), abs(down - np.rint(down))) < 0.002
            assert edge.mean() < 0.02
            mask = example["mask"].ravel()
            np.testing.assert_array_equal(mask[~edge], classes.encode(codes)[~edge])
            seen |= set(codes.tolist())
    assert len(examples) == 16
    assert len(seen) > 1
