"""What a dataset says about itself: sensors and bands, classes, splits, licence, source.

Everything downstream (shards, preprocessing, tasks, report, bundle) reads this and nothing else
about a dataset. It travels as JSON in the shard manifest.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any


@dataclasses.dataclass(frozen=True, eq=False)
class ImageSpec:
    """One image entry of an example: one sensor at one resolution, as on disk.

    Attributes:
        sensor: name in `rsjax.sensors`.
        bands: band names, in the order of the last axis.
        height: rows in pixels; 0 where it varies from sample to sample.
        width: columns in pixels; 0 where it varies.
        dtype: numpy dtype name, as on disk.
        unit: name in `rsjax.sensors.UNITS`.
        gsd_m: ground sampling distance in metres.
        nodata: the value that marks missing pixels, or None. A pixel is nodata where every band
            of the entry has this value; with `math.nan`, where any band is NaN.
        steps: length of a time series, 0 where it varies from sample to sample; None: no series.
    """

    sensor: str
    bands: tuple[str, ...]
    height: int
    width: int
    dtype: str
    unit: str
    gsd_m: float
    nodata: float | None = None
    steps: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """(height, width, bands), of a series (steps, height, width, bands); 0: varies."""
        series = () if self.steps is None else (self.steps,)
        return (*series, self.height, self.width, len(self.bands))

    @property
    def missing_is_nan(self) -> bool:
        """Whether missing values are NaN."""
        return self.nodata is not None and math.isnan(self.nodata)

    def __eq__(self, other: object) -> bool:
        """Equal in every field; NaN as nodata equals NaN, which a dataclass's own way denies."""
        return isinstance(other, ImageSpec) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(tuple(self.to_json().items()))

    def to_json(self) -> dict[str, Any]:
        """The entry as plain JSON types; what is not said is left out, NaN is the text 'nan'."""
        data = dataclasses.asdict(self)
        if self.missing_is_nan:  # NaN is no JSON, and would not equal itself
            data["nodata"] = "nan"
        if self.steps is None:
            del data["steps"]
        return data

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> ImageSpec:
        """The inverse of `to_json`."""
        nodata = math.nan if data.get("nodata") == "nan" else data.get("nodata")
        return cls(**{**data, "bands": tuple(data["bands"]), "nodata": nodata})


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """A dataset's card.

    Attributes:
        name: name in `rsjax.datasets`.
        version: version of the official release, as `major.minor.patch`.
        title: full name.
        page: the dataset's own page.
        licence: licence as its publisher states it.
        citation: one line.
        images: image entries by name, e.g. `s2_10m`.
        label: 'index' (one class), 'multihot' (any number of classes) or None.
        nomenclature: name in `rsjax.landcover` of the label's classes.
        mask: (height, width) of the per-pixel reference, or None.
        mask_nomenclature: name in `rsjax.landcover` of the mask's classes, or None.
        metadata: names of further text entries, e.g. `country`; the dates of a series `s2` are
            `s2_dates`, joined by `;`.
        splits: official split names with their official sizes (0: no official size).
        rgb: (entry, (red, green, blue) band names) to draw a sample with.
        rgb_range: values drawn as black and white.
        published_statistics: {sensor: {band: (mean, std)}} in the entry's unit, or empty.
        published_statistics_source: where those come from.
        georeferenced: whether every example has `crs` and `transform`.
    """

    name: str
    version: str
    title: str
    page: str
    licence: str
    citation: str
    images: dict[str, ImageSpec]
    label: str | None
    nomenclature: str
    mask: tuple[int, int] | None
    mask_nomenclature: str | None
    metadata: tuple[str, ...]
    splits: dict[str, int]
    rgb: tuple[str, tuple[str, str, str]]
    rgb_range: tuple[float, float]
    published_statistics: dict[str, dict[str, tuple[float, float]]] = dataclasses.field(
        default_factory=dict
    )
    published_statistics_source: str = ""
    georeferenced: bool = False

    def to_json(self) -> dict[str, Any]:
        """The card as plain JSON types."""
        images = {name: spec.to_json() for name, spec in self.images.items()}
        return {**dataclasses.asdict(self), "images": images}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> DatasetInfo:
        """The inverse of `to_json`, also after a trip through a JSON file."""
        data = dict(data)
        data["images"] = {k: ImageSpec.from_json(spec) for k, spec in data["images"].items()}
        entry, bands = data["rgb"]
        data["rgb"] = (entry, tuple(bands))
        data["rgb_range"] = tuple(data["rgb_range"])
        data["mask"] = tuple(data["mask"]) if data["mask"] else None
        data["metadata"] = tuple(data["metadata"])
        data["published_statistics"] = {
            sensor: {band: tuple(values) for band, values in bands.items()}
            for sensor, bands in data["published_statistics"].items()
        }
        return cls(**data)
