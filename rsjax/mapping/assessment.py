"""From a labelled sample and its stated design to the accuracy of a map and adjusted areas.

What does not fit is refused with the row it is in: units that the design did not draw or that are
missing, strata that are not the map's, weights that are not the design's, another extent.
"""

from __future__ import annotations

import dataclasses
import pathlib

import numpy as np

from rsjax.errors import SampleError
from rsjax.landcover import Nomenclature
from rsjax.landcover.nomenclature import IGNORE
from rsjax.mapping import area_estimate
from rsjax.mapping.area_estimate import Accuracy
from rsjax.mapping.area_table import Tally
from rsjax.mapping.landmap import LandMap
from rsjax.mapping.pixel_area import PixelAreas
from rsjax.mapping.reference import Sample, class_index
from rsjax.mapping.sample_files import ENDING, HOW, Design, read_design

SAME_AREA = 0.005  # largest relative difference between the areas of a design and of the map


@dataclasses.dataclass(frozen=True)
class Units:
    """The units of a sample as the estimators want them.

    Attributes:
        stratum: (n,) of each unit, 0 to H - 1.
        mapped: (n,) class index in the map.
        reference: (n,) class index of the true class.
        unit_areas: (n,) hectares of the unit's pixel.
        row: (n,) of the pixel.
        col: (n,) of the pixel.
        hectares: (H,) of each stratum.
        pixels: (H,) of each stratum.
        names: (H,) of the strata.
        design: in words.
    """

    stratum: np.ndarray
    mapped: np.ndarray
    reference: np.ndarray
    unit_areas: np.ndarray
    row: np.ndarray
    col: np.ndarray
    hectares: np.ndarray
    pixels: np.ndarray
    names: tuple[str, ...]
    design: str

    def accuracy(self, classes: int, level: float) -> Accuracy:
        """The estimates of the whole map, in hectares; see `area_estimate.estimate`."""
        return area_estimate.estimate(
            self.stratum, self.mapped, self.reference, self.hectares, classes,
            population=self.pixels, unit_areas=self.unit_areas, names=self.names, level=level,
        )  # fmt: skip


def find_design(sample: str, design: str) -> Design | str:
    """The stated design of a sample: what `--design` says, or the file beside the points.

    Returns:
        The design, or one of 'stratified', 'simple', or '' where none is stated.

    Raises:
        SampleError: a design file that cannot be used.
    """
    if design in ("stratified", "simple"):
        return design
    beside = pathlib.Path(sample).with_suffix(ENDING)
    if design or beside.is_file():
        return read_design(design or beside)
    return ""


def units(
    sample: Sample,
    design: Design | str,
    land_map: LandMap,
    counted: Tally,
    areas: PixelAreas,
    map_sha256: str,
) -> Units:
    """The units of a sample with the strata of its design.

    Args:
        sample: the labelled units.
        design: from `find_design`.
        land_map: the map.
        counted: the whole of it.
        areas: of its grid.
        map_sha256: of its file.

    Raises:
        SampleError: no design, or units that do not fit it or the map.
    """
    classes = land_map.nomenclature
    mapped = land_map.classes_at(sample.row, sample.col)
    if (mapped == IGNORE).any():
        i = int(np.argmax(mapped == IGNORE))
        raise SampleError(f"{sample.path}: {sample.where[i]} lies where the map has no class")
    unit_areas = areas.at(sample.row, sample.col)
    if isinstance(design, Design):
        strata = _strata_of_design(sample, design)
        if design.map_sha256 == map_sha256:
            _must_match(sample, strata, np.array([classes.codes.index(c) for c in design.codes]),
                        mapped, classes)  # fmt: skip
        _check_extent(sample.path, float(design.hectares.sum()), counted)
        pixels, hectares, names = design.pixels, design.hectares, design.names
        words = f"strata are those of another map, {design.about['map']['file']} (Stehman 2014)"
        if design.map_sha256 == map_sha256:
            words = "strata are the classes of this map"
    elif design in ("stratified", "simple"):
        present = np.flatnonzero(counted.pixels)
        strata = np.searchsorted(present, mapped)
        if sample.stratum is not None:
            stated = [class_index(v, classes, f"{sample.path}: {w}", "stratum")
                      for v, w in zip(sample.stratum, sample.where, strict=True)]  # fmt: skip
            _must_match(sample, np.array(stated), np.arange(len(classes)), mapped, classes)
        pixels, hectares = counted.pixels[present], counted.hectares[present]
        names = tuple(classes.names[c] for c in present)
        words = {
            "stratified": "as stated: a random sample within each class of this map",
            "simple": "as stated: a simple random or systematic sample, stratified afterwards by "
            "the classes of this map",
        }[design]
    elif sample.weight is not None and sample.stratum is not None:
        found = sorted(set(sample.stratum))
        strata = np.array([found.index(value) for value in sample.stratum])
        pixels, hectares = _strata_of_weights(sample, strata, unit_areas, found)
        _check_extent(sample.path, float(hectares.sum()), counted)
        names = tuple(found)
        words = "as the weights of the units state it"
    else:
        raise SampleError(f"{sample.path}: no design is stated, so it says nothing of areas; {HOW}")
    if isinstance(design, Design) and sample.weight is not None:
        _check_weights(sample, strata, design)
    return Units(strata, mapped, sample.reference, unit_areas, sample.row, sample.col, hectares,
                 pixels, names, words)  # fmt: skip


def _strata_of_design(sample: Sample, design: Design) -> np.ndarray:
    if sample.stratum is None:
        raise SampleError(f"{sample.path}: no column 'stratum', which its design needs")
    known = {name: i for i, name in enumerate(design.names)}
    known |= {str(code): i for i, code in enumerate(design.codes)}
    for value, where in zip(sample.stratum, sample.where, strict=True):
        if value not in known:
            raise SampleError(
                f"{sample.path}: {where}: stratum {value!r} is none of the design: "
                f"{', '.join(map(str, design.codes))}"
            )
    strata = np.array([known[value] for value in sample.stratum])
    units = np.bincount(strata, minlength=len(design.codes))
    if (units != design.units).any():
        h = int(np.argmax(units != design.units))
        raise SampleError(
            f"{sample.path}: {units[h]} units of stratum {design.names[h]!r}, the design drew "
            f"{design.units[h]}; label every unit that was drawn, and no other"
        )
    return strata


def _must_match(
    sample: Sample, strata: np.ndarray, to_class: np.ndarray, mapped: np.ndarray,
    classes: Nomenclature,
) -> None:  # fmt: skip
    wrong = to_class[strata] != mapped
    if wrong.any():
        i = int(np.argmax(wrong))
        raise SampleError(
            f"{sample.path}: {sample.where[i]} says stratum "
            f"{classes.names[to_class[strata[i]]]!r}, the map has {classes.names[mapped[i]]!r} at "
            f"(row, col) ({sample.row[i]}, {sample.col[i]}); {int(wrong.sum())} such units. Was "
            "the point moved, or the sample drawn from another map? Then give its design"
        )


def _strata_of_weights(
    sample: Sample, strata: np.ndarray, unit_areas: np.ndarray, names: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    assert sample.weight is not None
    if (sample.weight < 1).any():
        i = int(np.argmax(sample.weight < 1))
        raise SampleError(
            f"{sample.path}: {sample.where[i]}: weight {sample.weight[i]:g}; a weight is the "
            "number of pixels that a unit stands for (1 / inclusion probability), 1 or more"
        )
    for h, name in enumerate(names):
        own = sample.weight[strata == h]
        if own.max() - own.min() > 1e-6 * own.max():
            raise SampleError(
                f"{sample.path}: weights of stratum {name!r} run from {own.min():g} to "
                f"{own.max():g}; within a stratum all units must have been drawn with one "
                "probability"
            )
    pixels = np.bincount(strata, sample.weight, len(names))
    return pixels, np.bincount(strata, sample.weight * unit_areas, len(names))


def _check_weights(sample: Sample, strata: np.ndarray, design: Design) -> None:
    assert sample.weight is not None
    expected = (design.pixels / design.units)[strata]
    wrong = np.abs(sample.weight / expected - 1) > 1e-3
    if wrong.any():
        i = int(np.argmax(wrong))
        raise SampleError(
            f"{sample.path}: {sample.where[i]}: weight {sample.weight[i]:g}, the design says "
            f"{expected[i]:g} pixels a unit"
        )


def _check_extent(path: str, hectares: float, counted: Tally) -> None:
    covered = float(counted.hectares.sum())
    if abs(hectares / covered - 1) > SAME_AREA:
        raise SampleError(
            f"{path}: its design covers {hectares:,.1f} ha, the map {covered:,.1f} ha; a sample "
            "says something only of the area it was drawn from"
        )
