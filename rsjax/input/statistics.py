"""Per-band statistics of a split, nodata-aware, merged over workers.

Integer bands are summed in Python integers: the mean and the variance are exact, whatever the
number of shards or workers. Floating-point bands are summed record by record in float64 and the
sums added by `math.fsum`: correct to rounding and independent of the order of the records.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from rsjax.datasets.info import ImageSpec

Sums = dict[str, dict[str, Any]]


def of_image(image: np.ndarray, spec: ImageSpec) -> dict[str, Any]:
    """Sums over the valid pixels of one image.

    Args:
        image: (H, W, C) as on disk, or a series (T, H, W, C).
        spec: its entry; a pixel is nodata where every band has `spec.nodata`, or any is NaN where
            that is NaN.

    Returns:
        count and nodata (pixels), total, square, low and high (one value a band).
    """
    bands = np.ascontiguousarray(image.reshape(-1, image.shape[-1]).T)  # (C, H * W): ten times
    nodata = 0  # as fast as sums over the first axis of few bands
    if spec.nodata is not None:
        if spec.missing_is_nan:
            valid = ~np.isnan(bands).any(axis=0)
        else:
            valid = (bands != np.asarray(spec.nodata, bands.dtype)).any(axis=0)
        nodata = int(valid.size - valid.sum())
        if nodata:
            bands = bands[:, valid]
    count = bands.shape[1]
    if not count:
        zeros = [0] * len(bands)
        return {
            "count": 0,
            "nodata": nodata,
            "total": zeros,
            "square": zeros,
            "low": [math.inf] * len(zeros),
            "high": [-math.inf] * len(zeros),
        }
    low, high = bands.min(axis=1).tolist(), bands.max(axis=1).tolist()
    if np.issubdtype(bands.dtype, np.integer):
        total, square = zip(*map(_exact_sums, bands, low, high), strict=True)
    else:
        wide = bands.astype(np.float64)
        total, square = wide.sum(axis=1).tolist(), (wide * wide).sum(axis=1).tolist()
    return {
        "count": count,
        "nodata": nodata,
        "total": list(total),
        "square": list(square),
        "low": low,
        "high": high,
    }


def _exact_sums(band: np.ndarray, low: int, high: int) -> tuple[int, int]:
    """Sum and sum of squares of integers, exact: in float64 where all sums stay below 2**53."""
    if len(band) * max(abs(low), abs(high)) ** 2 < 2**53:
        wide = band.astype(np.float64)
        return int(wide.sum()), int(np.einsum("i,i->", wide, wide))
    values = band.tolist()  # wide integers, or very many of them
    return sum(values), sum(value * value for value in values)


def merge(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The sums of several images or shards as one."""

    def add(values: tuple[Any, ...]) -> Any:
        return sum(values) if all(isinstance(v, int) for v in values) else math.fsum(values)

    return {
        "count": sum(p["count"] for p in parts),
        "nodata": sum(p["nodata"] for p in parts),
        "total": [add(v) for v in zip(*(p["total"] for p in parts), strict=True)],
        "square": [add(v) for v in zip(*(p["square"] for p in parts), strict=True)],
        "low": [min(v) for v in zip(*(p["low"] for p in parts), strict=True)],
        "high": [max(v) for v in zip(*(p["high"] for p in parts), strict=True)],
    }


def finish(sums: dict[str, Any], bands: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """{band: {mean, std, min, max, pixels, nodata}}; std is that of the population."""
    table = {}
    for i, band in enumerate(bands):
        n, total, square = sums["count"], sums["total"][i], sums["square"][i]
        if n == 0:
            mean, variance = math.nan, math.nan
        elif isinstance(total, int):  # exact up to the last division
            mean, variance = total / n, (n * square - total * total) / (n * n)
        else:
            mean = total / n
            variance = max(square / n - mean * mean, 0.0)
        table[band] = {
            "mean": mean,
            "std": math.sqrt(variance) if n else math.nan,
            "min": sums["low"][i],
            "max": sums["high"][i],
            "pixels": n,
            "nodata": sums["nodata"],
        }
    return table
