import struct

import numpy as np
import pytest
import rasterio
from rasterio.io import MemoryFile

from rsjax.datasets import geotiff, tiff
from rsjax.errors import DatasetError

pytestmark = pytest.mark.filterwarnings(
    "ignore::rasterio.errors.NotGeoreferencedWarning"  # many files here have no place on purpose
)
RNG = np.random.default_rng(0)
TRANSFORM = (10.0, 0.0, 331200.0, 0.0, -10.0, 5331600.0)


def image(dtype, bands, height=50, width=45):
    values = RNG.normal(0, 50, (height, width, bands)) + 300
    return values.astype(dtype) if np.dtype(dtype).kind == "f" else (values % 250).astype(dtype)


def encode(array, **options):
    options = {"crs": "EPSG:32633", "transform": TRANSFORM} | options
    return geotiff.write_geotiff(None, array, **options)


def by_gdal(data):
    with MemoryFile(data) as memory, memory.open(driver="GTiff") as raster:
        return np.moveaxis(raster.read(), 0, -1), raster.crs, tuple(raster.transform)[:6]


LAYOUTS = {
    "strips": {},
    "tiles": {"tiled": True, "blockxsize": 32, "blockysize": 16},
    "short strips": {"blockysize": 7},
}
PACKINGS = {
    "none": {},
    "deflate": {"compress": "deflate"},
    "lzw": {"compress": "lzw", "predictor": 2},
    "zstd": {"compress": "zstd"},
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_pixels_and_place_equal_rasterio(dtype, layout, packing):
    options = LAYOUTS[layout] | PACKINGS[packing]
    if dtype == "float32":
        options.pop("predictor", None)
    for bands, interleave, endianness in (
        (1, "band", "LITTLE"),
        (1, "band", "BIG"),
        (2, "pixel", "BIG"),
        (3, "band", "LITTLE"),
        (4, "pixel", "LITTLE"),
        (13, "pixel", "LITTLE"),
        (13, "band", "LITTLE"),
    ):
        array = image(dtype, bands)
        data = encode(array, interleave=interleave, ENDIANNESS=endianness, **options)
        found = tiff_read(data, dtype, bands)
        expected, crs, transform = by_gdal(data)
        np.testing.assert_array_equal(found.reshape(expected.shape), expected)
        np.testing.assert_array_equal(expected, array)
        assert found.dtype == np.dtype(dtype)
        assert found.dtype.isnative
        assert found.shape == ((50, 45) if bands == 1 else (50, 45, bands))
        assert geotiff.read_geo(data, "x") == (f"EPSG:{crs.to_epsg()}", transform)


def tiff_read(data, dtype, bands, shape=(50, 45)):
    return geotiff.read_tiff(data, "file.tif", shape=shape, dtype=dtype, bands=bands)


def test_any_size_where_none_is_given():
    array = image("uint8", 3, 31, 77)
    found = tiff_read(encode(array, photometric="RGB", interleave="pixel"), "uint8", 3, shape=None)
    np.testing.assert_array_equal(found, array)


@pytest.mark.parametrize("photometric", ["MINISBLACK", "MINISWHITE", "PALETTE"])
def test_stored_values_are_not_interpreted(photometric):
    array = image("uint8", 1)
    with MemoryFile() as memory:
        profile = {"count": 1, "height": 50, "width": 45, "dtype": "uint8"}
        with memory.open(driver="GTiff", photometric=photometric, **profile) as raster:
            raster.write(array[..., 0], 1)
            if photometric == "PALETTE":
                raster.write_colormap(1, {i: (255 - i, i, 0, 255) for i in range(256)})
        found = tiff_read(bytes(memory.getbuffer()), "uint8", 1)
    np.testing.assert_array_equal(found, array[..., 0])


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3035", "EPSG:32733"])
@pytest.mark.parametrize("point", [False, True])
def test_crs_and_raster_type_equal_rasterio(crs, point):
    with MemoryFile() as memory:
        profile = {"count": 1, "height": 4, "width": 5, "dtype": "uint8", "crs": crs}
        transform = rasterio.Affine(0.5, 0, 10, 0, -0.25, 40)
        with memory.open(driver="GTiff", transform=transform, **profile) as raster:
            raster.write(np.ones((1, 4, 5), np.uint8))
            if point:
                raster.update_tags(AREA_OR_POINT="Point")
        data = bytes(memory.getbuffer())
    _, expected_crs, expected = by_gdal(data)
    assert expected == tuple(transform)[:6]
    assert geotiff.read_geo(data, "x") == (crs, expected)
    assert expected_crs.to_string() == crs
    keys = tiff.parse(data, "x").keys
    assert keys[1025] == (2 if point else 1)


def test_rotated_transform():
    transform = (9.0, 2.0, 500000.0, 3.0, -8.0, 4e6)
    data = encode(image("uint8", 1), transform=transform)
    assert geotiff.read_geo(data, "x")[1] == pytest.approx(by_gdal(data)[2], rel=1e-15)
    assert geotiff.read_geo(data, "x")[1] == pytest.approx(transform, rel=1e-15)


def test_crs_without_code_comes_from_gdal():
    proj = "+proj=lcc +lat_1=36 +lat_2=34 +lat_0=33.7 +lon_0=-79 +x_0=609601 +ellps=GRS80"
    data = encode(image("uint8", 1), crs=proj)
    text, _ = geotiff.read_geo(data, "x")
    assert rasterio.CRS.from_user_input(text) == by_gdal(data)[1]
    assert not text.startswith("EPSG")


def test_nodata_tag():
    assert tiff.parse(encode(image("uint16", 1), nodata=0), "x").nodata == "0"
    assert tiff.parse(encode(image("uint16", 1)), "x").nodata is None


def test_all_real_files_equal_rasterio(samples):
    checked = 0
    for path in sorted(samples.rglob("*.tif")):
        if path.stat().st_size > 20e6 or "WorldCover" in path.name:
            continue
        data = path.read_bytes()
        expected, crs, transform = by_gdal(data)
        found = geotiff.read_tiff(
            data, str(path), shape=None, dtype=str(expected.dtype), bands=expected.shape[-1]
        )
        np.testing.assert_array_equal(found.reshape(expected.shape), expected, err_msg=str(path))
        if crs is None:
            with pytest.raises(DatasetError, match="no coordinate system"):
                geotiff.read_geo(data, str(path))
        else:
            text, numbers = geotiff.read_geo(data, str(path))
            assert numbers == transform, path
            assert rasterio.CRS.from_user_input(text) == crs, path
        checked += 1
    assert checked > 150


def at_the_end(data, gap):
    """The file with its directory and tags moved behind the pixels, `gap` bytes between."""
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    moved, behind = bytearray(data) + bytes(gap), b""
    struct.pack_into("<I", moved, 4, len(moved))
    place = len(moved) + 6 + 12 * count
    entries = b""
    for tag, kind, number, value in struct.iter_unpack(
        "<HHII", data[start + 2 : start + 2 + 12 * count]
    ):
        if (size := {3: 2, 4: 4, 12: 8}.get(kind, 1) * number) > 4:
            content, value = data[value : value + size], place + len(behind)
            behind += content
        entries += struct.pack("<HHII", tag, kind, number, value)
    moved[8 : start + 6 + 12 * count] = bytes(start - 2 + 12 * count)  # the old one is no help
    return bytes(moved) + struct.pack("<H", count) + entries + bytes(4) + behind


@pytest.mark.parametrize("gap", [0, 70_000])
def test_tags_alone_wherever_they_lie(gap):
    array = image("uint16", 2)
    data = at_the_end(encode(array, **LAYOUTS["short strips"]), gap)
    read = []

    def part(start, stop):
        read.append(min(stop, len(data)) - start)
        return data[start:stop]

    header = tiff.parse_tags(part, "file.tif")
    np.testing.assert_array_equal(by_gdal(data)[0], array)
    assert geotiff.transform(header) == TRANSFORM == by_gdal(data)[2]
    assert (header.height, header.width, header.bands, header.dtype) == (50, 45, 2, "uint16")
    assert (header.tags, header.data) == (tiff.parse(data, "x").tags, b"")
    assert sum(read) < 2**16 + 1000
    for length in (0, 100, len(data) // 2, len(data) - 50):
        with pytest.raises(DatasetError, match=r"file\.tif: .*Restore the file"):
            tiff.parse_tags(lambda start, stop, n=length: data[:n][start:stop], "file.tif")


# Damage.


@pytest.mark.parametrize("packing", PACKINGS)
def test_every_truncation_is_refused(packing):
    data = encode(image("uint16", 2), **PACKINGS[packing])
    end = tiff_end(data)
    for length in [*range(0, 700, 23), *(int(end * k) for k in (0.5, 0.9, 0.99)), end - 1]:
        with pytest.raises(DatasetError, match=r"file\.tif: .*Restore the file"):
            tiff_read(data[:length], "uint16", 2)


def tiff_end(data):
    tags = tiff.parse(data, "x").tags
    return max(a + b for a, b in zip(tags[273], tags[279], strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (50, 46)}, "2 bands of uint16, expected 50x46"),
        ({"shape": (49, 45)}, "expected 49x45"),
        ({"dtype": "int16"}, "2 bands of uint16, expected 50x45 pixels, 2 bands of int16"),
        ({"dtype": "uint8"}, "expected .* of uint8"),
        ({"bands": 3}, "expected .* 3 bands"),
    ],
)
def test_other_image_than_expected(options, message):
    data = encode(image("uint16", 2))
    options = {"shape": (50, 45), "dtype": "uint16", "bands": 2} | options
    with pytest.raises(DatasetError, match=r"file\.tif: 50x45.*" + message):
        geotiff.read_tiff(data, "file.tif", **options)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<!DOCTYPE html><html>404</html>",
        b'<VRTDataset rasterXSize="5" rasterYSize="5"><SRS>EPSG:4326</SRS></VRTDataset>',
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"II+\0" + bytes(100),  # BigTIFF
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
        b"II*\0\x08\0\0\0\0\0",
        b"II*\0\x08\0\0\0\xff\xff" + bytes(50),
        bytes(1000),
    ],
)
def test_what_is_no_tiff(data):
    with pytest.raises(DatasetError, match=r"file\.tif: "):
        tiff_read(data, "uint8", 1)
    with pytest.raises(DatasetError, match=r"file\.tif: "):
        geotiff.read_geo(data, "file.tif")


def patched(data, tag, value):
    """The file with another value in a tag of one SHORT or LONG."""
    data = bytearray(data)
    start = struct.unpack_from("<I", data, 4)[0]
    for i in range(struct.unpack_from("<H", data, start)[0]):
        place = start + 2 + 12 * i
        if struct.unpack_from("<H", data, place)[0] == tag:
            struct.pack_into("<HII", data, place + 2, 4, 1, value)
            return bytes(data)
    raise AssertionError(tag)


def test_huge_image_is_refused_before_it_is_decoded(monkeypatch):
    monkeypatch.setattr(tiff.imagecodecs, "tiff_decode", None)
    data = patched(patched(encode(image("uint8", 1)), 256, 10**6), 257, 10**6)
    with pytest.raises(DatasetError, match="1,000,000,000,000 bytes"):
        tiff_read(data, "uint8", 1, shape=None)
    data = patched(encode(image("uint8", 1), **LAYOUTS["tiles"]), 322, 2**31)
    with pytest.raises(DatasetError, match="tiles of 16x2147483648"):
        tiff_read(data, "uint8", 1)
    assert isinstance(tiff.parse(encode(image("uint8", 1)), "x"), tiff.Header)


def test_lossy_compression_is_refused():
    array = image("uint8", 3, 48, 48)
    data = encode(array, compress="jpeg", photometric="ycbcr", interleave="pixel")
    with pytest.raises(DatasetError, match="compression 7, photometric 6"):
        tiff_read(data, "uint8", 3, shape=(48, 48))


def test_half_written_file_is_refused():
    # GDAL writes such a file when it is killed, and reads zeros from it without an error.
    with MemoryFile() as memory:
        profile = {"count": 1, "height": 50, "width": 45, "dtype": "uint8", "blockysize": 10}
        with memory.open(driver="GTiff", SPARSE_OK=True, **profile) as raster:
            raster.write(np.ones((20, 45), np.uint8), 1, window=((0, 20), (0, 45)))
        data = bytes(memory.getbuffer())
    assert by_gdal(data)[0][30:].sum() == 0
    with pytest.raises(DatasetError, match="never written"):
        tiff_read(data, "uint8", 1)


def test_bands_of_different_depth_are_refused():
    data = bytearray(encode(image("uint16", 4), interleave="pixel"))
    place = data.index(struct.pack("<4H", 16, 16, 16, 16))
    data[place : place + 8] = struct.pack("<4H", 16, 8, 16, 16)
    with pytest.raises(DatasetError, match=r"bits \[8, 16\]"):
        tiff_read(bytes(data), "uint16", 4)


@pytest.mark.parametrize("seed", range(3))
def test_random_damage_never_escapes(seed):
    """Flipped bytes in the header: an error of ours, or an image of the size asked for."""
    rng = np.random.default_rng(seed)
    whole = encode(image("uint16", 1), compress=["deflate", None, "lzw"][seed])
    for _ in range(150):
        data = bytearray(whole)
        for place in rng.integers(0, 400, 3):
            data[place] = rng.integers(0, 256)
        try:
            assert tiff_read(bytes(data), "uint16", 1).shape == (50, 45)
            geotiff.transform(tiff.parse(bytes(data), "x"))
        except DatasetError:
            pass


def test_no_georeference():
    data = geotiff.write_geotiff(None, image("uint8", 1))
    with pytest.raises(DatasetError, match=r"file\.tif: no coordinate system"):
        geotiff.read_geo(data, "file.tif")
    data = encode(image("uint8", 1), transform=None)
    with pytest.raises(DatasetError, match="no geographic position"):
        geotiff.read_geo(data, "file.tif")


def test_write_geotiff_to_a_file(tmp_path):
    array = image("float32", 2)
    path = tmp_path / "a.tif"
    assert geotiff.write_geotiff(path, array, crs="EPSG:32633", transform=TRANSFORM) is None
    np.testing.assert_array_equal(tiff_read(path.read_bytes(), "float32", 2), array)
