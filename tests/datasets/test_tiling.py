import pickle
import struct
import threading

import fsspec
import numpy as np
import pytest
import rasterio
from test_files import make

from rsjax.datasets import files, geotiff, tiff, tiling
from rsjax.errors import ConfigError, DatasetError

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

SIDES = [31, 32, 33, 40, 63, 64, 65, 100, 128, 129]
CASES = [(32, 0), (32, 7), (32, 16), (40, 1)]


@pytest.mark.parametrize("edges", ["shift", "pad"])
@pytest.mark.parametrize(("tile", "overlap"), CASES)
def test_windows_cover_every_pixel_and_each_label_once(edges, tile, overlap):
    rng = np.random.default_rng(0)
    cut = tiling.Tiling(tile, overlap, edges)
    for height, width in zip(SIDES, SIDES[::-1], strict=True):
        image = rng.integers(0, 256, (height, width, 3), np.uint8)
        mask = rng.integers(0, 200, (height, width), np.uint8)
        counted = np.zeros((height, width), int)
        covered = np.zeros((height, width), int)
        windows = cut.windows(height, width)
        assert cut.count(height, width) == len(windows)
        assert [w[:2] for w in windows] == sorted({w[:2] for w in windows})
        for window in windows:
            pixels = cut.cut(image, window)
            every, once = (cut.cut_mask(mask, window, flag) for flag in (False, True))
            assert pixels.shape == (tile, tile, 3)
            assert every.shape == once.shape == (tile, tile)
            for i in range(tile):
                for j in range(0, tile, 3):
                    row, column = window.row + i, window.column + j
                    inside = row < height and column < width
                    assert every[i, j] == (mask[row, column] if inside else 255)
                    assert once[i, j] in (every[i, j], 255)
                    # Mirrored at the edge, the outermost pixel first.
                    down = row if row < height else 2 * height - 1 - row
                    right = column if column < width else 2 * width - 1 - column
                    assert (pixels[i, j] == image[down, right]).all()
            rows = slice(window.row, min(window.row + tile, height))
            columns = slice(window.column, min(window.column + tile, width))
            covered[rows, columns] += 1
            counted[rows, columns] += (once != 255)[: covered[rows, columns].shape[0],
                                                    : covered[rows, columns].shape[1]]  # fmt: skip
            if edges == "shift" and min(height, width) >= tile:
                assert (every != 255).all()  # every pixel is a real one
        assert covered.min() == 1
        assert (counted == 1).all()
        if not (overlap or edges == "shift"):
            assert covered.max() == 1


def test_neighbours_share_the_overlap_and_official_sizes_give_these_numbers():
    assert tiling.Tiling(512, 0).starts(1500) == [0, 512, 988]
    assert tiling.Tiling(512, 32).starts(1500) == [0, 480, 960, 988]
    assert tiling.Tiling(512, 0, "pad").starts(1500) == [0, 512, 1024]
    assert tiling.Tiling(512, 32, "pad").starts(1500) == [0, 480, 960, 1440]
    assert tiling.Tiling(512, 0).starts(512) == tiling.Tiling(512, 0).starts(300) == [0]
    assert [tiling.Tiling(512).count(s, s) for s in (1000, 1024, 1500, 5000)] == [4, 4, 9, 100]
    assert tiling.Tiling(500).starts(5000) == list(range(0, 5000, 500))


def test_a_small_image_is_mirrored_more_than_once():
    image = np.arange(10, dtype=np.uint8)[None, :].repeat(10, 0)
    cut = tiling.Tiling(32)
    row = cut.cut(image, cut.windows(10, 10)[0])[31]
    np.testing.assert_array_equal(row, [*range(10), *range(9, -1, -1), *range(10), 9, 8])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tile_px": 16}, "tile_px=16, expected whole pixels from 32 to 4096"),
        ({"tile_px": 5000}, "tile_px=5000"),
        ({"tile_px": 256.0}, r"tile_px=256\.0"),
        ({"tile_px": 64, "overlap_px": 33}, "overlap_px=33, expected .* 0 to half of tile_px=64"),
        ({"tile_px": 64, "overlap_px": -1}, "overlap_px=-1"),
        ({"tile_px": 64, "edges": "crop"}, "edges='crop', expected one of 'shift', 'pad'"),
    ],
)
def test_options_that_cannot_work(options, message):
    with pytest.raises(ConfigError, match=message):
        tiling.Tiling(**options)


def test_keys():
    window = tiling.Window(488, 0, 24, 0)
    assert tiling.key_of("tyrol-w_5@x", window) == "tyrol-w_5@x@488_0"
    assert tiling.parse_key("tyrol-w_5@x@488_0") == ("tyrol-w_5@x", 488, 0)
    for key in ("austin1", "austin1@", "austin1@5", "@1_2", "austin1@-1_2", "austin1@1_2 "):
        assert tiling.parse_key(key) is None


def test_last_keeps_one_value_and_many_threads_make_it_once():
    last, made = tiling.Last(), []
    started = threading.Barrier(8)

    def make_value(key):
        made.append(key)
        return np.full(10, int(key))

    def work():
        started.wait()
        for key in ("1", "1", "1"):
            assert (last.get(key, lambda: make_value("1")) == 1).all()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == ["1"]
    assert last.get("2", lambda: make_value("2"))[0] == 2
    assert last.get("1", lambda: make_value("1"))[0] == 1
    assert made == ["1", "2", "1"]
    copy = pickle.loads(pickle.dumps(last))
    assert copy.get("1", lambda: make_value("1"))[0] == 1
    assert len(made) == 4
    with pytest.raises(ZeroDivisionError):
        last.get("3", lambda: 1 // 0)
    assert last.get("3", lambda: 3) == 3


def big_endian(height, width, kind):
    """A TIFF whose directory comes last, as libtiff writes it, with sizes as SHORT or LONG."""

    def entry(tag, value, code=kind):
        return struct.pack(">HHI", tag, code, 1) + struct.pack(*((">HH", value, 0) if code == 3
                                                                  else (">I", value)))  # fmt: skip

    tags = [
        entry(256, width),
        entry(257, height),
        entry(258, 8, 3),
        entry(259, 1, 3),
        entry(262, 1, 3),
        entry(273, 8, 4),
        entry(278, height),
        entry(279, height * width, 4),
    ]
    pixels = bytes(i % 251 for i in range(height * width))
    head = b"MM\0*" + struct.pack(">I", 8 + len(pixels))
    return head + pixels + struct.pack(">H", len(tags)) + b"".join(tags) + bytes(4)


@pytest.mark.parametrize("kind", ["folder", "zip", "tar-pax", "memory"])
def test_size_of_a_tiff_is_read_from_a_part_of_it(kind, tmp_path, monkeypatch):
    contents = {
        f"top/{name}.tif": data
        for name, data in {
            "short": big_endian(70, 300, 3),
            "long": big_endian(70, 300, 4),
            "gdal": geotiff.write_geotiff(None, np.ones((70, 300, 3), np.uint8)),
        }.items()
    }
    contents["top/cut.tif"] = contents["top/short.tif"][:2000]
    contents["top/html.tif"] = b"<html>"
    path = make("folder" if kind == "memory" else kind, tmp_path, contents)
    if kind == "memory":
        fsspec.filesystem("memory").put(str(path), f"/{tmp_path.name}/x", recursive=True)
        path = f"memory://{tmp_path.name}/x"
    source = files.open_source(path)
    asked = []

    def size(name):
        def part(start, stop):
            asked.append(stop - start)
            return source.part(name, start, stop)

        return tiff.size(part, source.describe(name))

    if kind in ("folder", "memory"):  # the whole file is not read
        monkeypatch.setattr(type(source), "read", lambda *_: pytest.fail("read whole"))
    for name in ("short", "long", "gdal"):
        assert size(f"top/{name}.tif") == (70, 300)
        if kind == "folder":
            with rasterio.open(path / f"top/{name}.tif") as raster:
                assert raster.shape == (70, 300)
    assert sum(asked) < 1000
    with pytest.raises(DatasetError, match=r"cut\.tif: no height and width .* a whole TIFF"):
        size("top/cut.tif")
    with pytest.raises(DatasetError, match=r"html\.tif: begins with .* \(an HTML page"):
        size("top/html.tif")
    monkeypatch.undo()
    with pytest.raises(DatasetError, match=r"none\.tif: no such file"):
        size("top/none.tif")
    with pytest.raises(DatasetError, match="unsafe file name"):
        source.part("../x", 0, 8)
    assert source.part("top/html.tif", 2, 4) == b"tm"
    assert source.part("top/html.tif", 4, 99) == b"l>"
    assert source.part("top/html.tif", 99, 101) == b""
