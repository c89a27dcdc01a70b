"""Simulated BigEarthNet, both versions: patches of a landscape of CORINE classes."""

from __future__ import annotations

import datetime
import functools
import json
import pathlib
import struct
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio

from rsjax import landcover
from rsjax.datasets import geotiff, patches
from rsjax.datasets.simulate import fields, spectra
from rsjax.datasets.simulate.plan import Patch, chances, make_plan, pick
from rsjax.landcover import IGNORE

_SIZE = 120
# Share of the real patches with one to five labels.
_CLASSES_A_PATCH = (0.18, 0.20, 0.28, 0.21, 0.13)
_DROPPED = (122, 131, 133, 142, 332, 999)


def write_v2(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes BigEarthNet v2; see `rsjax.datasets.simulate`."""
    extra = max(1, count // 20)
    plan = make_plan(count + extra, seed)
    unclear = pick(plan, extra, seed)
    rows: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    with rasterio.Env():
        for patch in plan:
            snow = patch.index in unclear and patch.index % 2 == 0
            cloud = patch.index in unclear and not snow
            codes, optical, radar = _scenery(patch, seed, snow=snow, cloud=cloud)
            folder = target / "BigEarthNet-S2" / patch.product / patch.name
            _write_s2(folder, patch.name, patch, optical, nodata=0)
            folder = target / "BigEarthNet-S1" / patch.scene.radar / patch.radar_name
            _write_s1(folder, patch, radar)
            folder = target / "Reference_Maps" / patch.product / patch.name
            folder.mkdir(parents=True)
            _write_map(folder / f"{patch.name}_reference_map.tif", codes, patch)
            rows[patch.index in unclear].append({
                "patch_id": patch.name,
                "labels": _labels(codes, "bigearthnet19"),
                "split": patch.split,
                "country": patch.scene.country,
                "s1_name": patch.radar_name,
                "s2v1_name": patch.name_v1,
                "contains_seasonal_snow": snow,
                "contains_cloud_or_shadow": cloud,
            })  # fmt: skip
    _write_parquet(target / "metadata.parquet", rows[False])
    _write_parquet(target / "metadata_for_patches_with_snow_cloud_or_shadow.parquet", rows[True])


def write_v1(target: pathlib.Path, count: int, seed: int) -> None:
    """Writes BigEarthNet v1; see `rsjax.datasets.simulate`."""
    lines: dict[str, list[str]] = {"train": [], "validation": [], "test": []}
    with rasterio.Env():
        for patch in make_plan(count, seed):
            codes, optical, radar = _scenery(patch, seed)
            folder = target / "BigEarthNet-v1.0" / patch.name_v1
            _write_s2(folder, patch.name_v1, patch, optical, nodata=None)
            note = _note(patch, codes, "lry")
            time = datetime.datetime.strptime(patch.scene.time, "%Y%m%dT%H%M%S")
            note["tile_source"] = f"{patch.product}_{patch.scene.time}.SAFE"
            note["acquisition_date"] = str(time)
            (folder / f"{patch.name_v1}_labels_metadata.json").write_text(json.dumps(note))
            folder = target / "BigEarthNet-S1-v1.0" / patch.radar_name
            _write_s1(folder, patch, radar)
            note = _note(patch, codes, "lly")
            note["corresponding_s2_patch"] = patch.name_v1
            note["scene_source"] = patch.scene.radar
            note["acquisition_time"] = time.isoformat()
            (folder / f"{patch.radar_name}_labels_metadata.json").write_text(json.dumps(note))
            lines[patch.split].append(f"{patch.name_v1},{patch.radar_name}\n")
    for split, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        (target / f"{name}.csv").write_text("".join(lines[split]))


@functools.cache
def _tables() -> tuple[np.ndarray, dict[int, list[int]]]:
    """Spectrum of each CORINE code (1000, 15); the CORINE codes of each of the 19 classes."""
    table = np.zeros((1000, len(spectra.BANDS)), np.float32)
    for code, spectrum in spectra.corine().items():
        table[code] = spectrum
    corine = landcover.load("corine_l3")
    walk = patches.crosswalk("corine_l3", "bigearthnet19")[: len(corine)].tolist()
    members: dict[int, list[int]] = {}
    for code, index in zip(corine.codes, walk, strict=True):
        members.setdefault(index, []).append(code)
    return table, members


def _scenery(
    patch: Patch, seed: int, snow: bool = False, cloud: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes uint16 (120, 120), optical float32 (120, 120, 13), radar float32 (120, 120, 2)."""
    rng = np.random.default_rng([seed, 2, patch.index])
    table, members = _tables()
    number = 1 + int(rng.choice(len(_CLASSES_A_PATCH), p=_CLASSES_A_PATCH))
    others = rng.choice(19, number - 1, p=chances(), replace=False).tolist()
    classes = [patch.wanted, *(c for c in others if c != patch.wanted)]
    codes = [int(rng.choice(members[c])) for c in classes]
    lift = [0.8] + [0.0] * (len(codes) - 1)
    if rng.random() < 0.15:  # a little of what the 19 classes leave out
        codes.append(int(rng.choice(_DROPPED)))
        lift.append(-1.2)
    regions = (
        fields.smooth(rng, len(codes), _SIZE, 14.0) + np.array(lift, np.float32)[:, None, None]
    )
    found = np.array(codes, np.uint16)[regions.argmax(axis=0)]
    if not (found == codes[0]).any():
        found[:40, :40] = codes[0]
    # The official rule keeps a patch only if less than a quarter has no class.
    if np.isin(found, members[IGNORE] + [999]).mean() >= 0.25:
        found[np.isin(found, members[IGNORE] + [999])] = codes[0]
    values = table[found]
    optical, radar = values[..., :13], values[..., 13:]
    light = np.float32(rng.normal(1.0, 0.05)) + 0.08 * fields.smooth(rng, 1, _SIZE, 3.0)[0]
    noise = rng.standard_normal(optical.shape, np.float32)
    noise *= 15.0 + 0.02 * optical
    optical = optical * light[..., None] + noise
    if snow or cloud:
        cover = np.clip(fields.smooth(rng, 1, _SIZE, 20.0)[0] + 0.5, 0, 1)[..., None]
        white = spectra.MATERIALS["snow" if snow else "roof"][:13] * np.float32(1 + 2 * cloud)
        optical = optical * (1 - cover) + white * cover
    speckle = 10 * np.log10(
        rng.standard_gamma(4.4, radar.shape, np.float32) / 4.4 + np.float32(1e-4)
    )
    return found, optical, radar + speckle


def _labels(codes: np.ndarray, nomenclature: str) -> list[str]:
    """The distinct class names of a map: alphabetical for the 19 classes, else in code order."""
    corine, wanted = landcover.load("corine_l3"), landcover.load(nomenclature)
    found = patches.crosswalk("corine_l3", nomenclature)[np.unique(corine.encode(codes))]
    names = [wanted.names[i] for i in np.unique(found[found != IGNORE])]
    return sorted(names) if nomenclature == "bigearthnet19" else names


def _write_s2(
    folder: pathlib.Path, name: str, patch: Patch, optical: np.ndarray, nodata: float | None
) -> None:
    folder.mkdir(parents=True)
    for bands, size, _ in patches.S2_GROUPS.values():
        step = _SIZE // size
        image = optical[..., [spectra.BANDS.index(band) for band in bands]]
        image = image.reshape(size, step, size, step, len(bands)).mean(axis=(1, 3))
        image = np.clip(np.rint(image), 1, 65535).astype(np.uint16)
        for i, band in enumerate(bands):
            _write(folder / f"{name}_{band}.tif", image[..., i], patch, nodata)


def _write_s1(folder: pathlib.Path, patch: Patch, radar: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for i, band in enumerate(patches.S1_BANDS):
        _write(folder / f"{patch.radar_name}_{band}.tif", radar[..., i], patch, None)


def _write(path: pathlib.Path, image: np.ndarray, patch: Patch, nodata: float | None) -> None:
    head, tail, place = _template(image.shape[0], image.dtype.str, patch.scene.epsg, nodata)
    corner = struct.pack("<2d", *patch.corner)
    head = head[:place] + corner + head[place + len(corner) :]
    path.write_bytes(head + np.ascontiguousarray(image).tobytes() + tail)


@functools.cache
def _template(size: int, dtype: str, epsg: int, nodata: float | None) -> tuple[bytes, bytes, int]:
    """What GDAL writes before and after the pixels, and where in it the corner stands.

    Files of one kind differ in corner and pixels only; putting these into a template is ten times
    as fast as writing each with GDAL.
    """
    corner, gsd = (1.25, 2.5), patches.EXTENT_M / size
    pixels = np.arange(size * size, dtype=dtype).reshape(size, size)
    written = geotiff.write_geotiff(
        None,
        pixels,
        crs=_crs(epsg),
        transform=(gsd, 0.0, corner[0], 0.0, -gsd, corner[1]),
        nodata=nodata,
    )
    assert written is not None
    start = written.index(pixels.tobytes())
    place = written.index(struct.pack("<2d", *corner))
    assert place < start
    return written[:start], written[start + pixels.nbytes :], place


def _write_map(path: pathlib.Path, codes: np.ndarray, patch: Patch) -> None:
    x, y = patch.corner
    geotiff.write_geotiff(
        path,
        codes,
        crs=_crs(patch.scene.epsg),
        transform=(10.0, 0.0, x, 0.0, -10.0, y),
        nodata=0,
        compress="deflate",
        predictor=2,
    )


@functools.cache
def _crs(epsg: int) -> Any:
    return rasterio.CRS.from_epsg(epsg)


def _note(patch: Patch, codes: np.ndarray, last: str) -> dict[str, Any]:
    """The part of a version 1 JSON that both sensors have; the archive misspells a key in one."""
    x, y = (int(value) for value in patch.corner)
    side = int(patches.EXTENT_M)
    return {
        "labels": _labels(codes, "bigearthnet43"),
        "coordinates": {"ulx": x, "uly": y, "lrx": x + side, last: y - side},
        "projection": _crs(patch.scene.epsg).to_wkt(),
    }


def _write_parquet(path: pathlib.Path, rows: list[dict[str, Any]]) -> None:
    text, flag = pa.string(), pa.bool_()
    schema = pa.schema({
        "patch_id": text, "labels": pa.list_(pa.field("element", text)), "split": text,
        "country": text, "s1_name": text, "s2v1_name": text,
        "contains_seasonal_snow": flag, "contains_cloud_or_shadow": flag,
    })  # fmt: skip
    table = pa.Table.from_pylist(rows, schema).sort_by("patch_id")
    pq.write_table(table, path, compression="zstd", version="1.0")
