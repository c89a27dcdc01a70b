import pickle
import shutil
import struct
import zipfile

import numpy as np
import PIL.Image
import pytest

from rsjax import landcover
from rsjax.datasets.levir_cd import LevirCD
from rsjax.errors import ConfigError, DatasetError

pytestmark = pytest.mark.once

COUNT = 48
SPLITS = {"train": "train", "validation": "val", "test": "test"}


@pytest.fixture(scope="module")
def root(downloads):
    return downloads("levir_cd", COUNT)


def picture(path):
    with PIL.Image.open(path) as image:
        return np.asarray(image)


def official(folder, split, name):
    return [folder / SPLITS[split] / part / f"{name}.png" for part in ("A", "B", "label")]


def test_tiles_equal_pillow(root):
    dataset = LevirCD(root)
    for split in dataset.info.splits:
        keys = dataset.keys(split)
        assert len(keys) == 16
        before, after, label = map(picture, official(root, split, f"{SPLITS[split]}_1"))
        assert before.shape == after.shape == (1024, 1024, 3)
        assert set(np.unique(label)) == {0, 255}
        seen = np.zeros((1024, 1024), int)
        for key in keys:
            name, place = key.split("@")
            row, column = map(int, place.split("_"))
            part = np.s_[row : row + 256, column : column + 256]
            seen[part] += 1
            example = dataset.read(key)
            assert set(example) == {"id", "rgb", "mask"}
            assert (example["id"], name) == (key, f"{SPLITS[split]}_1")
            np.testing.assert_array_equal(example["rgb"], np.stack([before[part], after[part]]))
            np.testing.assert_array_equal(example["mask"], label[part] // 255)
            assert (example["rgb"].dtype, example["mask"].dtype) == (np.uint8, np.uint8)
        assert (seen == 1).all()
    assert dataset.simulated


def test_card_has_the_official_counts(root):
    info = LevirCD(root).info
    assert info.splits == {"train": 7120, "validation": 1024, "test": 2048}  # 445, 64, 128 pairs
    assert LevirCD(root, tile_px=1024).info.splits == {"train": 445, "validation": 64, "test": 128}
    assert info.images["rgb"].shape == (2, 256, 256, 3)
    assert landcover.load(info.mask_nomenclature).names == ("unchanged", "changed")


def test_whole_images_and_order_by_number(copied):
    root = copied("levir_cd", COUNT)
    for number in (10, 2):
        for path in official(root, "train", "train_1"):
            shutil.copy(path, path.with_name(f"train_{number}.png"))
    dataset = LevirCD(root, tile_px=1024)
    assert dataset.keys("train") == ["train_1@0_0", "train_2@0_0", "train_10@0_0"]
    assert dataset.read("train_10@0_0")["rgb"].shape == (2, 1024, 1024, 3)


def test_other_layouts_hold_the_same(root, tmp_path):
    plain = LevirCD(root)
    flat, zips = tmp_path / "flat", tmp_path / "zips"
    zips.mkdir()
    for theirs in SPLITS.values():
        shutil.copytree(root / theirs, flat, dirs_exist_ok=True)
        with zipfile.ZipFile(zips / f"{theirs}.zip", "w") as archive:
            for path in (root / theirs).rglob("*.png"):
                archive.write(path, path.relative_to(root / theirs if theirs != "val" else root))
    for source in (flat, zips):
        other = LevirCD(source)
        assert other.fingerprint() == plain.fingerprint()
        for split in plain.info.splits:
            key = plain.keys(split)[5]
            np.testing.assert_array_equal(other.read(key)["rgb"], plain.read(key)["rgb"])
            np.testing.assert_array_equal(other.read(key)["mask"], plain.read(key)["mask"])
    assert LevirCD(root, tile_px=512).fingerprint() != plain.fingerprint()
    again = pickle.loads(pickle.dumps(plain))
    np.testing.assert_array_equal(again.read(key)["rgb"], plain.read(key)["rgb"])


# Damage: how, and what the error must say.


def save(array):
    return lambda path: PIL.Image.fromarray(array).save(path)


def change_bytes(start, new):
    def damage(path):
        data = bytearray(path.read_bytes())
        data[start : start + len(new)] = new
        path.write_bytes(data)

    return damage


def flip_in_the_middle(path):
    change_bytes(path.stat().st_size // 2, b"\xa5\x5a\xff\x00")(path)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def read_first(dataset):
    return dataset.read(dataset.keys("train")[0])


RGB, GREY = np.zeros((1024, 1024, 3), np.uint8), np.zeros((1024, 1024), np.uint8)
ODD = GREY.copy()
ODD[7, 9:12] = 1


@pytest.mark.parametrize("part", ["A", "B", "label"])
@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.unlink(), "no such file, and 1 missing in all, expected A, B and label"),
        (cut, "do not decode"),
        (flip_in_the_middle, "do not decode"),
        (lambda p: p.write_bytes(b"<html>"), "begins with .*expected a PNG"),
        (lambda p: p.write_bytes(b""), "begins with b''"),
        (change_bytes(16, struct.pack(">I", 1000)), "1024x1000 pixels.*expected 1024x1024"),
        (save(RGB[:256, :256]), "256x256 pixels.*expected 1024x1024"),
    ],
)
def test_damaged_file_is_named(copied, part, damage, message):
    root = copied("levir_cd", COUNT)
    path = root / "train" / part / "train_1.png"
    damage(path)
    with pytest.raises(DatasetError, match=message) as caught:
        read_first(LevirCD(root))
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("part", "array", "message"),
    [
        ("B", np.zeros((1024, 1024, 4), np.uint8), "4 bands of uint8, expected .*3 bands"),
        ("A", GREY, "1 band of uint8, expected .*3 bands"),
        ("A", np.zeros((1024, 1024), np.uint16), "1 band of uint16, expected"),
        ("label", ODD, r"value 1 at \(row, col\) \(7, 9\) and 3 such pixels.*expected 0 .*255"),
        ("label", np.dstack([ODD, GREY, GREY]), "3 bands that differ"),
        ("label", np.zeros((1024, 1024, 4), np.uint8), "4 bands that .* are transparent"),
        ("label", np.zeros((1024, 1024), np.uint16), "of uint16, expected .*uint8"),
    ],
)
def test_other_pixels_are_refused(copied, part, array, message):
    root = copied("levir_cd", COUNT)
    path = root / "train" / part / "train_1.png"
    save(array)(path)
    with pytest.raises(DatasetError, match=message) as caught:
        LevirCD(root).read("train_1@0_0")
    assert str(path) in str(caught.value)


def test_grey_mask_written_as_colours_is_the_same(copied):
    root = copied("levir_cd", COUNT)
    path = root / "train" / "label" / "train_1.png"
    expected = LevirCD(root).read("train_1@256_0")["mask"]
    label = picture(path)
    save(np.dstack([label] * 3))(path)
    np.testing.assert_array_equal(LevirCD(root).read("train_1@256_0")["mask"], expected)


@pytest.mark.parametrize(
    ("name", "message"),
    [("val_9", "expected images of train"), ("house", "expected images of train")],
)
def test_misplaced_image_is_refused(copied, name, message):
    root = copied("levir_cd", COUNT)
    shutil.copy(root / "train" / "A" / "train_1.png", root / "train" / "A" / f"{name}.png")
    with pytest.raises(DatasetError, match=rf"{name}\.png: {message}"):
        LevirCD(root).keys("train")


@pytest.mark.parametrize("top", ["", "train/"])
def test_misplaced_image_in_a_zip_is_refused(copied, top):
    root = copied("levir_cd", COUNT)
    with zipfile.ZipFile(root / "train.zip", "w") as archive:
        for path in (root / "train").rglob("*.png"):
            for name in ("train_1", "val_9"):
                archive.write(path, f"{top}{path.parent.name}/{name}.png")
    shutil.rmtree(root / "train")
    with pytest.raises(DatasetError, match=r"val_9\.png: expected images of train to be named"):
        LevirCD(root).keys("train")


def test_wrong_source_keys_and_options(copied):
    root = copied("levir_cd", COUNT)
    dataset = LevirCD(root)
    for key in ("x", "train_1", "train_1@0_1", "train_1@0_1024", "../train_1@0_0", "train@0_0"):
        with pytest.raises(DatasetError, match="no sample"):
            dataset.read(key)
    with pytest.raises(DatasetError, match=r"train_9\.png: no such file"):
        dataset.read("train_9@0_0")
    with pytest.raises(DatasetError, match=r"neither train/A nor train\.zip"):
        LevirCD(root / "train" / "A").keys("train")
    with pytest.raises(DatasetError, match=r"no val_<number>\.png"):
        LevirCD(root / "train").keys("validation")
    for options in ({"image_px": 1000}, {"tile_px": 0}, {"tile_px": "a"}, {"image_px": 0.5}):
        with pytest.raises(ConfigError, match=f"{next(iter(options))}=.*expected"):
            LevirCD(root, **options)


def test_real_images(samples, tmp_path):
    real = samples / "levir_cd" / "samples"
    # Images that were already cut; of one of them the mask is not there, which must not pass.
    with pytest.raises(DatasetError, match=r"label.test_113_0256\.png: no such file"):
        LevirCD(real, image_px=256).keys("test")
    for path in real.glob("*/*.png"):
        if (real / "label" / path.name).exists():
            (tmp_path / path.parent.name).mkdir(exist_ok=True)
            shutil.copy(path, tmp_path / path.parent.name)
    dataset = LevirCD(tmp_path, image_px=256)
    keys = {split: dataset.keys(split) for split in dataset.info.splits}
    assert {split: len(found) for split, found in keys.items()} == {
        "train": 3, "validation": 1, "test": 7,
    }  # fmt: skip
    assert keys["train"][0] == "train_36_0512_0512@0_0"
    changed = 0
    for key in (key for found in keys.values() for key in found):
        example = dataset.read(key)
        before, after, label = (picture(tmp_path / part / f"{key.split('@')[0]}.png")
                                for part in ("A", "B", "label"))  # fmt: skip
        np.testing.assert_array_equal(example["rgb"], np.stack([before, after]))
        np.testing.assert_array_equal(example["mask"] * 255, label)
        changed += example["mask"].mean() / 11
    assert 0.05 < changed < 0.3
    with pytest.raises(DatasetError, match=r"256x256 pixels.*image_px"):
        LevirCD(tmp_path).read("val_27_0000_0256@0_0")
    assert not dataset.simulated
