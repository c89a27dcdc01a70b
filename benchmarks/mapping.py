"""A whole scene to a map: rate, where the time goes, and memory at one and at twice the height.

    python benchmarks/mapping.py                              # 1,024 columns, 2,048 and 4,096 rows
    python benchmarks/mapping.py --height=10980 --width=10980 --window=512 --overlap=64
    python benchmarks/mapping.py --compare_torch=3            # pairs with a plain PyTorch loop

A synthetic scene of 12 bands (uint16) is written as tiled GeoTIFFs: `--layout=stack`, all bands in
one file; `bands`, one file a band; `native`, those of 10, 20 and 60 m at their own size. A U-Net
with random weights (`--model`: a name in MODELS below) maps it. Each case runs in a process of its
own, whose peak resident memory (VmHWM) is told; seconds are those that the main thread waited for
the reader, computed, waited for the writer, and finished (COG, legend, preview). The rate is end to
end, with compilation; `steady` is without: over the rows after the first row of windows.
`--compare_torch=N` maps one scene N times with rsjax and with `benchmarks/torch_mapping.py` in
turn, checks that both maps are equal, and prints the median rates, and seconds of all cores.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import jax
import numpy as np
from hardware import hardware

ROOT = pathlib.Path(__file__).resolve().parent.parent
BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
GSD = {"B02": 10, "B03": 10, "B04": 10, "B08": 10, "B01": 60, "B09": 60}  # others 20 m
TILE = 512
MODELS = {
    "tiny": {"encoder_name": "resnet18", "decoder_channels": [8, 8],
             "encoder_fields": {"stem": "small", "width": 8, "stage_sizes": [1, 1]}},
    "resnet18": {"encoder_name": "resnet18"},
    "resnet50": {"encoder_name": "resnet50"},
}  # fmt: skip


def make_scene(folder: pathlib.Path, height: int, width: int, layout: str) -> list[str]:
    """Writes the scene; what --scene would say of it."""
    import rasterio

    from rsjax.datasets.simulate import fields

    rng = np.random.default_rng(0)
    ground = fields.smooth(rng, 12, TILE, 40)
    noise = rng.normal(0, 60, (12, TILE, TILE))
    pixels = np.clip(2000 + 600 * ground + noise, 1, 9000).astype(np.uint16)

    def write(name: str, bands: list[int], gsd: int) -> str:
        step = gsd // 10 if layout == "native" else 1
        rows, cols = -(-height // step), -(-width // step)
        path = folder / f"{name}.tif"
        profile = {
            "driver": "GTiff", "height": rows, "width": cols, "crs": "EPSG:32632", "tiled": True,
            "transform": rasterio.Affine(10.0 * step, 0, 600_000, 0, -10.0 * step, 100_000),
            "blockxsize": TILE, "blockysize": TILE, "compress": "deflate", "zlevel": 1,
            "predictor": 2, "count": len(bands), "dtype": "uint16", "nodata": 0,
        }  # fmt: skip
        with rasterio.open(path, "w", **profile) as file:
            for row in range(0, rows, TILE):
                for col in range(0, cols, TILE):
                    size = min(TILE, rows - row), min(TILE, cols - col)
                    window = rasterio.windows.Window(col, row, size[1], size[0])
                    file.write(pixels[bands, : size[0], : size[1]], window=window)
            for i, band in enumerate(bands, 1):
                file.set_band_description(i, BANDS[band])
        return str(path)

    if layout == "stack":
        return [write("stack", list(range(12)), 10)]
    return [write(band, [i], GSD.get(band, 20)) for i, band in enumerate(BANDS)]


def make_bundle(folder: pathlib.Path, model: str, side: int, dtype: str) -> None:
    """Writes a U-Net with random weights for 12 bands and 11 classes."""
    from rsjax import bundle, landcover, models
    from rsjax.datasets.info import ImageSpec
    from rsjax.input.preprocess import Inputs

    specs = {}
    for gsd in (10, 20, 60):
        bands = tuple(band for band in BANDS if GSD.get(band, 20) == gsd)
        px = side * 10 // gsd
        unit = "reflectance_1e4"
        specs[f"s2_{gsd}m"] = ImageSpec("sentinel2_l2a", bands, px, px, "uint16", unit, gsd, 0)
    names = tuple(f"sentinel2_l2a/{band}" for band in BANDS)
    inputs = Inputs(specs, names, (2000.0,) * 12, (600.0,) * 12, (side, side))
    classes = landcover.load("worldcover")
    fields = MODELS[model]
    module = models.get("unet", num_classes=len(classes), **fields)
    start = jax.jit(lambda key, x: module.init(key, x, False))
    variables = start(jax.random.key(0), np.zeros((1, 64, 64, 12), np.float32))
    about = {
        "model": {"name": "unet", "dtype": dtype, "fields": fields},
        "outputs": len(classes),
        "task": {"name": "segmentation", "label_smoothing": 0.0},
    }
    bundle.save(bundle.Model(dict(variables), inputs, classes, about), folder)


def one(folder: pathlib.Path, scene: list[str], window: int, overlap: int, batch: int) -> None:
    """Maps the scene and prints figures as JSON: what a process of its own does."""
    from rsjax.mapping import mapper, writer

    rows: list[tuple[float, int]] = []
    append = writer.MapWriter.write

    def timed(self, answers, missing):
        append(self, answers, missing)
        rows.append((time.perf_counter(), len(missing)))

    writer.MapWriter.write = timed
    options, begun = mapper.Options(window, overlap, batch=batch), time.process_time()
    unit = ["reflectance_1e4"]
    made = mapper.write_map(folder / "bundle", scene, folder / "map.tif", (), unit, options)
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    peak = int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    steady = None
    if len(rows) > 2:
        width = made.pixels / sum(count for _, count in rows)
        steady = sum(n for _, n in rows[1:]) * width / 1e6 / (rows[-1][0] - rows[0][0])
    print(json.dumps({
        "pixels": made.pixels, "seconds": made.seconds, "steady": steady, "peak_mb": peak,
        "shares": made.shares, "cpu": time.process_time() - begun,
    }))  # fmt: skip


def alone(folder: str, scene: list[str], name: str) -> dict:
    """Maps the scene in a process of its own; what it found."""
    case = json.dumps({"folder": folder, "scene": scene, "name": name})
    command = [sys.executable, __file__, *sys.argv[1:], f"--one={case}"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def compare(given: argparse.Namespace, folder: pathlib.Path) -> None:
    """Pairs of both on one scene: median rates, and their ratio within pairs."""
    import rasterio

    scene = make_scene(folder, given.height, given.width, "stack")
    pairs = []
    for i in range(given.compare_torch):
        names = ("map", "torch") if i % 2 == 0 else ("torch", "map")
        found = {name: alone(str(folder), scene, name) for name in names}
        pairs.append([found["map"], found["torch"]])
    maps = []
    for name in ("map", "torch"):
        with rasterio.open(folder / f"{name}.tif") as raster:
            maps.append(raster.read(1))
    same = (maps[0] == maps[1]).mean()
    if same < 0.9999:
        sys.exit(f"the maps differ in {1 - same:.2%} of the pixels, so this is no comparison")
    rates = [[one["pixels"] / 1e6 / one["seconds"] for one in pair] for pair in pairs]
    ours, theirs = (statistics.median(column) for column in zip(*rates, strict=True))
    steady = statistics.median(pair[0]["steady"] for pair in pairs)
    ratio = statistics.median(a / b for a, b in rates)
    mega = pairs[0][0]["pixels"] / 1e6
    cpu = [statistics.median(pair[i]["cpu"] for pair in pairs) for i in (0, 1)]
    print("| Mpixel | pairs | rsjax, Mpixel/s | without start | PyTorch | ratio | rsjax, core s "
          f"| PyTorch | equal pixels |\n{'|---' * 9}|")  # fmt: skip
    print(
        f"| {mega:.1f} | {len(pairs)} | {ours:.3f} | {steady:.3f} | {theirs:.3f} | {ratio:.2f} | "
        f"{cpu[0]:.1f} | {cpu[1]:.1f} | {same:.4%} |"
    )


def main() -> None:
    """Makes scenes and a bundle, and prints a row for each height."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--height", type=int, default=2048)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--layout", choices=["stack", "bands", "native"], default="native")
    parser.add_argument("--model", choices=MODELS, default="tiny")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--window", type=int, default=240)
    parser.add_argument("--overlap", type=int, default=48)
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--compare_torch", type=int, default=0, metavar="PAIRS")
    parser.add_argument("--torch_threads", type=int, default=0, help="0: as PyTorch chooses.")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        case = json.loads(given.one)
        folder, how = pathlib.Path(case["folder"]), (given.window, given.overlap)
        if case["name"] == "torch":
            import torch_mapping

            batch = given.batch or max(1, 2**16 // given.window**2)  # as ours on a CPU
            output, scene = folder / "torch.tif", case["scene"][0]
            threads = given.torch_threads
            found = torch_mapping.map_scene(folder / "bundle", scene, output, *how, batch, threads)
            print(json.dumps(found))
        else:
            one(folder, case["scene"], *how, given.batch)
        return
    if given.compare_torch and (given.model, given.dtype) != ("tiny", "float32"):
        sys.exit("--compare_torch: its network is --model=tiny --dtype=float32")
    print(f"{hardware()}\n{' '.join(sys.argv[1:])}\n")
    if given.compare_torch:
        with tempfile.TemporaryDirectory() as temporary:
            make_bundle(pathlib.Path(temporary) / "bundle", given.model, 120, given.dtype)
            compare(given, pathlib.Path(temporary))
        return
    print("| rows | Mpixel | s | Mpixel/s | steady | reading | computing | writing | finishing "
          "| peak MB |\n|" + "---|" * 10)  # fmt: skip
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        make_bundle(folder / "bundle", given.model, 120, given.dtype)
        for height in (given.height, 2 * given.height):
            scene = make_scene(folder, height, given.width, given.layout)
            found = alone(temporary, scene, "map")
            mega, shares = found["pixels"] / 1e6, found["shares"]
            steady = f"{found['steady']:.2f}" if found["steady"] else "-"
            waited = " | ".join(
                f"{shares.get(name, 0):.1f}"
                for name in ("reading", "computing", "writing", "finishing")
            )
            print(
                f"| {height} | {mega:.1f} | {found['seconds']:.1f} | "
                f"{mega / found['seconds']:.2f} | {steady} | {waited} | {found['peak_mb']:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
