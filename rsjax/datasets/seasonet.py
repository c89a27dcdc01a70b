"""SeasoNet: 1,759,830 Sentinel-2 patches of 1.2 km over Germany in five seasons, with 33 classes.

Page: https://zenodo.org/records/5850307. Paper: https://arxiv.org/abs/2207.09507. The maps are
those of the German land cover model LBM-DE2018. The same 519,547 places come in several seasons
and on two grids that overlap by half a patch: only the official lists can keep places apart.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import re

import numpy as np

from rsjax import landcover, storage
from rsjax.datasets import base, files, patches, seasonet_metadata, tiff
from rsjax.datasets.info import DatasetInfo, ImageSpec
from rsjax.datasets.patches import Grid
from rsjax.datasets.seasonet_metadata import GRIDS, SEASONS, Metadata
from rsjax.datasets.splits import LIST_NAMES
from rsjax.errors import DatasetError
from rsjax.landcover import IGNORE

log = logging.getLogger("rsjax")

PAGE = "https://zenodo.org/records/5850307"

# Entry -> (files by the end of their name, with their bands in stored order; pixels; metres).
FILES: dict[str, tuple[dict[str, tuple[str, ...]], int, float]] = {
    "s2_10m": ({"10m_RGB": ("B04", "B03", "B02"), "10m_IR": ("B08",)}, 120, 10.0),
    "s2_20m": ({"20m": ("B05", "B06", "B07", "B8A", "B11", "B12")}, 60, 20.0),
    "s2_60m": ({"60m": ("B01", "B09")}, 20, 60.0),
}

_LABELS = ("checked", "column", "map")
_PATH = re.compile(r"(?:spring|summer|fall|winter|snow)/grid[12]/\d{2}[A-Z]{3}_\d{8}T\d{6}[_\d]+")
_STATISTICS = {
    "B04": (723.23, 635.55), "B03": (700.65, 409.19), "B02": (459.16, 323.99),
    "B08": (2828.09, 1138.01), "B05": (1135.09, 653.98), "B06": (2236.98, 828.41),
    "B07": (2690.96, 1037.72), "B8A": (2959.04, 1118.32), "B11": (2100.03, 1045.80),
    "B12": (1318.85, 867.00), "B01": (353.09, 216.13), "B09": (2952.86, 1061.76),
}  # fmt: skip


class SeasoNet:
    """SeasoNet, from the folder that holds what its page offers.

    The folder has `meta.csv` and, unpacked or as zips, `splits` and the seasons' folders. Keys are
    the paths in `meta.csv`, e.g. `spring/grid1/32UME_20180418T104021_53_928425_7_503876`. An
    example has `s2_10m` (120, 120, 4) in the order of the files B04, B03, B02, B08; `s2_20m`
    (60, 60, 6); `s2_60m` (20, 20, 2), all uint16; `mask` (120, 120) uint8, class indices, where
    the values 0 and 255 mean not labelled; `label` multi-hot uint8; `id`; as text `season`, `grid`,
    `satellite`, `date` (ISO) and `place` ('latitude,longitude': the same in every season); `crs`
    and `transform` of the 10 m grid.

    Splits are the official lists of rows of `meta.csv`, counted from 0 whatever its column `Index`
    says; `seasons` and `grids` choose from them afterwards.

    Args:
        source: the folder.
        seasons: some of 'Spring', 'Summer', 'Fall', 'Winter' and 'Snow'; only these are opened.
        grids: some of 1 and 2.
        labels: 'checked': column `Classes`, which must name the classes of the map; 'column':
            the same, whatever the map shows; 'map': the distinct classes of the map.
        georeferenced: whether the files have coordinates, and all of one patch the same.

    Raises:
        ConfigError: an unknown option value.
        DatasetError, NomenclatureError: from `keys` and `read`; missing, damaged or inconsistent
            files.
    """

    def __init__(
        self,
        source: str | os.PathLike[str],
        *,
        seasons: str | tuple[str, ...] = SEASONS,
        grids: int | str | tuple[int | str, ...] = GRIDS,
        labels: str = "checked",
        georeferenced: bool = True,
    ):
        self.source = os.fspath(source)
        self._seasons = base.choices("seasons", seasons, SEASONS)
        numbers = (str(grids),) if isinstance(grids, int) else grids
        texts = numbers if isinstance(numbers, str) else tuple(map(str, numbers))
        self._grids = base.choices("grids", texts, GRIDS)
        self._labels = base.choice("labels", labels, _LABELS)
        self._georeferenced = georeferenced
        self.info = DatasetInfo(
            name="seasonet",
            version="1.0.0",
            title="SeasoNet",
            page=PAGE,
            licence="CC-BY-4.0",
            citation="Koßmann et al., SeasoNet: A Seasonal Scene Classification, Segmentation and "
            "Retrieval Dataset for Satellite Imagery over Germany, IGARSS 2022, "
            "doi:10.1109/IGARSS46834.2022.9884079",
            images={
                entry: ImageSpec(
                    "sentinel2_l2a", sum(parts.values(), ()), size, size, "uint16",
                    "reflectance_1e4", gsd, 0.0,
                )
                for entry, (parts, size, gsd) in FILES.items()
            },
            label="multihot",
            nomenclature="seasonet",
            mask=(120, 120),
            mask_nomenclature="seasonet",
            metadata=("season", "grid", "satellite", "date", "place"),
            splits=dict.fromkeys(LIST_NAMES, 0),  # no official sizes are published
            rgb=("s2_10m", ("B04", "B03", "B02")),
            rgb_range=(0.0, 2000.0),
            published_statistics={"sentinel2_l2a": dict(_STATISTICS)},
            published_statistics_source="a third party's, of the summer images only; there are no "
            "official ones",
            georeferenced=georeferenced,
        )  # fmt: skip

    @property
    def simulated(self) -> bool:
        """Whether the source was written by `rsjax.datasets.simulate`."""
        return base.is_simulated(self.source)

    def keys(self, split: str) -> list[str]:
        """The paths of a split's patches, in the order of its list."""
        base.check_split(self.info, split)
        _ = self._parts
        table, rows = self._metadata, self._rows[split]
        seasons = [SEASONS.index(season) for season in self._seasons]
        grids = [GRIDS.index(grid) for grid in self._grids]
        chosen = np.isin(table.season[rows], seasons) & np.isin(table.grid[rows], grids)
        return [path.decode() for path in table.paths[rows[chosen]].tolist()]

    def check(self) -> None:
        """Warns of places that are in two splits, in whatever season.

        They are no error, as nobody has published that the lists keep places apart.
        """
        for (one, mine), (other, theirs) in itertools.combinations(self._rows.items(), 2):
            places = self._metadata.places
            count, first = seasonet_metadata.shared(places[mine], places[theirs])
            if count:
                log.warning(
                    "%s: %d places are in the lists of both '%s' and '%s', e.g. %s: scores on the "
                    "second flatter",
                    *(self.source, count, one, other, first),
                )

    def read(self, key: str) -> base.Example:
        """One patch; see the class."""
        table = self._metadata
        row = table.row(key)
        if row is None:
            raise base.unknown_key(self.info, self.source, key)
        season, grid = SEASONS[table.season[row]], GRIDS[table.grid[row]]
        if season not in self._seasons or grid not in self._grids:
            raise base.unknown_key(self.info, self.source, key)
        if not _PATH.fullmatch(key) or not key.startswith(f"{season.lower()}/grid{grid}/"):
            raise DatasetError(
                f"{os.path.join(self.source, 'meta.csv')}: path {key!r} of {season}, grid {grid}, "
                "is not named as officially; use the official metadata"
            )
        example: base.Example = {"id": key}
        source, stem = self._parts[season], f"{key}/{key.rsplit('/', 1)[1]}"
        place: Grid | None = None
        for entry, (parts, size, gsd) in FILES.items():
            stack = []
            for part, bands in parts.items():
                path = f"{stem}_{part}.tif"
                pixels, place = self._read(source, path, size, "uint16", len(bands), gsd, place)
                stack.append(pixels.reshape(size, size, len(bands)))
            example[entry] = np.concatenate(stack, axis=-1) if len(stack) > 1 else stack[0]
        path = f"{stem}_labels.tif"
        codes, place = self._read(source, path, 120, "uint8", 1, 10.0, place)
        where = source.describe(path)
        example["mask"] = landcover.load("seasonet").encode(codes, where)
        example["label"] = self._label(row, example["mask"], where)
        example["season"], example["grid"] = season, grid
        example["satellite"] = table.satellites[table.satellite[row]]
        example["date"] = str(table.days[row])
        example["place"] = ",".join(map(str, table.places[row].tolist()))
        if place is not None:
            example["crs"], example["transform"] = place.crs, place.transform
        return example

    def fingerprint(self) -> str:
        """See `rsjax.datasets.base.Dataset`."""
        options = {
            "seasons": self._seasons,
            "grids": self._grids,
            "labels": self._labels,
            "georeferenced": self._georeferenced,
        }
        keys = {split: self.keys(split) for split in self.info.splits}
        content = {split: self._list(split)[1] for split in self.info.splits}
        content["meta.csv"] = seasonet_metadata.content(self._root, "meta.csv")
        return base.fingerprint(self.info, options, keys, content)

    def _read(
        self, source: files.Source, path: str, size: int, dtype: str, bands: int, gsd_m: float,
        place: Grid | None,
    ) -> tuple[np.ndarray, Grid | None]:  # fmt: skip
        """Pixels of a file, and the place that it and the patch's other files must have."""
        where = source.describe(path)
        header = tiff.parse(source.read(path), where)
        pixels = tiff.pixels(header, shape=(size, size), dtype=dtype, bands=bands)
        if not self._georeferenced:
            return pixels, None
        try:
            return pixels, patches.check_place(header, gsd_m, place)
        except DatasetError as error:
            raise DatasetError(f"{error}, or use georeferenced=False") from error

    def _label(self, row: int, mask: np.ndarray, where: str) -> np.ndarray:
        count = len(landcover.load("seasonet"))
        on_map = (np.bincount(mask.ravel(), minlength=IGNORE + 1)[:count] > 0).astype(np.uint8)
        if self._labels == "map":
            return on_map
        label = (self._metadata.classes[row] >> np.arange(count, dtype=np.uint64)) & np.uint64(1)
        label = label.astype(np.uint8)
        if self._labels == "checked" and (label != on_map).any():
            codes = landcover.load("seasonet").codes
            found, expected = ([codes[i] for i in np.flatnonzero(x)] for x in (on_map, label))
            raise DatasetError(
                f"{where}: has the classes {found}, expected {expected} as in meta.csv. Restore "
                "the file, or choose whom to believe: labels='map' or labels='column'"
            )
        return label

    @functools.cached_property
    def _root(self) -> files.Source:
        if storage.is_file(self.source):
            raise DatasetError(
                f"{self.source}: a file, expected the folder that holds meta.csv, splits and the "
                f"seasons of {PAGE}"
            )
        return files.open_source(self.source, PAGE)

    @functools.cached_property
    def _metadata(self) -> Metadata:
        data = seasonet_metadata.content(self._root, "meta.csv")
        where = self._root.describe("meta.csv")
        return seasonet_metadata.load(data, where, landcover.load("seasonet"))

    @functools.cached_property
    def _rows(self) -> dict[str, np.ndarray]:
        """Split -> rows of `meta.csv`, of all seasons and grids; none is in two of them."""
        found: dict[str, np.ndarray] = {}
        count = len(self._metadata.paths)
        in_list = np.full(count, -1, np.int8)
        for i, split in enumerate(self.info.splits):
            where, data = self._list(split)
            found[split] = rows = seasonet_metadata.rows(data, where, count)
            if (twice := in_list[rows] >= 0).any():
                row = rows[twice][0]
                other = LIST_NAMES[list(found)[in_list[row]]]
                raise DatasetError(
                    f"{where}: row {row} and {int(twice.sum()) - 1} more are in {other}.csv, too, "
                    "expected each row in one split. Download splits.zip again from its page"
                )
            in_list[rows] = i
        return found

    def _list(self, split: str) -> tuple[str, bytes]:
        """Path and content of a split's list."""
        name = f"splits/{LIST_NAMES[split]}.csv"
        source = files.open_part(self.source, "splits", PAGE)
        return source.describe(name), source.read(name)

    @functools.cached_property
    def _parts(self) -> dict[str, files.Source]:
        """The files of each season asked for."""
        _ = self._root  # a file as source is said to be so
        return {
            season: files.open_part(self.source, season.lower(), PAGE, "the option seasons")
            for season in self._seasons
        }
