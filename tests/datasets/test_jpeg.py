import io

import imagecodecs
import numpy as np
import PIL.Image
import pytest

from rsjax.datasets.jpeg import read_jpeg
from rsjax.errors import DatasetError

IMAGE = np.random.default_rng(0).integers(0, 255, (8, 8, 3)).repeat(8, 0).repeat(8, 1)
DATA = imagecodecs.jpeg8_encode(IMAGE.astype(np.uint8), level=90)


def by_pillow(data):
    return np.asarray(PIL.Image.open(io.BytesIO(data)))


def read(data, shape=(64, 64)):
    return read_jpeg(data, "a.jpg", shape=shape)


@pytest.mark.parametrize("subsampling", ["444", "420"])
def test_pixels_equal_pillow(subsampling):
    data = imagecodecs.jpeg8_encode(IMAGE.astype(np.uint8), level=85, subsampling=subsampling)
    found = read(data)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, by_pillow(data))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "begins with"),
        (b"<html>", "begins with"),
        (DATA[:1], "begins with"),
        (DATA[:2], r"\(height, width, bands\) None"),
        (DATA[:300], r"None|truncated"),
        (DATA[: len(DATA) // 2], "truncated"),
        (DATA[:-2], "truncated"),
    ],
)
def test_damage(data, message):
    with pytest.raises(DatasetError, match=rf"a\.jpg: .*{message}.*Restore the file"):
        read(data)


def test_size_is_checked_before_decoding():
    with pytest.raises(DatasetError, match=r"\(64, 64, 3\), expected \(64, 65, 3\)"):
        read(DATA, (64, 65))
    grey = imagecodecs.jpeg8_encode(IMAGE[..., 0].astype(np.uint8))
    with pytest.raises(DatasetError, match=r"\(64, 64, 1\)"):
        read(grey)
    place = DATA.index(b"\xff\xc0") + 5
    with pytest.raises(DatasetError, match=r"\(65000, 65000, 3\)"):
        read(DATA[:place] + (65000).to_bytes(2) * 2 + DATA[place + 4 :])
