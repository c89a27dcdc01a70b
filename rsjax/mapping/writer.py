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

import numpy as np

from rsjax import lock, sealed
from rsjax.datasets.scene_area import Area
from rsjax.errors import ConfigError
from rsjax.landcover import Nomenclature
from rsjax.mapping import preview, qgis
from rsjax.mapping.geotiff import RowWriter, categories, to_cog

NOMENCLATURE_TAG, PROVENANCE_TAG = "RSJAX_NOMENCLATURE", "RSJAX_PROVENANCE"
MEANING_TAG = "RSJAX_CONFIDENCE"
ABSENT = 255  # nodata of confidence and probabilities
STEPS = 250  # the byte of probability 1: steps of 0.004
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
        scratch: a folder for what is needed until then; it is removed with all in it.
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
        self.scratch = folder
        self._codes, self._absent = code_table(classes)
        about = {PROVENANCE_TAG: json.dumps(provenance)}
        named = {NOMENCLATURE_TAG: json.dumps(classes.to_json()), **about}
        self._rasters = {
            "": RowWriter(
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

    def _bytes(self, name: str, tags: dict[str, str], described: Sequence[str]) -> RowWriter:
        path = self._folder / beside(self.output, name).name
        raster = RowWriter(path, self._area, np.dtype(np.uint8), ABSENT, tags, described)
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

    def finish(self, more: Mapping[str, bytes] | None = None) -> list[pathlib.Path]:
        """Writes what lies beside the map and gives all their final names.

        Args:
            more: name -> content of other files to be written beside it.

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
                to_cog(raster.path, made / raster.path.name, "average" if name else "mode")
                raster.path.unlink()
            final = made / self.output.name
            used = dict(zip(self._codes.tolist(), self._classes.names, strict=True))
            (made / f"{final.name}.aux.xml").write_text(categories(used))
            (made / self.output.with_suffix(".qml").name).write_text(qgis.style(self._classes))
            preview.draw(final, self._classes, made / self.output.with_suffix(".png").name)
            for name, content in (more or {}).items():
                (made / name).write_bytes(content)
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


def files_of(output: pathlib.Path) -> list[pathlib.Path]:
    """Every file that a map may consist of, the map first."""
    return [
        output,
        beside(output, "confidence"),
        beside(output, "probabilities"),
        output.with_name(f"{output.name}.aux.xml"),
        output.with_suffix(".qml"),
        output.with_suffix(".png"),
    ]


def check_output(output: str | os.PathLike[str], scene: Sequence[str]) -> pathlib.Path:
    """The path of a map to be; refuses another extension, and names that the scene's files have.

    Args:
        output: the map.
        scene: files that are read, none of which the map or what lies beside it may replace.

    Raises:
        ConfigError: says which.
    """
    path = pathlib.Path(os.path.abspath(output))
    if path.suffix.lower() not in (".tif", ".tiff") or path.is_dir():
        raise ConfigError(f"output={output}: expected the name of a file, e.g. map.tif")
    taken = {os.path.realpath(file) for file in scene}
    for one in files_of(path):
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
