"""A map and what lies beside it, written by rows and there as a whole or not at all.

Rows go into tiled GeoTIFFs in a hidden folder beside the output; at the end these are turned into
Cloud-Optimised GeoTIFFs, described, drawn, and renamed, the map itself last. An interrupted run
leaves at most that hidden folder, which the next run with the same output removes: it starts anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from xml.sax import saxutils

import numpy as np
import rasterio
import rasterio.shutil
from rasterio.windows import Window

from rsjax import lock, sealed
from rsjax.datasets.scene_area import Area
from rsjax.errors import ConfigError
from rsjax.landcover import Nomenclature
from rsjax.mapping import preview, qgis

NOMENCLATURE_TAG, PROVENANCE_TAG = "RSJAX_NOMENCLATURE", "RSJAX_PROVENANCE"
MEANING_TAG = "RSJAX_CONFIDENCE"
ABSENT = 255  # nodata of confidence and probabilities
STEPS = 250  # the byte of probability 1: steps of 0.004
BLOCK = 512
_CACHE = {"GDAL_CACHEMAX": 64 * 2**20}
_MEANING = {
    "probability": "probability of the class",
    "margin": "probability of the class less that of the next",
    "entropy": "1 - entropy / log(number of classes)",
}


def code_table(classes: Nomenclature) -> tuple[np.ndarray, int]:
    """Class index -> code as written, uint8 or uint16, and the code of pixels without data."""
    codes = np.array(classes.codes)
    absent = 0 if 0 not in classes.codes else 255
    wide = codes.max() > 255 or absent in classes.codes
    if wide and absent:
        absent = 65535
    return codes.astype(np.uint16 if wide else np.uint8), absent


class MapWriter:
    """Takes the rows of a map, top to bottom; `open_writer` makes it.

    Attributes:
        output: where the map will be.
    """

    def __init__(
        self,
        folder: pathlib.Path,
        output: pathlib.Path,
        area: Area,
        classes: Nomenclature,
        provenance: Mapping[str, Any],
        confidence: str,
        probabilities: bool,
    ):
        self.output, self._folder, self._area, self._classes = output, folder, area, classes
        self._codes, self._absent = code_table(classes)
        about = {PROVENANCE_TAG: json.dumps(provenance)}
        named = {NOMENCLATURE_TAG: json.dumps(classes.to_json()), **about}
        self._rasters = {
            "": _Raster(
                folder / output.name, area, self._codes.dtype, self._absent, named, ["class"]
            )
        }
        colours = {int(code): rgb(c) for code, c in zip(self._codes, classes.colours, strict=True)}
        self._rasters[""].colour(colours)
        if confidence != "none":
            tags = {**about, MEANING_TAG: f"{confidence}: {_MEANING[confidence]}"}
            self._rasters["confidence"] = self._bytes("confidence", tags, ["confidence"])
        if probabilities:
            self._rasters["probabilities"] = self._bytes("probabilities", named, classes.names)

    def _bytes(self, name: str, tags: dict[str, str], described: Sequence[str]) -> _Raster:
        path = self._folder / beside(self.output, name).name
        raster = _Raster(path, self._area, np.dtype(np.uint8), ABSENT, tags, described)
        raster.scale(1 / STEPS)
        return raster

    def write(self, answers: Mapping[str, np.ndarray], missing: np.ndarray) -> None:
        """Appends rows.

        Args:
            answers: uint8 'classes' (rows, columns), and as asked for 'confidence' likewise and
                'probabilities' (rows, columns, K).
            missing: bool (rows, columns), where there is no data.

        Raises:
            DiskError: they cannot be written.
        """
        with sealed.writing(self.output):
            codes = np.where(
                missing, self._codes.dtype.type(self._absent), self._codes[answers["classes"]]
            )
            self._rasters[""].append(codes[None])
            if "confidence" in self._rasters:
                values = np.where(missing, np.uint8(ABSENT), answers["confidence"])
                self._rasters["confidence"].append(values[None])
            if "probabilities" in self._rasters:
                values = np.moveaxis(answers["probabilities"], -1, 0)
                self._rasters["probabilities"].append(np.where(missing, np.uint8(ABSENT), values))

    def finish(self) -> list[pathlib.Path]:
        """Writes what lies beside the map and gives all their final names.

        Returns:
            The files, the map first.

        Raises:
            DiskError: they cannot be written.
        """
        made = self._folder / "made"
        with sealed.writing(self.output):
            made.mkdir()
            for name, raster in self._rasters.items():
                raster.close()
                _to_cog(raster.path, made / raster.path.name, "average" if name else "mode")
                raster.path.unlink()
            final = made / self.output.name
            used = dict(zip(self._codes.tolist(), self._classes.names, strict=True))
            (made / f"{final.name}.aux.xml").write_text(_categories(used))
            (made / self.output.with_suffix(".qml").name).write_text(qgis.style(self._classes))
            preview.draw(final, self._classes, made / self.output.with_suffix(".png").name)
            files = sorted(made.iterdir(), key=lambda path: path.name == self.output.name)
            for path in files:
                sealed.sync(path)
            for name in ("confidence", "probabilities"):  # of an older map
                if name not in self._rasters:
                    beside(self.output, name).unlink(missing_ok=True)
            for path in files:
                os.replace(path, self.output.parent / path.name)
            sealed.sync(self.output.parent)
        return [self.output.parent / path.name for path in reversed(files)]

    def close(self) -> None:
        """Lets go of the files."""
        for raster in self._rasters.values():
            with contextlib.suppress(Exception):  # they are to be removed
                raster.close()


def beside(output: pathlib.Path, name: str) -> pathlib.Path:
    """`map.tif` -> `map_confidence.tif`."""
    return output.with_name(f"{output.stem}_{name}{output.suffix}")


def check_output(output: str | os.PathLike[str], scene: Sequence[str]) -> pathlib.Path:
    """The path of a map to be; refuses another extension, and names that the scene's files have.

    Raises:
        ConfigError: says which.
    """
    path = pathlib.Path(os.path.abspath(output))
    if path.suffix.lower() not in (".tif", ".tiff") or path.is_dir():
        raise ConfigError(f"output={output}: expected the name of a file, e.g. map.tif")
    taken = {os.path.realpath(file) for file in scene}
    for one in (path, beside(path, "confidence"), beside(path, "probabilities")):
        if os.path.realpath(one) in taken:
            raise ConfigError(f"output={output}: {one} is a file of the scene; choose another name")
    return path


@contextlib.contextmanager
def open_writer(output: pathlib.Path, *given: Any, **options: Any) -> Iterator[MapWriter]:
    """A `MapWriter` in a hidden folder that is gone afterwards, whatever happens.

    Raises:
        RsjaxError: another process writes the same map.
        DiskError: the folder cannot be made.
    """
    folder = output.with_name(f".{output.name}.tmp")
    with sealed.writing(output):
        output.parent.mkdir(parents=True, exist_ok=True)
    with lock.exclusive(folder):
        try:
            with sealed.writing(output):
                for leftover in folder.iterdir():  # of a process that was killed
                    if leftover.name != ".lock":
                        _remove(leftover)
                writer = MapWriter(folder, output, *given, **options)
            try:
                yield writer
            finally:
                writer.close()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _remove(path: pathlib.Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def rgb(colour: str) -> tuple[int, int, int]:
    """`#rrggbb` as three numbers."""
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


class _Raster:
    """A tiled GeoTIFF that takes rows and writes whole blocks."""

    def __init__(
        self,
        path: pathlib.Path,
        area: Area,
        dtype: np.dtype,
        nodata: int,
        tags: Mapping[str, str],
        described: Sequence[str],
    ):
        self.path = path
        self._pending: list[np.ndarray] = []
        self._row = 0
        with rasterio.Env(**_CACHE):
            self._file = rasterio.open(
                path, "w", driver="GTiff", dtype=dtype, count=len(described), height=area.height,
                width=area.width, crs=area.crs, transform=area.transform, nodata=nodata, tiled=True,
                blockxsize=BLOCK, blockysize=BLOCK, compress="deflate", zlevel=1,
                interleave="band", bigtiff="IF_SAFER", num_threads="ALL_CPUS",
            )  # fmt: skip
        self._file.update_tags(**tags)
        for i, text in enumerate(described, 1):
            self._file.set_band_description(i, text)

    def colour(self, colours: Mapping[int, tuple[int, int, int]]) -> None:
        """Gives codes their colours."""
        self._file.write_colormap(1, {code: (*c, 255) for code, c in colours.items()})

    def scale(self, scale: float) -> None:
        """Says what a value is to be multiplied by."""
        self._file.scales = (scale,) * self._file.count

    def append(self, rows: np.ndarray) -> None:
        """Adds rows (bands, rows, columns)."""
        self._pending.append(rows)
        count = sum(one.shape[1] for one in self._pending)
        if count >= BLOCK or self._row + count == self._file.height:
            self._flush(count if self._row + count == self._file.height else count // BLOCK * BLOCK)

    def _flush(self, count: int) -> None:
        rows = np.concatenate(self._pending, axis=1)
        with rasterio.Env(**_CACHE):
            window = Window(0, self._row, rows.shape[2], count)
            self._file.write(rows[:, :count], window=window)
        self._row += count
        self._pending = [rows[:, count:].copy()]

    def close(self) -> None:
        """Writes what GDAL still holds."""
        self._file.close()


def _to_cog(source: pathlib.Path, target: pathlib.Path, resampling: str) -> None:
    try:
        with rasterio.Env(**_CACHE):
            rasterio.shutil.copy(
                source, target, driver="COG", compress="DEFLATE", blocksize=BLOCK,
                overview_resampling=resampling.upper(), bigtiff="IF_SAFER", num_threads="ALL_CPUS",
            )  # fmt: skip
        _check_whole(target)
    except Exception as error:
        raise OSError(f"no COG could be made of it: {error}") from error


def _check_whole(path: pathlib.Path) -> None:
    """Refuses a file whose last tiles are not there: GDAL may not say so when a disk is full."""
    size = path.stat().st_size
    with rasterio.open(path, driver="GTiff") as raster:
        for y in range(-(-raster.height // BLOCK)):
            for x in range(-(-raster.width // BLOCK)):
                for band in range(1, raster.count + 1):
                    offset, length = (
                        int(raster.get_tag_item(f"BLOCK_{what}_{x}_{y}", "TIFF", bidx=band) or 0)
                        for what in ("OFFSET", "SIZE")
                    )
                    if not 0 < offset < offset + length <= size:
                        raise OSError(f"tile {y}, {x} of band {band} was not written")


def _categories(names: Mapping[int, str]) -> str:
    """GDAL's side-car with the names of codes, which a GeoTIFF has no place for."""
    rows = "".join(
        f"      <Category>{saxutils.escape(names.get(code, ''))}</Category>\n"
        for code in range(max(names) + 1)
    )
    return (
        '<PAMDataset>\n  <PAMRasterBand band="1">\n    <CategoryNames>\n'
        f"{rows}    </CategoryNames>\n  </PAMRasterBand>\n</PAMDataset>\n"
    )
