"""Cutting a whole scene into patches: memory, rate, and what a second process brings.

    python benchmarks/scenes.py                     # 10,980 x 10,980 x 12, 2.9 GB of pixels
    python benchmarks/scenes.py --labels=ESA_WorldCover_10m_2021_v200_N00E006_Map.tif

A synthetic scene is written as tiled GeoTIFFs (`--layout=bands`: one file a band; `stack`: all
bands of a pixel together), with labels on its own grid, or with `--labels` a WorldCover tile that
is reprojected as it is read: the scene then lies on that tile's middle. Each case runs in processes
of its own, whose peak resident memory (VmHWM) is told. MB are megabytes of pixels given out.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
os.environ["JAX_PLATFORMS"] = os.environ.get("JAX_PLATFORMS", "cpu")

import numpy as np
from hardware import hardware

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
TILE = 512


def make(folder: pathlib.Path, size: int, layout: str, labels: str) -> None:
    """Writes the scene and its `scenes.json`."""
    import rasterio
    from rasterio.warp import transform
    from rasterio.windows import Window

    from rsjax.datasets import scene_list
    from rsjax.datasets.scene_list import BandFile, Grid, Labels, Scene, SceneList
    from rsjax.datasets.simulate import fields

    crs, left, top = "EPSG:32632", 600_000.0, 100_000.0
    if labels:
        with rasterio.open(labels) as tile:
            box, source = tile.bounds, tile.crs
        middle = (box.left + box.right) / 2, (box.bottom + box.top) / 2
        x, y = transform(source, crs, [middle[0]], [middle[1]])
        left, top = round(x[0] - size * 5, -1), round(y[0] + size * 5, -1)
        (folder / "map.tif").write_bytes(pathlib.Path(labels).read_bytes())
    rng = np.random.default_rng(0)
    ground = fields.smooth(rng, 12, TILE, 40)
    noise = rng.normal(0, 60, (12, TILE, TILE))
    pixels = np.clip(2000 + 600 * ground + noise, 1, 9000).astype(np.uint16)
    classes = np.array([10, 30, 40, 50, 80], np.uint8)[ground[:5].argmax(axis=0)]
    common = {
        "driver": "GTiff", "height": size, "width": size, "crs": crs, "tiled": True,
        "transform": rasterio.Affine(10, 0, left, 0, -10, top), "blockxsize": TILE,
        "blockysize": TILE, "compress": "deflate", "zlevel": 1, "predictor": 2,
    }  # fmt: skip

    def write(name: str, planes: np.ndarray, **more: object) -> None:
        profile = {**common, "count": len(planes), "dtype": planes.dtype, **more}
        with rasterio.open(folder / name, "w", **profile) as raster:
            for row in range(0, size, TILE):
                for col in range(0, size, TILE):
                    height, width = min(TILE, size - row), min(TILE, size - col)
                    # Turned, so that tiles differ; the same bytes would all stay in a cache.
                    turned = np.roll(planes, (row // 7, col // 11), axis=(1, 2))
                    window = Window(col, row, width, height)
                    raster.write(turned[:, :height, :width], window=window)

    if layout == "bands":
        for band, plane in zip(BANDS, pixels, strict=True):
            write(f"{band}.tif", plane[None])
        files = tuple(BandFile(f"{band}.tif", (band,)) for band in BANDS)
    else:
        write("all.tif", pixels, interleave="pixel")
        files = (BandFile("all.tif", BANDS),)
    if not labels:
        write("map.tif", classes[None])
    scene_list.write(
        SceneList(
            sensor="sentinel2_l2a", unit="reflectance_1e4", nodata=0.0, grid=Grid(patch_px=120),
            scenes=(Scene("scene", files=files),), labels=Labels("worldcover", raster=("map.tif",)),
            bands=BANDS,
        ),
        folder / "scenes.json",
    )  # fmt: skip


def child(folder: str, part: int, parts: int, most: int) -> None:
    """Finds the patches, then reads every `parts`-th stretch of them; prints what it took."""
    from rsjax.datasets.own_scenes import OwnScenes

    dataset = OwnScenes(folder)
    start = time.perf_counter()
    keys = sorted(
        (key for split in dataset.info.splits for key in dataset.keys(split)),
        key=lambda key: tuple(map(int, key.rpartition("@")[2].split("_"))),
    )[:most]
    found = time.perf_counter() - start
    print("ready", flush=True)
    sys.stdin.readline()  # all start together
    mine = keys[len(keys) * part // parts : len(keys) * (part + 1) // parts]
    start, cpu, total = time.perf_counter(), time.process_time(), 0
    for key in mine:
        example = dataset.read(key)
        total += example["image"].nbytes + example["mask"].nbytes
    told = {"found_s": found, "patches": len(mine), "bytes": total, "peak_mb": peak_mb(),
            "cpu_s": time.process_time() - cpu, "read_s": time.perf_counter() - start}  # fmt: skip
    print(json.dumps(told))


def peak_mb() -> float:
    """Peak resident memory of this process."""
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def windows(path: str) -> None:
    """Reads a raster in windows of 1,024 rows; prints what it took."""
    from rsjax.datasets import raster

    with raster.open_raster(path) as opened:
        start, total = time.perf_counter(), 0
        for row in range(0, opened.height, 1024):
            height = min(1024, opened.height - row)
            total += raster.read_window(opened, path, 1, row, 0, height, opened.width).nbytes
    print(json.dumps({"bytes": total, "s": time.perf_counter() - start, "peak_mb": peak_mb()}))


def run(folder: str, parts: int, most: int) -> list[dict[str, float]]:
    """What each of so many processes told."""
    commands = [[sys.executable, __file__, "--child", folder, str(i), str(parts), str(most)]
                for i in range(parts)]  # fmt: skip
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(c, stdin=pipe, stdout=pipe, text=True) for c in commands]
    for process in processes:
        if process.stdout.readline().strip() != "ready":  # type: ignore[union-attr]
            raise RuntimeError("a process ended early; its error is above")
    return [json.loads(p.communicate()[0]) for p in _released(processes)]


def _released(processes: list[subprocess.Popen[str]]) -> list[subprocess.Popen[str]]:
    """Lets all processes go on before the first is waited for."""
    for process in processes:
        process.stdin.write("go\n")  # type: ignore[union-attr]
        process.stdin.flush()  # type: ignore[union-attr]
    return processes


def main() -> None:
    """Writes the scene, runs the cases, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=10980, help="pixels a side")
    parser.add_argument("--layout", choices=("bands", "stack"), default="bands")
    parser.add_argument("--labels", default="", help="a WorldCover tile")
    parser.add_argument("--patches", type=int, default=10**9, help="read at most so many")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--windows", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child[0], *map(int, args.child[1:]))
        return
    if args.windows:
        windows(args.windows)
        return
    print(hardware())
    if args.labels:
        told = json.loads(
            subprocess.check_output([sys.executable, __file__, "--windows", args.labels])
        )
        print(f"tile in windows: {told['bytes'] / told['s'] / 1e6:.0f} MB/s, "
              f"peak {told['peak_mb']:.0f} MB")  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        make(pathlib.Path(folder), args.size, args.layout, args.labels)
        disk = sum(f.stat().st_size for f in pathlib.Path(folder).iterdir()) / 1e6
        print(f"scene of {args.size} px, 12 bands, {args.layout}: {disk:.0f} MB on disk, "
              f"written in {time.perf_counter() - start:.0f} s")  # fmt: skip
        rates = []
        for parts in (1, 2):
            told = run(folder, parts, args.patches)
            slowest = max(one["read_s"] for one in told)
            rates.append(sum(one["bytes"] for one in told) / slowest / 1e6)
            cpu = sum(one["bytes"] for one in told) / sum(one["cpu_s"] for one in told) / 1e6
            print(f"{parts} process(es): patches found in {told[0]['found_s']:.1f} s, "
                  f"{sum(one['patches'] for one in told):.0f} read at {rates[-1]:.0f} MB/s "
                  f"({cpu:.0f} MB a second of CPU), "
                  f"peak {max(one['peak_mb'] for one in told):.0f} MB each")  # fmt: skip
        print(f"two processes against one: {rates[1] / rates[0]:.2f}")


if __name__ == "__main__":
    main()
