import hashlib
import pickle
import re
import shutil
import tarfile

import numpy as np
import pytest
import rasterio

from rsjax import landcover
from rsjax.datasets import geotiff, sen12ms_files
from rsjax.datasets.sen12ms import SEN12MS
from rsjax.errors import ConfigError, DatasetError, NomenclatureError

pytestmark = pytest.mark.once

COUNT = 16
BANDS = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A"),
    *("B09", "B10", "B11", "B12"),
)
SIMPLE = [0, 1, 1, 1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 7, 6, 8, 9, 10]  # of the contest, 0 to 17
HOLD_OUT = {
    "spring": {63, 146, 97, 124, 15, 17},
    "summer": {43, 131, 19, 104, 72, 15, 79},
    "fall": {120, 39, 144, 35, 61, 47, 30, 141},
    "winter": {64, 146, 32, 107, 135},
}


@pytest.fixture
def root(downloads):
    return downloads("sen12ms", COUNT)


@pytest.fixture
def damaged(copied):
    return copied("sen12ms", 5)


def all_keys(dataset):
    return [key for split in dataset.info.splits for key in dataset.keys(split)]


def path_of(root, key, kind):
    roi, season, _, scene, patch = key.split("_")
    name = f"{roi}_{season}_{kind}_{scene}_{patch}.tif"
    return root / f"{roi}_{season}" / f"{kind}_{scene}" / name


def by_gdal(path):
    with rasterio.open(path) as raster:
        pixels = np.moveaxis(raster.read(), 0, -1)
        return pixels, raster.crs.to_string(), tuple(raster.transform)[:6]


def lines(root, name):
    return (root / name).read_text().split()


# The card.


def test_card_is_the_official_one(tmp_path):
    info = SEN12MS(tmp_path).info
    assert info.images["s2"].bands == BANDS
    assert info.images["s1"].bands == ("VV", "VH")
    assert (info.licence, info.mask) == ("CC-BY-4.0", (256, 256))
    assert info.splits == {"train": 0, "validation": 0, "test": 18_106}
    official = SEN12MS(tmp_path, validation="none").info.splits
    assert official == {"train": 162_555, "test": 18_106}
    found = {season.split("_")[1]: set(scenes) for season, scenes in sen12ms_files.HOLD_OUT.items()}
    assert found == HOLD_OUT
    assert sum(map(len, found.values())) == 26
    sizes = {"igbp": 17, "dfc2020": 10, "lccs1": 16, "lccs2": 11, "lccs3": 10}
    for labels, size in sizes.items():
        info = SEN12MS(tmp_path, labels=labels).info
        assert len(landcover.load(info.nomenclature)) == size
        assert info.mask_nomenclature == info.nomenclature == labels


def test_simplified_classes_are_those_of_the_contest():
    igbp, simple = landcover.load("igbp"), landcover.load("dfc2020")
    table = igbp.crosswalk(simple)
    assert [simple.codes[table[igbp.codes.index(c)]] for c in range(1, 18)] == SIMPLE[1:]
    assert simple.names == (
        *("Forest", "Shrubland", "Savanna", "Grassland", "Wetlands", "Croplands"),
        *("Urban/Built-up", "Snow/Ice", "Barren", "Water"),
    )


def test_lccs_codes():
    assert landcover.load("lccs1").codes == (
        *(1, 2, 3, 11, 12, 13, 14, 15, 16, 21, 22, 31, 32, 41, 42, 43),
    )
    assert landcover.load("lccs2").codes == (1, 2, 3, 9, 10, 20, 25, 30, 35, 36, 40)
    assert landcover.load("lccs3").codes == (1, 2, 3, 10, 20, 27, 30, 40, 50, 51)
    for name in ("lccs1", "lccs2", "lccs3", "dfc2020"):
        assert landcover.load(name).ignore == (255,)


# Examples.


def test_examples_equal_rasterio(root):
    dataset = SEN12MS(root)
    igbp = landcover.load("igbp")
    for key in all_keys(dataset):
        example = dataset.read(key)
        for kind, dtype in (("s2", np.uint16), ("s1", np.float32)):
            pixels, crs, transform = by_gdal(path_of(root, key, kind))
            np.testing.assert_array_equal(example[kind], pixels)
            assert example[kind].dtype == dtype
            assert (example["crs"], tuple(example["transform"])) == (crs, transform)
        codes = by_gdal(path_of(root, key, "lc"))[0]
        expected = codes[..., 0].copy()
        expected[(codes == 0).all(axis=-1)] = 255
        np.testing.assert_array_equal(igbp.decode(example["mask"]), expected)
        values, counts = np.unique(expected[expected != 255], return_counts=True)
        assert igbp.codes[example["label"]] == values[counts.argmax()]
        roi, season, _, scene, _ = key.split("_")
        assert (example["season"], example["scene"]) == (season, f"{roi}_{season}_{scene}")
        assert example["id"] == key
        assert set(example) == {"s2", "s1", "mask", "label", "id", "season", "scene", "crs",
                                "transform"}  # fmt: skip
    assert dataset.simulated


def test_simulation_has_the_oddities(root):
    masks = [SEN12MS(root).read(key)["mask"] for key in all_keys(SEN12MS(root))]
    assert any((mask[:, -21:] == 255).all() for mask in masks)  # borders without data
    broken = sen12ms_files.DAMAGED.replace("_s2_", "_s1_")
    assert broken == "ROIs1868_summer_s1_146_p202"
    pixels = by_gdal(root / "ROIs1868_summer" / "s1_146" / f"{broken}.tif")[0]
    assert np.isnan(pixels).any()
    with pytest.raises(DatasetError, match=rf"{broken}\.tif: 2400 values that are NaN"):
        SEN12MS(root).read(sen12ms_files.DAMAGED)


def test_wavelengths_show_in_the_bands(root):
    dataset = SEN12MS(root, sensors="s2")
    pixels = np.concatenate([dataset.read(key)["s2"] for key in all_keys(dataset)])
    means = dict(zip(dataset.info.images["s2"].bands, pixels.mean(axis=(0, 1)), strict=True))
    assert means["B10"] < 100 < means["B09"] < means["B8A"]


@pytest.mark.parametrize(("labels", "band"), [("lccs1", 1), ("lccs2", 2), ("lccs3", 3)])
def test_lccs_is_its_band(root, labels, band):
    dataset = SEN12MS(root, labels=labels, sensors="s1", scene_label="none")
    for key in all_keys(dataset)[::3]:
        codes = by_gdal(path_of(root, key, "lc"))[0]
        expected = np.where((codes == 0).all(axis=-1), 255, codes[..., band])
        example = dataset.read(key)
        np.testing.assert_array_equal(landcover.load(labels).decode(example["mask"]), expected)
        assert "label" not in example
        assert "s2" not in example


@pytest.mark.parametrize("savanna", ["class", "ignore"])
def test_simplified_labels(root, savanna):
    dataset = SEN12MS(root, labels="dfc2020", savanna=savanna, scene_label="shares")
    met = set()
    for key in all_keys(dataset):
        codes = by_gdal(path_of(root, key, "lc"))[0][..., 0]
        mask = np.full(codes.shape, 255)
        for code in range(1, 18):
            if SIMPLE[code] != 3 or savanna == "class":
                mask[codes == code] = SIMPLE[code] - 1
        example = dataset.read(key)
        np.testing.assert_array_equal(example["mask"], mask)
        shares = [(mask == k).sum() / 65536 for k in range(10)]
        np.testing.assert_array_equal(example["label"], [share >= 0.1 for share in shares])
        assert example["label"].dtype == np.uint8
        met |= set(np.unique(mask).tolist())
    assert (2 in met) == (savanna == "class")


# Splits.


def test_splits_are_the_lists_less_whole_scenes(root):
    dataset = SEN12MS(root)
    train, test = lines(root, "train_list.txt"), lines(root, "test_list.txt")
    assert [f"{key}.tif" for key in dataset.keys("test")] == test
    scene = {key: re.sub("_s2|_p.*", "", key) for key in train}
    chosen = {
        key: int(hashlib.sha256(name.encode()).hexdigest(), 16) % 10 == 0
        for key, name in scene.items()
    }
    assert [f"{key}.tif" for key in dataset.keys("train")] == [k for k in train if not chosen[k]]
    assert [f"{key}.tif" for key in dataset.keys("validation")] == [k for k in train if chosen[k]]
    places = [{re.sub("_p.*", "", key) for key in dataset.keys(s)} for s in dataset.info.splits]
    assert all(places)
    assert sum(map(len, places)) == len(set.union(*places))
    assert sen12ms_files.DAMAGED not in all_keys(dataset)
    whole = SEN12MS(root, validation="none")
    assert [f"{key}.tif" for key in whole.keys("train")] == train
    assert list(whole.info.splits) == ["train", "test"]


@pytest.mark.parametrize("gone", [("train_list.txt", "test_list.txt"), ("train_list.txt",)])
def test_without_a_list_the_hold_out_scenes_decide(copied, gone):
    root = copied("sen12ms", COUNT)
    before = SEN12MS(root)
    expected = {split: set(before.keys(split)) for split in before.info.splits}
    for name in gone:
        (root / name).unlink()
    after = SEN12MS(root)
    assert {split: set(after.keys(split)) for split in after.info.splits} == expected
    order = [tuple(map(int, re.findall(r"(\d+)_p(\d+)", k)[0])) for k in after.keys("train")
             if "spring" in k]  # fmt: skip
    assert order == sorted(order)
    assert after.fingerprint() != before.fingerprint()


def test_partial_downloads(damaged):
    keys = all_keys(SEN12MS(damaged))
    path_of(damaged, keys[0], "s1").unlink()
    assert all_keys(SEN12MS(damaged)) == keys
    assert all_keys(SEN12MS(damaged, only_on_disk=True)) == keys[1:]
    assert all_keys(SEN12MS(damaged, only_on_disk=True, sensors="s2")) == keys
    for name in sen12ms_files.LISTS.values():
        (damaged / name).unlink()
    assert set(all_keys(SEN12MS(damaged, only_on_disk=True))) == set(keys[1:])
    with pytest.raises(DatasetError, match=r"s1_\d+_p\d+\.tif: no such file, but others.*only_on"):
        SEN12MS(damaged).keys("test")
    shutil.rmtree(damaged / "ROIs1158_spring")
    found = all_keys(SEN12MS(damaged, only_on_disk=True))
    assert found
    assert not any("spring" in key for key in found)


def test_missing_season_is_named_before_reading(damaged):
    shutil.rmtree(damaged / "ROIs1158_spring")
    with pytest.raises(DatasetError, match=r"neither the folder ROIs1158_spring nor .*s2\.tar"):
        SEN12MS(damaged).keys("train")


def test_tars_read_as_folders(damaged):
    folders = SEN12MS(damaged)
    keys = all_keys(folders)
    expected = [folders.read(key) for key in keys]
    for season in sen12ms_files.HOLD_OUT:
        for kind in ("s1", "s2", "lc"):
            with tarfile.open(damaged / f"{season}_{kind}.tar", "w") as archive:
                for folder in sorted((damaged / season).glob(f"{kind}_*")):
                    archive.add(folder, f"{season}/{folder.name}")
        shutil.rmtree(damaged / season)
    (damaged / "test_list.txt").unlink()
    dataset = SEN12MS(damaged)
    assert all_keys(dataset) == keys
    for example in expected:
        found = dataset.read(example["id"])
        for name in example:
            np.testing.assert_array_equal(found[name], example[name])


def test_pickle_and_fingerprint(root):
    dataset = SEN12MS(root)
    again = pickle.loads(pickle.dumps(dataset))
    assert again.fingerprint() == dataset.fingerprint()
    others = [{"sensors": "s2"}, {"labels": "dfc2020"}, {"scene_label": "shares"},
              {"validation": "none"}, {"only_on_disk": True}]  # fmt: skip
    assert len({SEN12MS(root, **o).fingerprint() for o in ({}, *others)}) == 6


# Damage. Each case: what to change in one file, what the error must say.


def rewrite(path, change=lambda a: a, shift=0.0, crs=None):
    pixels, found, t = by_gdal(path)
    transform = (t[0], 0.0, t[2] + shift, 0.0, t[4], t[5])
    geotiff.write_geotiff(path, change(pixels), crs=crs or found, transform=transform)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def code(value, band=0):
    def change(pixels):
        pixels[7, 9, band] = value
        return pixels

    return lambda path: rewrite(path, change)


DAMAGE = {
    "missing": ("s2", lambda p: p.unlink(), DatasetError, "no such file"),
    "truncated": ("s1", cut, DatasetError, "truncated"),
    "html": ("lc", lambda p: p.write_bytes(b"<html>"), DatasetError, "begins with"),
    "bands": ("s2", lambda p: rewrite(p, lambda a: a[..., :12]), DatasetError,
              "12 bands of uint16, expected 256x256 pixels, 13 bands"),
    "size": ("s1", lambda p: rewrite(p, lambda a: a[1:]), DatasetError, "255x256 pixels"),
    "dtype": ("s1", lambda p: rewrite(p, lambda a: a.astype("float64")), DatasetError,
              "2 bands of float64, expected 256x256 pixels, 2 bands of float32"),
    "cover bands": ("lc", lambda p: rewrite(p, lambda a: a[..., :1]), DatasetError, "1 band of"),
    "nan": ("s1", code(np.nan), DatasetError, "1 values that are NaN or infinite"),
    "moved": ("lc", lambda p: rewrite(p, shift=40.0), DatasetError, "lies at .*as the rest"),
    "zone": ("s1", lambda p: rewrite(p, crs="EPSG:32601"), DatasetError, "lies at .*32601"),
    "code": ("lc", code(18), NomenclatureError, r"codes 18 .*'igbp'.*\(7, 9\)"),
    "water of collection 5": ("lc", code(0), NomenclatureError, r"codes 0 .*'igbp'"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGE)
def test_damage_is_named(damaged, case):
    kind, damage, kind_of_error, message = DAMAGE[case]
    dataset = SEN12MS(damaged)
    key = dataset.keys("test")[0]
    path = path_of(damaged, key, kind)
    damage(path)
    with pytest.raises(kind_of_error, match=rf"{re.escape(str(path))}: .*{message}"):
        dataset.read(key)


def test_half_a_pixel_is_no_fault(damaged):
    key = SEN12MS(damaged).keys("test")[0]
    rewrite(path_of(damaged, key, "lc"), shift=4.0)
    assert SEN12MS(damaged).read(key)["transform"][2] == by_gdal(path_of(damaged, key, "s2"))[2][2]


def test_scene_without_a_class(damaged):
    key = SEN12MS(damaged).keys("test")[0]
    rewrite(path_of(damaged, key, "lc"), lambda a: np.full_like(a, 255))
    with pytest.raises(DatasetError, match=r"no pixel has a class of 'igbp'.*scene_label='none'"):
        SEN12MS(damaged).read(key)
    example = SEN12MS(damaged, scene_label="shares").read(key)
    assert not example["label"].any()
    assert (SEN12MS(damaged, scene_label="none").read(key)["mask"] == 255).all()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ROIs1158_spring_s2_63_p30.tif", "none of the official hold-out scenes"),
        ("ROIs1158_spring_s1_1_p30.tif", "expected names as"),
        ("ROIs1158_spring_s2_1_p30.tif", "each once"),  # already there
        ("../../etc/passwd", "expected names as"),
        ("Überfluss", "expected names as"),
    ],
)
def test_damaged_list_is_named(damaged, line, message):
    path = damaged / "train_list.txt"
    before = path.read_text()
    assert "ROIs1158_spring_s2_1_p30.tif" in before
    number = len(before.splitlines()) + 1
    path.write_text(f"{before}{line}\n")
    with pytest.raises(DatasetError, match=rf"train_list\.txt:{number}: .*{message}"):
        SEN12MS(damaged).keys("train")


def test_misnamed_image_is_refused_without_lists(damaged):
    for name in sen12ms_files.LISTS.values():
        (damaged / name).unlink()
    season = damaged / "ROIs1158_spring"
    (season / "._ROIs1158_spring_s2_1_p1.tif").touch()
    (season / "notes.txt").touch()
    SEN12MS(damaged).keys("train")
    (season / "s2_1" / "ROIs1868_summer_s2_1_p30.tif").touch()
    with pytest.raises(DatasetError, match=r"s2_1_p30\.tif: not named as officially"):
        SEN12MS(damaged).keys("train")


def test_wrong_source(root, downloads):
    for source in (root / "ROIs1158_spring", downloads("eurosat_allbands", 10)):
        with pytest.raises(DatasetError, match=r"no season, expected folders ROIs1158_spring, "):
            SEN12MS(source).keys("train")


def test_unknown_keys_and_options(root):
    for key in ("x", "ROIs1158_spring_s1_1_p30", "ROIs1158_spring_s2_1_p30.tif", "../x"):
        with pytest.raises(DatasetError, match="no sample"):
            SEN12MS(root).read(key)
    with pytest.raises(DatasetError, match=r"s2_1_p99999\.tif: no such file"):
        SEN12MS(root).read("ROIs1158_spring_s2_1_p99999")
    for options in ({"labels": "corine_l3"}, {"savanna": "drop"}, {"scene_label": "all"},
                    {"validation": "random"}, {"sensors": "s3"}):  # fmt: skip
        with pytest.raises(ConfigError, match=f"{next(iter(options))}=.*expected"):
            SEN12MS(root, **options)
    for options in ({}, {"labels": "dfc2020"}):
        with pytest.raises(ConfigError, match=r"savanna='ignore' with .*expected"):
            SEN12MS(root, savanna="ignore", **options)
