"""What a download of ForTy holds: its features, their bands and types, masks and label codes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from rsjax import landcover, sensors
from rsjax.datasets import forty_checks, tfds_folder
from rsjax.datasets.info import ImageSpec
from rsjax.datasets.tfds_folder import TfdsFolder
from rsjax.errors import DatasetError, NomenclatureError

Record = Mapping[str, np.ndarray | list[bytes]]
PAGE = "https://github.com/google-deepmind/forest_typology"
BUCKET = "gs://forest_typology/forty_v1/1.0.0"
S2_BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
S1_BANDS = ("VV", "VH", "angle")
ELEVATION_BANDS = ("elevation", "slope", "aspect")
CLIMATE_BANDS = tuple(band.name for band in sensors.get("terraclimate").bands)
SEASONS = ("winter", "spring", "summer", "autumn")

# Entry -> features of values and mask, and their shape.
FEATURES = {
    "s2": ("s2", "s2_mask", (4, 128, 128, 10)),
    "s1_ascending": ("s1_asc", "s1_asc_mask", (4, 128, 128, 3)),
    "s1_descending": ("s1_desc", "s1_desc_mask", (4, 128, 128, 3)),
    "elevation": ("elevation", "", (128, 128, 3)),
    "climate": ("climate", "", (4, 1, 1, 14)),
}
LABELS = "segmentation_labels"
SCALARS = ("id", "lat", "lon")
SIZES = {"train": 160_191, "validation": 19_661, "test": 20_148}
_FOLDERS = ("", "1.0.0", "forty_v1/1.0.0")


def specs(
    entries: Sequence[str], level: str, s2_bands: tuple[str, ...], climate_bands: tuple[str, ...]
) -> dict[str, ImageSpec]:
    """The image entries.

    Args:
        entries: those that are read.
        level: 'l2a' or 'l1c'.
        s2_bands: in their order.
        climate_bands: in their order.
    """
    kinds = {
        "s2": (f"sentinel2_{level}", s2_bands, "reflectance_1e4", 10.0),
        "s1_ascending": ("sentinel1_ascending", S1_BANDS, "natural", 10.0),
        "s1_descending": ("sentinel1_descending", S1_BANDS, "natural", 10.0),
        "elevation": ("fabdem", ELEVATION_BANDS, "natural", 10.0),
        "climate": ("terraclimate", climate_bands, "natural", 1280.0),
    }
    found = {}
    for entry in entries:
        _, mask, (*steps, height, width, _) = FEATURES[entry]
        sensor, bands, unit, gsd = kinds[entry]
        found[entry] = ImageSpec(
            sensor,
            bands,
            height,
            width,
            "float32",
            unit,
            gsd,
            nodata=math.nan if mask else None,
            steps=steps[0] if steps else None,
        )
    return found


def open_folder(source: str) -> TfdsFolder:
    """The folder of ForTy at or below `source`.

    Raises:
        DatasetError: there is none, or one with other splits or features.
    """
    root = tfds_folder.find(source, _FOLDERS, f"{PAGE} ({BUCKET})")
    folder = TfdsFolder(root, f"{PAGE} ({BUCKET})")
    wanted = {LABELS: ((128, 128), "u"), "id": ((), "i"), "lat": ((), "f"), "lon": ((), "f")}
    for values, mask, shape in FEATURES.values():
        wanted |= {values: (shape, "f")} | ({mask: (shape, "u")} if mask else {})
    if folder.name != "forty_v1" or (missing := [s for s in SIZES if s not in folder.counts]):
        found = f"of dataset {folder.name!r}" if folder.name != "forty_v1" else f"no {missing}"
        raise DatasetError(
            f"{root}/dataset_info.json: {found}, expected 'forty_v1' with the splits "
            f"{', '.join(SIZES)}; give the folder of ForTy, from {folder.page}"
        )
    for name, (shape, kind) in wanted.items():
        spec = folder.features.get(name)
        if (
            spec is None
            or (spec.shape, spec.encoding) != (shape, "none")
            or np.dtype(spec.dtype).kind != kind
        ):
            raise DatasetError(
                f"{root}/features.json: feature '{name}' is {spec}, expected {shape} of kind "
                f"'{kind}', not encoded; give the folder of ForTy v1.0.0, from {folder.page}"
            )
    return folder


def masked(folder: TfdsFolder, image: np.ndarray, raw: Record, mask: str, key: str) -> np.ndarray:
    """A copy with NaN where the mask is 0."""
    valid = folder.tensor(dict(raw), mask, key)
    if valid.dtype != np.uint8 or valid.max() > 1:
        raise folder.refuse(key, mask, f"values up to {valid.max()}", "0 and 1")
    if np.isnan(image).any(where=valid != 0):
        raise folder.refuse(key, mask, "NaN in valid pixels", "numbers")
    return np.where(valid, image, np.float32(np.nan))


def encode(folder: TfdsFolder, codes: np.ndarray, order: str, key: str) -> np.ndarray:
    """Class indices uint8 of the label codes of a record.

    Raises:
        NomenclatureError: codes that `order` of `forty_checks.ORDERS` does not have.
    """
    where = f"{folder.where(key)}, feature '{LABELS}'"
    known = forty_checks.ORDERS[order]
    if unknown := sorted(set(np.unique(codes).tolist()) - known.keys()):
        raise NomenclatureError(
            f"{where}: codes {', '.join(map(str, unknown[:10]))}, expected "
            f"{', '.join(map(str, known))} of label_order={order!r}. Choose the order "
            f"that has them ({', '.join(forty_checks.ORDERS)}), or download the file again"
        )
    table = np.zeros(max(known) + 1, np.uint8)
    table[list(known)] = list(known.values())
    return landcover.load("forty").encode(table[codes], where)
