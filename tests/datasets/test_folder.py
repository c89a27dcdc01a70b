import csv
import importlib.util
import io
import json
import pathlib
import re
import shutil
import zipfile

import numpy as np
import PIL.Image
import pytest
import rasterio

from rsjax import landcover, models
from rsjax.datasets import geotiff
from rsjax.datasets.folder import Folder
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import DatasetError, NomenclatureError, ShardError
from rsjax.input import build
from rsjax.input import manifest as manifests
from rsjax.input.source import ShardSource

ROOT = pathlib.Path(__file__).parents[2]
RGB = {"sensor": "rgb", "bands": ["red", "green", "blue"], "gsd_m": 10}
CLASSES = """# title: Three classes
# source: made up
code,name,colour,parent,ignore
300,water,#0000ff,,
10,forest,#00ff00,,
77,town,#ff0000,,
0,unknown,,,yes
"""
CODES = np.array([300, 10, 77, 0], np.uint16)
PLACE = (10.0, 0.0, 600_000.0, 0.0, -10.0, 5_700_000.0)


def write(root, card, rows=None, classes=CLASSES):
    """The texts of a folder."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "dataset.json").write_text(json.dumps(card))
    (root / "classes.csv").write_text(classes)
    if rows is not None:
        with (root / "samples.csv").open("w", newline="") as file:
            table = csv.DictWriter(file, list(rows[0]))
            table.writeheader()
            table.writerows(rows)
    return root


def edit(root, **changes):
    """Other fields of dataset.json; None deletes one."""
    card = json.loads((root / "dataset.json").read_text()) | changes
    kept = {k: v for k, v in card.items() if v is not None}
    (root / "dataset.json").write_text(json.dumps(kept))


def retable(root, change):
    """Another samples.csv: `change` takes and returns its lines."""
    path = root / "samples.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def place(number):
    return (10.0, 0.0, 600_000.0 + 80 * number, 0.0, -10.0, 5_700_000.0)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Folders of all kinds, not to be changed: name -> folder."""
    top = tmp_path_factory.mktemp("folders")
    rng = np.random.default_rng(0)
    splits = ["train"] * 5 + ["validation"] * 2 + ["test"] * 3

    root = top / "png"  # RGB PNG and JPEG, masks of 16 bits
    for part in ("images", "masks"):
        (root / part).mkdir(parents=True)
    rows = []
    for i, split in enumerate(splits):
        name = f"images/{i}.{'jpg' if i == 1 else 'png'}"
        PIL.Image.fromarray(rng.integers(0, 256, (6, 8, 3), np.uint8)).save(root / name)
        PIL.Image.fromarray(CODES[rng.integers(0, 4, (6, 8))]).save(root / f"masks/{i}.png")
        rows.append({"image": name, "mask": f"masks/{i}.png", "split": split,
                     "country": "Österreich" if i % 2 else "a, b"})  # fmt: skip
    write(root, {**RGB, "mask_nomenclature": "classes.csv", "citation": "me, 2026"}, rows)

    root = top / "geotiff"  # six bands, place, masks of 8 bits, several labels
    root.mkdir()
    rows = []
    for i, split in enumerate(splits):
        image = rng.integers(0, 9000, (8, 6, 6)).astype(np.uint16)
        image[0, 0] = 0
        geotiff.write_geotiff(root / f"{i}.tif", image, crs="EPSG:32631", transform=place(i),
                              nodata=0, compress="deflate" if i % 2 else None)  # fmt: skip
        geotiff.write_geotiff(root / f"{i}_mask.tif", rng.choice([10, 77, 0], (8, 6)).astype("u1"),
                              crs="EPSG:32631", transform=place(i))  # fmt: skip
        rows.append({"image": f"{i}.tif", "mask": f"{i}_mask.tif", "split": split,
                     "label": ["town; water", "forest"][i % 2], "block": f"b{i // 2}"})  # fmt: skip
    write(
        root,
        {"sensor": "landsat8", "bands": ["B2", "B3", "B4", "B5", "B6", "B7"], "gsd_m": 30,
         "unit": "landsat_c2_l2", "nodata": 0, "label": "multihot", "version": "2.1.0",
         "label_nomenclature": "classes.csv", "mask_nomenclature": "classes.csv"},
        rows,
    )  # fmt: skip

    root = top / "classes"  # class folders, sizes that vary
    for name, count in (("forest", 10), ("town", 5)):
        (root / name).mkdir(parents=True)
        for i in range(count):
            array = rng.integers(0, 256, (4 + i % 3, 5, 3), np.uint8)
            PIL.Image.fromarray(array).save(root / name / f"{name[0]}{i}.png")
    (root / "forest" / "Thumbs.db").write_text("x")
    (root / "forest" / "._f0.png").write_text("x")
    write(root, {**RGB, "label_nomenclature": "classes.csv", "split_rule": "stratified",
                 "size": "varying"})  # fmt: skip
    return {path.name: path for path in top.iterdir()}


@pytest.fixture
def copied(made, tmp_path):
    """`copied(name)`: a copy, to be damaged."""
    return lambda name: shutil.copytree(made[name], tmp_path / name)


def encoded(codes):
    """Class indices, by a slow loop."""
    classes = [300, 10, 77]
    out = [[classes.index(c) if c in classes else 255 for c in row] for row in codes.tolist()]
    return np.array(out, np.uint8)


def test_png_and_jpeg_equal_pillow(made):
    root = made["png"]
    dataset = Folder(root)
    assert dataset.info.splits == {"train": 5, "validation": 2, "test": 3}
    assert dataset.keys("train")[:2] == ["images/0.png", "images/1.jpg"]
    for split in dataset.info.splits:
        for key in dataset.keys(split):
            example = dataset.read(key)
            number = pathlib.Path(key).stem
            np.testing.assert_array_equal(example["image"], np.asarray(PIL.Image.open(root / key)))
            codes = np.asarray(PIL.Image.open(root / "masks" / f"{number}.png"))
            np.testing.assert_array_equal(example["mask"], encoded(codes))
            assert example["mask"].dtype == np.uint8
            assert example["country"] == ("Österreich" if int(number) % 2 else "a, b")
            assert set(example) == {"id", "image", "mask", "country"}
    assert not dataset.simulated


def test_geotiffs_equal_rasterio(made):
    root = made["geotiff"]
    dataset = Folder(root)
    for number, key in enumerate(dataset.keys("train")):
        example = dataset.read(key)
        with rasterio.open(root / key) as raster:
            np.testing.assert_array_equal(example["image"], np.moveaxis(raster.read(), 0, -1))
            assert example["crs"] == raster.crs.to_string()
            assert tuple(example["transform"]) == tuple(raster.transform)[:6]
        with rasterio.open(root / f"{number}_mask.tif") as raster:
            np.testing.assert_array_equal(example["mask"], encoded(raster.read(1)))
        assert example["label"].tolist() == ([0, 1, 0] if number % 2 else [1, 0, 1])
        assert example["block"] == f"b{number // 2}"


def test_card(made):
    info = Folder(made["png"]).info
    assert (info.licence, info.page, info.citation) == ("not stated", "not stated", "me, 2026")
    assert (info.rgb, info.rgb_range) == (("image", ("red", "green", "blue")), (0.0, 255.0))
    assert (info.label, info.mask, info.georeferenced) == (None, (6, 8), False)
    assert info.images["image"].unit == "dn8"  # the only one of the sensor
    info = Folder(made["geotiff"]).info
    assert info.rgb == ("image", ("B4", "B3", "B2"))
    scale, offset = 2.75e-5, -0.2
    assert np.allclose(np.array(info.rgb_range) * scale + offset, (0, 0.3))
    assert (info.images["image"].nodata, info.georeferenced, info.version) == (0, True, "2.1.0")
    assert DatasetInfo.from_json(json.loads(json.dumps(info.to_json()))) == info


def test_class_folders_are_split_by_the_stated_rule(made):
    root = made["classes"]
    dataset = Folder(root)
    assert dataset.info.splits == {"train": 11, "validation": 1, "test": 3}
    keys = [key for split in dataset.info.splits for key in dataset.keys(split)]
    assert sorted(keys) == sorted(p.relative_to(root).as_posix() for p in root.glob("*/[ft]*.png"))
    for key in keys:
        example = dataset.read(key)
        np.testing.assert_array_equal(example["image"], np.asarray(PIL.Image.open(root / key)))
        assert example["label"] == ["water", "forest", "town"].index(key.split("/")[0])
    assert len({dataset.read(key)["image"].shape for key in keys}) == 3


def test_masks_of_a_palette_or_few_bits_are_indices(copied):
    root = copied("png")
    (root / "classes.csv").write_text(CLASSES.replace("300", "1").replace("10,f", "2,f"))
    values = np.random.default_rng(1).integers(0, 3, (6, 8), np.uint8)
    palette = PIL.Image.fromarray(values)
    palette.putpalette([9, 8, 7, 200, 0, 0, 0, 200, 0])
    palette.save(root / "masks/0.png", bits=2)
    PIL.Image.fromarray(values == 1).save(root / "masks/1.png")
    dataset = Folder(root)
    expected = np.array([255, 0, 1], np.uint8)
    np.testing.assert_array_equal(dataset.read("images/0.png")["mask"], expected[values])
    np.testing.assert_array_equal(
        dataset.read("images/1.jpg")["mask"], np.where(values == 1, 0, 255)
    )
    palette.save(root / "images/0.png")
    with pytest.raises(DatasetError, match=r"images/0\.png: .*1 band of uint8, expected"):
        dataset.read("images/0.png")


@pytest.mark.parametrize("workers", [1, 2])
def test_shards_hold_what_was_read_and_own_classes(made, tmp_path, workers):
    # Two workers are other processes, which read classes.csv by its path.
    root = shutil.copytree(made["geotiff"], tmp_path / "source")
    result = build.build("folder", root, tmp_path / "data", workers=workers)
    dataset = Folder(root)
    examples = {s: [dataset.read(k) for k in dataset.keys(s)] for s in dataset.info.splits}
    shutil.rmtree(root)  # the shards and their manifest need nothing of it
    loaded = manifests.load(result.root)
    assert result.root == tmp_path / "data" / "folder" / "2.1.0"
    assert (
        loaded.mask_nomenclature.names == loaded.nomenclature.names == ("water", "forest", "town")
    )
    assert loaded.nomenclature.codes == (300, 10, 77)
    for split, expected in examples.items():
        source = ShardSource(loaded.root, split)
        batch = source.read(np.arange(len(source)))
        for name in ("image", "mask", "label"):
            np.testing.assert_array_equal(batch[name], [one[name] for one in expected])
        counts = np.bincount(np.ravel([one["mask"] for one in expected]), minlength=256)
        assert loaded.splits[split]["mask_counts"] == counts.tolist()
    pixels = np.concatenate([one["image"].reshape(-1, 6) for one in examples["train"]])
    pixels = pixels[(pixels != 0).any(axis=1)]  # nodata 0 in every band
    table = loaded.statistics["landsat8"]
    means = [table[band]["mean"] for band in dataset.info.images["image"].bands]
    np.testing.assert_allclose(means, pixels.mean(axis=0), rtol=1e-6)


def test_shards_of_masks_only_and_of_class_folders(made, tmp_path):
    build.build("folder", made["png"], tmp_path / "a", workers=1)
    source = ShardSource(tmp_path / "a/folder/1.0.0", "test")
    batch = source.read(np.arange(3))
    assert "label" not in batch
    expected = Folder(made["png"])
    for row, key in enumerate(expected.keys("test")):
        np.testing.assert_array_equal(batch["mask"][row], expected.read(key)["mask"])
    made_of_classes = build.build("folder", made["classes"], tmp_path / "b", workers=1)
    assert made_of_classes.splits["train"]["class_counts"] == [0, 7, 4]


def test_fingerprint_follows_every_text(copied, tmp_path):
    root = copied("png")
    prints = {Folder(root).fingerprint()}
    assert prints == {Folder(root).fingerprint()}
    edit(root, gsd_m=20)
    prints.add(Folder(root).fingerprint())
    retable(root, lambda lines: [*lines[:-1], lines[-1].replace("test", "train")])
    prints.add(Folder(root).fingerprint())
    build.build("folder", root, tmp_path / "data", workers=1)
    (root / "classes.csv").write_text(CLASSES.replace("town", "city"))
    prints.add(Folder(root).fingerprint())
    assert len(prints) == 4
    with pytest.raises(ShardError, match="another source"):
        build.build("folder", root, tmp_path / "data", workers=1)


def test_load_takes_a_path(tmp_path):
    path = tmp_path / "classes.csv"
    path.write_text(CLASSES)
    assert landcover.load(str(path)) == landcover.read_csv(path)
    path.write_text(CLASSES.replace("town", "city"))
    assert landcover.load(str(path)).names[2] == "city"
    with pytest.raises(NomenclatureError, match=r"nowhere\.csv: cannot be read"):
        landcover.load(str(tmp_path / "nowhere.csv"))
    with pytest.raises(NomenclatureError, match=r"or the path of a \.csv file"):
        landcover.load("corine_l9")


def test_a_cloud_optimised_geotiff_is_read(copied):
    root = copied("geotiff")
    with rasterio.open(root / "0.tif") as raster:
        profile = {**raster.profile, "driver": "COG", "compress": "deflate"}
        values = raster.read()
    for key in ("interleave", "tiled", "blockxsize", "blockysize"):
        profile.pop(key, None)
    with rasterio.open(root / "0.tif", "w", **profile) as raster:
        raster.write(values)
    np.testing.assert_array_equal(Folder(root).read("0.tif")["image"], np.moveaxis(values, 0, -1))


def test_the_example_of_the_documentation_works(tmp_path):
    text = (ROOT / "docs" / "folder.md").read_text()
    blocks = re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    card = next(content for kind, content in blocks if kind == "json")
    table = next(content for _, content in blocks if content.startswith("image,mask"))
    classes = next(content for _, content in blocks if content.startswith("# title"))
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    root = write(tmp_path, {**json.loads(card), "label_nomenclature": "classes.csv",
                            "label": "multihot"}, classes=classes)  # fmt: skip
    (root / "samples.csv").write_text(table)
    for key in ("a.tif", "b.tif"):
        image, codes = np.ones((4, 4, 4), np.uint16), np.full((4, 4), 2, np.uint8)
        geotiff.write_geotiff(root / "images" / key, image)
        geotiff.write_geotiff(root / "masks" / key, codes)
    example = Folder(root).read("images/a.tif")
    assert (example["mask"] == 1).all()
    assert (example["label"].tolist(), example["country"]) == ([1, 1, 0], "Belgium")


# Faults.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sensor": None}, r"no field sensor, expected e\.g\."),
        ({"sensor": "landsat6"}, "no sensor 'landsat6'.*did you mean"),
        ({"bands": ["red", "green", "NIR"]}, "no band 'NIR'"),
        ({"bands": ["red", "red", "blue"]}, "band red is there more than once"),
        ({"bands": "rgb"}, "bands='rgb', expected a list"),
        ({"unit": "db"}, "unit='db', expected one of dn8"),
        ({"sensor": "landsat8", "bands": ["B2"]}, "unit='', expected one of landsat_c2"),
        ({"gsd_m": 0}, "gsd_m=0, expected a number above 0"),
        ({"nodata": "none"}, "nodata='none', expected a finite number"),
        ({"licenses": "MIT"}, "unknown field 'licenses'; did you mean 'licence'"),
        ({"size": "varying"}, "size='varying' with masks"),
        ({"mask_nomenclature": None}, "neither label_nomenclature nor mask_nomenclature"),
        ({"mask_nomenclature": "../c.csv"}, r"'\.\./c\.csv', expected a file inside the folder"),
        ({"split_rule": "stratified"}, "needs one class an image"),
        ({"rgb_range": [5, 5]}, "black below white"),
        ({"rgb": ["red", "green", "B1"]}, "band B1 is missing"),
        ({"version": "1"}, r"expected major\.minor\.patch"),
        ({"label_nomenclature": "eurosat"}, r"samples\.csv: columns .*expected a column 'label'"),
    ],
)  # fmt: skip
def test_a_faulty_card_is_named(copied, changes, message):
    root = copied("png")
    edit(root, **changes)
    with pytest.raises(DatasetError, match=message) as caught:
        Folder(root).keys("train")
    assert str(root) in str(caught.value)


def test_no_folder_no_card_no_json(copied, tmp_path):
    for source in (tmp_path / "nowhere", copied("png") / "samples.csv"):
        with pytest.raises(DatasetError, match=r"no such folder, expected one with dataset\.json"):
            Folder(source).keys("train")
    root = tmp_path / "png"
    (root / "dataset.json").write_text("{")
    with pytest.raises(DatasetError, match=r"dataset\.json: no JSON .*expected e\.g\."):
        Folder(root).keys("train")
    (root / "dataset.json").unlink()
    with pytest.raises(DatasetError, match=r"dataset\.json: no such file"):
        Folder(root).keys("train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t[:1], "no samples, expected one row an image"),
        (lambda t: [], "columns none, expected a column 'image'"),
        (lambda t: [t[0].replace("image", "picture"), *t[1:]], "expected a column 'image'"),
        (lambda t: [t[0].replace("mask", "masks"), *t[1:]], "expected a column 'mask'"),
        (lambda t: [t[0].replace("split", "part"), *t[1:]], "expected a column 'split'"),
        (lambda t: [t[0].replace("country", "label"), *t[1:]],
         "a column 'label', expected a label_nomenclature"),
        (lambda t: [t[0].replace("country", "split"), *t[1:]], "column 'split' twice"),
        (lambda t: [t[0].replace("country", "crs"), *t[1:]], "column 'crs', expected letters"),
        (lambda t: [t[0].replace("country", "the land"), *t[1:]], "column 'the land', expected"),
        (lambda t: [*t, t[2]], r":12: images/1\.jpg is also in line 3, expected each image once"),
        (lambda t: [*t, t[2].replace("images/", "images/./")], r"is also in line 3"),
        (lambda t: [*t, "a.png,b.png,test"], ":12: 3 cells, expected 4"),
        (lambda t: [*t, "a.png,b.png,val,x"], ":12: split 'val', expected train, validation, test"),
        (lambda t: [*t, "../a.png,b.png,test,x"], r":12: image '\.\./a\.png', expected a path rel"),
        (lambda t: [*t, "/a.png,b.png,test,x"], ":12: image '/a.png', expected a path relative"),
        (lambda t: [*t, "a.png,,test,x"], ":12: mask '', expected a path relative"),
        (lambda t: [*t, "a.bmp,b.png,test,x"], r":12: image 'a\.bmp', expected one of \.png"),
        (lambda t: [*t, 'a.png,"b.png,test'], "expected a CSV file"),
    ],
)  # fmt: skip
def test_a_faulty_table_is_named(copied, change, message):
    root = copied("png")
    retable(root, change)
    with pytest.raises(DatasetError, match=message) as caught:
        Folder(root).keys("train")
    assert str(root / "samples.csv") in str(caught.value)


def test_faulty_labels_are_named(copied):
    root = copied("geotiff")
    edit(root, label="index")
    with pytest.raises(DatasetError, match=r"samples\.csv:2: label 'town; water' has 2 classes"):
        Folder(root).keys("train")
    edit(root, label="multihot")
    for wrong, error, message in (
        ("town; town", DatasetError, "each once"),
        ("town;", DatasetError, "expected class names"),
        ("", DatasetError, "complete the row"),
        ("town; forrest", NomenclatureError, "'forrest' is no class.*did you mean 'forest'"),
    ):
        copy = shutil.copytree(root, root.parent / f"wrong {wrong}")
        retable(copy, lambda t, w=wrong: [line.replace("town; water", w) for line in t])
        with pytest.raises(error, match=rf"samples\.csv:2: .*{message}"):
            Folder(copy).keys("train")


def png(shape, dtype="uint8"):
    file = io.BytesIO()
    PIL.Image.fromarray(np.ones(shape, dtype)).save(file, "PNG")
    return file.getvalue()


def jpg(shape):
    file = io.BytesIO()
    PIL.Image.fromarray(np.ones(shape, np.uint8)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("images/2.png", None, "no such file, expected the one of line 4 in .*samples.csv"),
        ("masks/2.png", None, "no such file, expected the one of line 4 in .*samples.csv"),
        ("images/2.png", b"", "begins with b'', expected a PNG, JPEG or TIFF file"),
        ("images/2.png", b"<html>", "begins with b'<html>'"),
        ("images/2.png", png((6, 8, 3))[:-20], "pixels that do not decode"),
        ("images/2.png", png((6, 8, 3))[:20], "a PNG with a damaged header"),
        ("images/2.png", b"\xff\xd8\xff", "a JPEG without a frame header"),
        ("images/2.png", png((6, 7, 3)), "6x7 pixels, 3 bands of uint8, expected 6x8.*varying"),
        ("images/2.png", png((6, 8, 4)), "4 bands of uint8, expected 6x8 pixels, 3 bands"),
        ("images/2.png", geotiff.write_geotiff(None, np.ones((6, 8, 3), np.uint16)),
         r"3 bands of uint16, expected 6x8 pixels, 3 bands \(red, green, blue\) of uint8"),
        ("images/2.png",
         geotiff.write_geotiff(None, np.ones((6, 8, 3), "u1"), crs="EPSG:32631", transform=PLACE),
         "a coordinate system, expected no coordinate system, as the first image has"),
        ("images/2.png", geotiff.write_geotiff(None, np.ones((6, 8, 3), "u1"), nodata=1),
         "the nodata tag 1, expected nodata None"),
        ("masks/2.png", png((8, 6)), "8x6 pixels, expected 6x8, as its image .*2.png has"),
        ("masks/2.png", png((6, 8, 3)), "3 bands, expected a mask of one band"),
        ("masks/2.png", jpg((6, 8)), "a mask as JPEG"),
    ],
)  # fmt: skip
def test_a_faulty_file_is_named(copied, name, content, message):
    root = copied("png")
    dataset = Folder(root)
    dataset.keys("train")
    (root / name).unlink()
    if content is not None:
        (root / name).write_bytes(content)
    with pytest.raises(DatasetError, match=message) as caught:
        dataset.read("images/2.png")
    assert str(root / name) in str(caught.value)


def test_an_unknown_code_and_float_masks_are_named(copied):
    root = copied("png")
    PIL.Image.fromarray(np.full((6, 8), 5, np.uint8)).save(root / "masks/2.png")
    with pytest.raises(NomenclatureError, match=r"masks/2\.png: codes 5 are not in.*'classes'"):
        Folder(root).read("images/2.png")
    (root / "masks/2.png").write_bytes(geotiff.write_geotiff(None, np.full((6, 8), 10, np.float32)))
    with pytest.raises(NomenclatureError, match=r"masks/2\.png: .*float32, expected integers"):
        Folder(root).read("images/2.png")


def test_a_link_out_of_the_folder_is_refused(copied, tmp_path):
    root = copied("png")
    (root / "images/2.png").rename(tmp_path / "2.png")
    (root / "images/2.png").symlink_to(tmp_path / "2.png")
    with pytest.raises(DatasetError, match=r"2\.png: a link that leads out of"):
        Folder(root).read("images/2.png")


def test_a_mask_of_another_place_is_refused(copied):
    root = copied("geotiff")
    codes = np.full((8, 6), 10, np.uint8)
    for crs, transform in (("EPSG:32631", place(3)), ("EPSG:32632", place(2))):
        geotiff.write_geotiff(root / "2_mask.tif", codes, crs=crs, transform=transform)
        with pytest.raises(DatasetError, match=r"2_mask\.tif: lies at .*, expected EPSG:32631"):
            Folder(root).read("2.tif")
    geotiff.write_geotiff(root / "2_mask.tif", codes)  # without a place it is taken as it is
    assert (Folder(root).read("2.tif")["mask"] == 1).all()


def test_faulty_class_folders_are_named(copied):
    root = copied("classes")
    (root / "forrest").mkdir()
    shutil.copy(root / "forest/f1.png", root / "forrest/x.png")
    with pytest.raises(NomenclatureError, match=r"forrest/x\.png: 'forrest' is no class"):
        Folder(root).keys("train")
    edit(root, split_rule=None)
    with pytest.raises(DatasetError, match=r"samples\.csv: no such file.*split_rule='stratified'"):
        Folder(root).keys("train")
    edit(root, label_nomenclature=None, mask_nomenclature="classes.csv", size=None)
    with pytest.raises(DatasetError, match=r"samples\.csv: no such file\. Only images of one"):
        Folder(root).keys("train")
    edit(root, label_nomenclature="eurosat", mask_nomenclature=None, split_rule="stratified")
    for name in ("forest", "town", "forrest"):
        shutil.rmtree(root / name)
    with pytest.raises(DatasetError, match="no samples, expected one row an image"):
        Folder(root).keys("train")


def test_unknown_keys_and_splits(made):
    dataset = Folder(made["png"])
    for key in ("images/99.png", "../png/images/0.png", "classes.csv"):
        with pytest.raises(DatasetError, match="no sample"):
            dataset.read(key)
    with pytest.raises(DatasetError, match="no split 'val'; it has train, validation, test"):
        dataset.keys("val")


# Real imagery.


def script(name, file="prepare"):
    path = ROOT / "experiments" / name / f"{file}.py"
    spec = importlib.util.spec_from_file_location(f"{name}_{file}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_run_sheets_name_models_and_bands_that_exist():
    sheets = script("strip", "config")
    made = [("strip", sheets.get_config(variant)) for variant in sheets.VARIANTS]
    made.append(("north_carolina", script("north_carolina", "config").get_config()))
    assert len(made) == 7
    for name, config in made:
        models.get(config.model.name, num_classes=7, **config.model.fields.to_dict())
        card = script(name).CARD
        assert config.data.bands == tuple(f"{card['sensor']}/{band}" for band in card["bands"])
    with pytest.raises(ValueError, match="no variant 'vnet'; known: unet"):
        sheets.get_config("vnet")


def test_real_strip(samples, tmp_path):
    path = samples / "bigearthnet_v2" / "rgb_png_strip.zip"
    script("strip").prepare(path, tmp_path / "strip")
    dataset = Folder(tmp_path / "strip")
    assert dataset.info.splits == {"train": 48, "test": 16}
    train, test = dataset.keys("train"), dataset.keys("test")
    row = {key: int(pathlib.Path(key).stem.split("_")[3]) for key in train + test}
    assert max(row[key] for key in test) < min(row[key] for key in train)
    nomenclature = landcover.load("corine_l3")
    with zipfile.ZipFile(path) as archive:
        for key in train[::12] + test[::8]:
            example = dataset.read(key)
            stem = pathlib.Path(key).stem
            image = np.asarray(PIL.Image.open(io.BytesIO(archive.read(f"images/{stem}.png"))))
            codes = np.asarray(PIL.Image.open(io.BytesIO(archive.read(f"masks/{stem}_mask.png"))))
            np.testing.assert_array_equal(example["image"], image)
            np.testing.assert_array_equal(np.array(nomenclature.codes)[example["mask"]], codes)
            assert example["block"] == f"{stem.split('_')[2]}_{(row[key] - 66) // 4 + 2}"


def test_real_north_carolina(samples, tmp_path, capsys):
    scene = samples / "scenes" / "landsat7_north_carolina"
    prepare = script("north_carolina")
    with pytest.raises(SystemExit, match=r"(?s)EPSG:3358.*EPSG:32119.*--trust_transform"):
        prepare.prepare(scene, tmp_path / "nc", trust_transform=False)
    prepare.prepare(scene, tmp_path / "nc", trust_transform=True)
    dataset = Folder(tmp_path / "nc")
    blocks, corners = {}, {}
    names = landcover.load(str(tmp_path / "nc" / "landclass96.csv")).names
    assert names[0] == "developed"
    with rasterio.open(scene / "strata.tif") as strata, rasterio.open(
        scene / "lsat7_2000_70.tif"
    ) as band:  # fmt: skip
        codes, seventh, whole = strata.read(1), band.read(1), band.transform
    for split in dataset.info.splits:
        for key in dataset.keys(split):
            example = dataset.read(key)
            blocks.setdefault(example["block"], set()).add(split)
            left, upper = example["transform"][[2, 5]]
            column, row = round((left - whole.c) / 28.5), round((whole.f - upper) / 28.5)
            corners.setdefault(split, []).append((row, column))
            window = np.s_[row : row + 64, column : column + 64]
            valid = seventh[window] != -32768
            np.testing.assert_array_equal(example["image"][..., 5][valid], seventh[window][valid])
            assert (example["image"][~valid] == 0).all()
            assert (example["mask"][~valid] == 255).all()
            np.testing.assert_array_equal(example["mask"][valid] + 1, codes[window][valid])
            assert valid.mean() >= 0.5
    assert all(len(splits) == 1 for splits in blocks.values())
    assert set(dataset.info.splits) == {"train", "validation", "test"}
    pairs = [(one, other) for one in corners["train"] for other in corners["test"]]
    touching = sum(abs(a - c) <= 64 and abs(b - d) <= 64 for (a, b), (c, d) in pairs)
    assert f"test patch: 0 m; {touching} pairs touch" in capsys.readouterr().out
