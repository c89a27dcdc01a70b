"""Damage to downloads of the other datasets: the same faults, one row each over all of them."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Callable

import numpy as np

from fault.lab import Lab, Row, copy, cut, flip

# dataset: (files of images, files of labels); the labels of the others are in no file of their own
FILES = {
    "epfl_roofs": ("train/images/*.png", "train/labels/*.png"),
    "inria": ("*/train/images/*.tif", "*/train/gt/*.tif"),
    "levir_cd": ("train/A/*.png", "train/label/*.png"),
    "massachusetts_buildings": ("*/train/sat/*.tiff", "*/train/map/*.tif"),
    "multisenge": ("s2/*.tif", "ground_reference/*.tif"),
    "openearthmap": ("*/*/images/*.tif", "*/*/labels/*.tif"),
    "oscd": ("* - Images/*/imgs_1_rect/B04.tif", "* - Train Labels/*/cm/cm.png"),
    "pastis": ("*/DATA_S2/*.npy", "*/ANNOTATIONS/TARGET*.npy"),
    "scenes": ("west/B04.tif", "landcover.tif"),
    "seasonet": ("*/*/*/*_10m_RGB.tif", "*/*/*/*_labels.tif"),
    "sen12ms": ("*/s2_*/*.tif", "*/lc_*/*.tif"),
    "sen2lulc": ("*/train_images/*/*.png", "*/train_masks/*/*.tif"),
    "spacenet2": ("*/MUL-PanSharpen/*.tif", "*/geojson/buildings/*.geojson"),
    "ucmerced": ("*/Images/*/*.tif", ""),
}
RECORDS = ("forty", "planted")  # TFRecord files
UNKNOWN = 251  # a code of no nomenclature

Damage = Callable[[pathlib.Path], None]


def _download(lab: Lab, name: str) -> pathlib.Path:
    from rsjax.datasets.simulate import simulate

    folder = lab.folder / f"download-{name}"
    if not folder.exists():
        simulate(name, folder, 24, seed=1)
    return folder


def _refused(lab: Lab, row: Row, name: str, pattern: str, damage: Damage) -> None:
    """Damages one file of a download; prepare must name it, and leave no manifest."""
    source, data = copy(_download(lab, name), lab.folder / "collection"), lab.fresh("collection")
    files = [file for file in sorted(source.glob(pattern)) if _read(name, file)]
    victim = files[int(lab.rng.integers(0, len(files)))]
    damage(victim)
    ended = lab.start("rsjax.prepare", f"--dataset={name}", f"--source={source}",
                      f"--data_dir={data}", "--workers=1").wait(120)  # fmt: skip
    row.tries += 1
    row.heard(ended)
    if not ended.clear:
        print(f"{name}: unclear: {ended.text[-300:]}", flush=True)
    if ended.code == 0:
        row.wrong += 1
        print(f"{name}: {victim.relative_to(source)} was not noticed", flush=True)
    row.lost += bool(list(data.rglob("manifest.json")))
    # Of two files that belong together, the one that is there and the sample's number are named.
    sample = victim.stem.rpartition("_")[2] if name == "spacenet2" else victim.stem
    if ended.code == 0 or sample not in ended.text:
        row.unclear += 1
        print(f"{name}: {victim.relative_to(source)} is not named: {ended.text[-300:]}", flush=True)
    shutil.rmtree(data, ignore_errors=True)


def _read(name: str, file: pathlib.Path) -> bool:
    """Whether prepare reads a file; OpenEarthMap's test images have no labels and are left out."""
    pair = file.parents[1] / "labels" / file.name
    return name != "openearthmap" or pair.exists()


def _array(path: pathlib.Path, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Rewrites an image file with other pixels, (..., bands, rows, columns); a PNG's as PIL's."""
    if path.suffix == ".npy":
        np.save(path, change(np.load(path)))
    elif path.suffix == ".png":
        from PIL import Image

        with Image.open(path) as image:
            pixels = np.asarray(image)
        Image.fromarray(np.ascontiguousarray(change(pixels))).save(path)
    else:
        import rasterio

        with rasterio.open(path) as raster:
            profile, pixels = raster.profile, change(raster.read())
        profile.update(count=len(pixels), height=pixels.shape[1], width=pixels.shape[2])
        if not (profile["blockxsize"] % 16 == 0 and profile["blockysize"] % 16 == 0):
            profile["tiled"] = False
            profile.pop("blockxsize"), profile.pop("blockysize")
        with rasterio.open(path, "w", **profile) as raster:
            raster.write(pixels)


def _other_shape(pixels: np.ndarray) -> np.ndarray:
    """With another number of bands; an image with the bands last loses a row."""
    if pixels.ndim == 3 and len(pixels) == 1:
        return np.repeat(pixels, 2, axis=0)
    if pixels.shape[-1] > 4:
        return pixels[..., :-1, :, :]
    return pixels[:-1]


def _unknown(pixels: np.ndarray) -> np.ndarray:
    changed = np.array(pixels)
    changed.reshape(-1)[: changed.shape[-1]] = UNKNOWN
    return changed


@dataclasses.dataclass(frozen=True)
class Fault:
    """One fault of all datasets: what is done to which file, and who cannot have it."""

    title: str
    labels: bool
    damage: Damage
    without: tuple[str, ...] = ()


def _half(path: pathlib.Path) -> None:
    cut(path, path.stat().st_size // 2)


FAULTS = {
    "image_cut": Fault("image file cut in half, each dataset", False, _half),
    "image_missing": Fault("image file missing, each dataset but UC Merced", False,
                           pathlib.Path.unlink, without=("ucmerced",)),  # which has no list
    "image_bands": Fault("image with other bands (PNG: a row less), each dataset", False,
                         lambda path: _array(path, _other_shape)),
    "label_cut": Fault("label file cut in half, each dataset", True, _half),
    "label_missing": Fault("label file missing, each dataset", True, pathlib.Path.unlink),
    "label_code": Fault(f"code {UNKNOWN} in a label file, each dataset", True,
                        lambda path: _array(path, _unknown), without=("spacenet2",)),
}  # fmt: skip


def _case(fault: Fault) -> Callable[[Lab, int], Row]:
    def case(lab: Lab, _: int) -> Row:
        row = Row(fault.title)
        for name, (images, labels) in FILES.items():
            pattern = labels if fault.labels else images
            if pattern and name not in fault.without:
                _refused(lab, row, name, pattern, fault.damage)
        return row

    return case


def tfrecord_flips(lab: Lab, tries: int) -> Row:
    """One bit of a TFRecord file."""
    row = Row("bit flip in a TFRecord file")
    for number in range(tries):
        name = RECORDS[number % len(RECORDS)]
        _refused(lab, row, name, "**/*.tfrecord-*", lambda path: flip(path, lab.rng))
    return row


def tfrecord_cuts(lab: Lab, tries: int) -> Row:
    """A TFRecord file cut short."""
    row = Row("TFRecord file cut short")
    for number in range(tries):
        name = RECORDS[number % len(RECORDS)]
        _refused(lab, row, name, "**/*.tfrecord-*",
                 lambda path: cut(path, int(lab.rng.integers(1, path.stat().st_size))))  # fmt: skip
    return row


CASES = {name: _case(fault) for name, fault in FAULTS.items()} | {
    f.__name__: f for f in (tfrecord_flips, tfrecord_cuts)
}
