"""The values of one record of Planted: series with their masks, dates, labels and texts."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence

import numpy as np

from rsjax.datasets.tfds_folder import TfdsFolder
from rsjax.errors import DatasetError

Record = Mapping[str, np.ndarray | list[bytes]]
_DATE = re.compile(r"\d{4}-\d\d-\d\d")


def series(folder: TfdsFolder, raw: Record, feature: str, other: str, key: str) -> np.ndarray:
    """One series (steps, height, width, bands) float32, NaN where its mask `other` is 0."""
    values = folder.tensor(dict(raw), feature, key).astype(np.float32)
    mask = folder.tensor(dict(raw), other, key)
    if mask.ndim == values.ndim - 1:
        mask = mask[..., None]
    known = (mask == 0) | (mask == 1)
    if not known.all():
        raise folder.refuse(key, other, f"value {mask[~known][0]}", "0 and 1")
    if mask.ndim != 4 or any(a not in (1, b) for a, b in zip(mask.shape, values.shape)):  # noqa: B905
        raise folder.refuse(key, other, f"{mask.shape}", f"the shape of {feature}")
    values = np.where(mask == 1, values, np.float32(np.nan))
    if np.isinf(values).any():
        raise folder.refuse(key, feature, "infinity", "finite values")
    return values


def dates(folder: TfdsFolder, raw: Record, feature: str, key: str, steps: int) -> str:
    """ISO dates of a series joined by ';', from milliseconds since 1970 or from text."""
    if folder.features[feature].dtype == "string":
        found = [one.decode() for one in raw.get(feature, [])]
    else:
        epoch = datetime.datetime(1970, 1, 1)
        times = folder.tensor(dict(raw), feature, key).ravel().tolist()
        try:
            moments = [epoch + datetime.timedelta(milliseconds=time) for time in times]
        except OverflowError:
            raise folder.refuse(key, feature, f"{times[0]}", "milliseconds") from None
        found = [date.date().isoformat() for date in moments]
    if len(found) != steps or not all(_DATE.fullmatch(date) for date in found):
        raise folder.refuse(key, feature, f"{found}", f"{steps} dates")
    return ";".join(found)


def label(
    folder: TfdsFolder,
    raw: Record,
    feature: str,
    key: str,
    names: Sequence[str],
    known: Sequence[str],
    level: str,
) -> int:
    """The index of the record's class.

    Args:
        folder: the download.
        raw: the record.
        feature: of the label: a number or a text.
        key: of the record, for messages.
        names: of the nomenclature.
        known: names in the order of the numbers.
        level: of the label, for messages.

    Raises:
        DatasetError: a class that the nomenclature does not have.
    """
    if folder.features[feature].dtype == "string":
        found = text(folder, raw, feature, key)
    else:
        code = int(folder.tensor(dict(raw), feature, key).reshape(-1)[0])
        found = known[code] if 0 <= code < len(known) else f"code {code}"
    if found not in names:
        raise DatasetError(
            f"{folder.where(key)}, feature '{feature}': {found!r}, expected one of the "
            f"{len(names)} classes of level '{level}'. Set label_level to one that all "
            "records have, take another subset, or leave such records out with --on_error=skip "
            "and a --max_skipped above their share (e.g. 0.5; the default is 0.001)"
        )
    return names.index(found)


def text(folder: TfdsFolder, raw: Record, feature: str, key: str) -> str:
    """A text, a class by its name, or a number in words."""
    if folder.features[feature].dtype == "string":
        found = raw.get(feature)
        if not isinstance(found, list) or len(found) != 1:
            raise folder.refuse(key, feature, "no text", "one")
        return found[0].decode()
    value = folder.tensor(dict(raw), feature, key).reshape(-1)[0].item()
    names = folder.classes(feature)
    if isinstance(value, int) and names:
        if not -1 <= value < len(names):
            raise folder.refuse(key, feature, f"code {value}", f"-1 to {len(names) - 1}")
        return names[value] if value >= 0 else ""  # TFDS writes -1 for one that is not known
    return f"{value:.6f}" if isinstance(value, float) else str(value)
