"""The first convolution for other bands than it was trained on; only where the user asks for it.

Rules: 'strict' takes the same bands, in any order. 'by_name' gives each band the kernel of the
same band, or of the same colour or band of a related sensor; a band without one is refused, or
gets the `fill`: 'mean' of all given kernels, or 'zero', with which the network starts as it was.
'mean' gives every band the mean kernel, and 'repeat' the given kernels in turn, both scaled by
given / wanted bands, so that bands that are alike make the same sum as before (timm's rule is
'repeat').
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rsjax.errors import SensorError

RULES = ("strict", "by_name", "mean", "repeat")
FILLS = ("", "mean", "zero")

# Sensors whose bands of one name are the same, at another level or of the next satellite.
_SAME = ({"sentinel2_l1c", "sentinel2_l2a"}, {"landsat5", "landsat7"}, {"landsat8", "landsat9"})
_COLOURS = {
    "rgb": ("red", "green", "blue"),
    "sentinel2_l1c": ("B04", "B03", "B02"),
    "sentinel2_l2a": ("B04", "B03", "B02"),
    "landsat5": ("B3", "B2", "B1"),
    "landsat7": ("B3", "B2", "B1"),
    "landsat8": ("B4", "B3", "B2"),
    "landsat9": ("B4", "B3", "B2"),
    "modis": ("B1", "B4", "B3"),
}


def counterpart(band: str, given: Sequence[str]) -> str | None:
    """Which of the given bands this one is: itself, that of a twin sensor, or the same colour."""
    if band in given:
        return band
    sensor, name = band.split("/")
    twins = next((group for group in _SAME if sensor in group), set())
    colours = _COLOURS.get(sensor, ())
    for other in given:
        its_sensor, its_name = other.split("/")
        if its_sensor in twins and its_name == name:
            return other
        theirs = _COLOURS.get(its_sensor, ())
        if name in colours and its_name in theirs and colours.index(name) == theirs.index(its_name):
            return other
    return None


def adapt(
    kernel: np.ndarray, given: Sequence[str], wanted: Sequence[str], rule: str, fill: str = ""
) -> tuple[np.ndarray, list[str]]:
    """The kernel for other bands, and in words what was done with each.

    Args:
        kernel: (kh, kw, given bands, D).
        given: 'sensor/band' names that it was trained on.
        wanted: 'sensor/band' names that it shall see.
        rule: one of `RULES`.
        fill: one of `FILLS`, for 'by_name'.

    Returns:
        (kh, kw, wanted bands, D), and one line a band; none where nothing changed.

    Raises:
        SensorError: an unknown rule, or bands that it does not provide for.
    """
    given, wanted = list(given), list(wanted)
    if rule not in RULES or fill not in FILLS or (fill and rule != "by_name"):
        raise SensorError(
            f"--stem={rule} with --fill={fill}: --stem is one of {', '.join(RULES)}, and by_name "
            "takes --fill=mean or --fill=zero"
        )
    if len(set(wanted)) < len(wanted):
        raise SensorError(f"bands {', '.join(wanted)} repeat; name each once")
    if given == wanted:
        return kernel, []
    ratio = np.float32(len(given) / len(wanted))
    mean = kernel.mean(axis=2)
    columns, lines = [], []
    for number, band in enumerate(wanted):
        if rule == "mean":
            columns.append(mean * ratio)
            lines.append(f"{band}: mean kernel of {', '.join(given)}, x {ratio:g}")
            continue
        if rule == "repeat":
            source = given[number % len(given)]
            columns.append(kernel[:, :, number % len(given)] * ratio)
            lines.append(f"{band}: kernel of {source}, x {ratio:g}")
            continue
        exact = rule == "strict"
        found = (band if band in given else None) if exact else counterpart(band, given)
        if found:
            columns.append(kernel[:, :, given.index(found)])
            lines.append(f"{band}: kernel of {found}")
        elif exact or not fill:
            raise SensorError(_refusal(band, given, wanted, exact))
        else:
            columns.append(mean if fill == "mean" else np.zeros_like(mean))
            lines.append(f"{band}: {'mean kernel of the given' if fill == 'mean' else 'zeros'}")
    if rule == "strict" and len(given) != len(wanted):
        raise SensorError(_refusal("", given, wanted, True))
    return np.stack(columns, axis=2), lines


def _refusal(band: str, given: list[str], wanted: list[str], strict: bool) -> str:
    what = f"no kernel for band {band}" if band else "fewer bands than the weights have"
    how = (
        "--stem=by_name keeps the kernels of the bands that are common; --stem=mean or "
        "--stem=repeat makes new ones of all"
        if strict
        else "--fill=mean gives such bands the mean kernel, --fill=zero lets them start without "
        "effect"
    )
    return f"{what}: the weights are for {', '.join(given)}; wanted are {', '.join(wanted)}. {how}"
