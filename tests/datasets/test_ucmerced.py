import numpy as np
import pytest
import rasterio

from rsjax import landcover
from rsjax.datasets import geotiff
from rsjax.datasets.ucmerced import UCMerced
from rsjax.errors import DatasetError

COUNT = 63

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def all_keys(dataset):
    return [key for split in dataset.info.splits for key in dataset.keys(split)]


def check(folder, dataset, keys):
    names = landcover.load("ucmerced").names
    shapes = set()
    for key in keys:
        example = dataset.read(key)
        with rasterio.open(folder / f"{key}.tif") as raster:
            expected = np.moveaxis(raster.read(), 0, -1)
        np.testing.assert_array_equal(example["rgb"], expected)
        assert example["rgb"].dtype == np.uint8
        assert names[example["label"]] == key.split("/")[0]
        shapes.add(example["rgb"].shape)
    return shapes


def test_examples_equal_rasterio(downloads):
    root = downloads("ucmerced", COUNT)
    dataset = UCMerced(root)
    folder = root / "UCMerced_LandUse" / "Images"
    shapes = check(folder, dataset, all_keys(dataset))
    assert len(all_keys(dataset)) == COUNT
    assert (256, 256, 3) in shapes
    assert len(shapes) > 1  # some real images are not 256 pixels a side
    for source in (root / "UCMerced_LandUse", folder):
        assert all_keys(UCMerced(source)) == all_keys(dataset)


def test_real_images(samples):
    dataset = UCMerced(samples / "ucmerced")
    keys = all_keys(dataset)
    assert len(keys) == 63
    check(samples / "ucmerced" / "UCMerced_LandUse" / "Images", dataset, keys)
    assert [len(dataset.keys(s)) for s in ("train", "validation", "test")] == [42, 0, 21]


def test_lists(copied):
    root = copied("ucmerced", COUNT)
    keys = all_keys(UCMerced(root))
    for i, split in enumerate(("train", "val", "test")):
        (root / f"uc_merced-{split}.txt").write_text(
            "\n".join(f"{k.split('/')[1]}.tif" for k in keys[i::3])
        )
    dataset = UCMerced(root, split_rule="lists")
    assert dataset.keys("validation") == keys[1::3]
    (root / "uc_merced-val.txt").write_text("runway99.tif\n")
    with pytest.raises(DatasetError, match=r"uc_merced-val\.txt:1: 'runway99' is not among"):
        UCMerced(root, split_rule="lists").keys("train")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.ones((256, 256), np.uint8), "1 band of uint8, expected 256x256 pixels, 3 bands"),
        (np.ones((256, 256, 4), np.uint8), "4 bands of uint8, expected"),
        (np.ones((256, 256, 3), np.uint16), "3 bands of uint16, expected"),
    ],
)
def test_damaged_file_is_named(copied, array, message):
    root = copied("ucmerced", COUNT)
    dataset = UCMerced(root)
    key = dataset.keys("train")[0]
    geotiff.write_geotiff(root / "UCMerced_LandUse" / "Images" / f"{key}.tif", array)
    with pytest.raises(DatasetError, match=rf"{key}\.tif: 256x256 pixels, {message}"):
        dataset.read(key)


def test_misnamed_image_is_refused(copied):
    root = copied("ucmerced", COUNT)
    (root / "UCMerced_LandUse" / "Images" / "river" / "river100.tif").write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"river100\.tif: expected images of river"):
        UCMerced(root).keys("train")
