"""Whether the guesses about ForTy v1 (label codes, bands, seasons) agree with its data.

The dataset documents none of them. Each rule here is physics or geography that the right order
keeps and a wrong one breaks: water reflects the radar away, towns reflect it back, leaves are dark
in red and bright in the infrared, northern summers are warm. Codes 1 to 3, the kinds of forest,
cannot be told apart by such rules.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from rsjax.errors import DatasetError

# Order -> {code as stored: code of nomenclature 'forty'}.
ORDERS: dict[str, dict[int, int]] = {
    "colour_bar": {code: code for code in range(9)},
    "readme": {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 6, 6: 7, 7: 8, 8: 5, 9: 0},
}

_CODES = 10
_UNKNOWN, _NATURAL, _OTHER, _BUILT, _WATER, _ICE, _BARE = 0, 1, 4, 5, 6, 7, 8
_UNKNOWN_SHARE = (0.03, 0.35)
_ICE_SHARE = 0.02
_RADAR_DB = 3.0
_GREEN_NDVI = 0.5
_GREEN_SHARE = 0.1
_SOIL, _SOIL_NIR = 2000.0, 1.1  # the least of B11, and of B11 / B08
# Surface -> pairs of a darker and a brighter band.
_BRIGHTER = {
    "green forests": (
        ("B04", "B03"), ("B04", "B05"), ("B05", "B06"), ("B06", "B07"), ("B07", "B8A"),
        ("B05", "B08"), ("B12", "B11"), ("B11", "B8A"),
    ),
    "bare soil": (("B02", "B03"), ("B03", "B04")),
}  # fmt: skip
_NIR = (1000.0, 6000.0)
_NORTH = 30.0


@dataclasses.dataclass(frozen=True)
class Record:
    """What the rules look at of one place.

    Attributes:
        codes: (128, 128), as stored.
        latitude: degrees.
        vv: (2, 4, 128, 128) dB, NaN where missing.
        s2: band -> (4, 128, 128), NaN where missing.
        climate: variable -> (4,).
        seasons: names of the steps.
    """

    codes: np.ndarray
    latitude: float
    vv: np.ndarray
    s2: dict[str, np.ndarray]
    climate: dict[str, np.ndarray]
    seasons: tuple[str, ...]


@dataclasses.dataclass
class Measured:
    """Sums over records.

    Attributes:
        records: their number.
        pixels: of each code as stored.
        vv: sum and number of valid values of each code, (2, 10).
        forest: pixels of natural forest in all seasons, every fourth row and column.
        green: band -> sum over those of them with leaves.
        greens: their number.
        soil: band -> sum over pixels of any code, brightest in B11: no leaves, water, snow.
        soils: their number.
        warmth: season -> sum of `tmmx` of northern places.
        northern: their number.
        climate: what contradicts the order of the variables, with its record.
    """

    records: int = 0
    pixels: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(_CODES, np.int64))
    vv: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros((2, _CODES)))
    forest: int = 0
    green: dict[str, float] = dataclasses.field(default_factory=dict)
    greens: int = 0
    soil: dict[str, float] = dataclasses.field(default_factory=dict)
    soils: int = 0
    warmth: dict[str, float] = dataclasses.field(default_factory=dict)
    northern: int = 0
    climate: str = ""


def measure(records: Iterable[Record]) -> Measured:
    """Sums over some records."""
    found = Measured()
    for record in records:
        codes = np.minimum(record.codes, _CODES - 1).astype(np.int64)
        found.pixels += np.bincount(codes.ravel(), minlength=_CODES)
        valid = ~np.isnan(record.vv)
        values = np.where(valid, record.vv, 0).sum(axis=(0, 1), dtype=np.float64)
        for row, weights in zip(found.vv, (values, valid.sum(axis=(0, 1))), strict=True):
            row += np.bincount(codes.ravel(), weights.ravel(), _CODES)
        _add_spectra(found, record)
        _add_climate(found, record)
        found.records += 1
    return found


def _add_spectra(found: Measured, record: Record) -> None:
    bands = {name: image[:, ::4, ::4] for name, image in record.s2.items()}
    valid = ~np.isnan(np.stack(list(bands.values()))).any(axis=0)
    forest = (record.codes[::4, ::4] == _NATURAL) & valid
    red, nir, infrared = bands["B04"], bands["B08"], bands["B11"]
    green = forest & (nir - red > _GREEN_NDVI * (nir + red))
    soil = valid & (infrared > np.maximum(_SOIL_NIR * nir, _SOIL))
    found.forest += int(forest.sum())
    found.greens += int(green.sum())
    found.soils += int(soil.sum())
    for sums, chosen in ((found.green, green), (found.soil, soil)):
        for name, values in bands.items():
            sums[name] = sums.get(name, 0.0) + float(values[chosen].sum(dtype=np.float64))


def _add_climate(found: Measured, record: Record) -> None:
    values = record.climate
    rules = {
        "tmmn above tmmx": values["tmmn"] > values["tmmx"],
        "aet above pet": values["aet"] > values["pet"] * 1.01 + 1,
        "negative pr": values["pr"] < 0,
    }
    for rule, broken in rules.items():
        if broken.any() and not found.climate:
            found.climate = f"{rule} in record {found.records}"
    if record.latitude > _NORTH:
        found.northern += 1
        for season, value in zip(record.seasons, values["tmmx"].tolist(), strict=True):
            found.warmth[season] = found.warmth.get(season, 0.0) + value


def compare(found: Measured, order: str, level: str, source: str) -> None:
    """Refuses options that the data contradict.

    Args:
        found: from `measure`.
        order: key of `ORDERS`.
        level: 'l2a' or 'l1c'.
        source: of the dataset, for the message.

    Raises:
        DatasetError: tells what was found, what was expected and what to set.
    """
    if not found.records:
        return
    problems = []
    if wrong := labels(found, order):
        others = [name for name in ORDERS if name != order and not labels(found, name)]
        remedy = " or ".join(f"label_order='{name}'" for name in others)
        hint = f"set {remedy}, which the data agree with" if others else "no known order fits"
        problems.append(f"label_order='{order}': {'; '.join(wrong)}: {hint}")
    if wrong := bands(found):
        problems.append(f"s2_bands: {'; '.join(wrong)}: set s2_bands to the order of the file")
    elif found.greens and (seen := surface(found)) != level:
        blue, green = (found.green[name] / found.greens for name in ("B02", "B03"))
        problems.append(
            f"s2_level='{level}': B02 is {blue:.0f} and B03 {green:.0f} over green forests, as "
            f"of '{seen}': set s2_level='{seen}'"
        )
    if found.climate:
        problems.append(
            f"climate_bands: {found.climate}: set climate_bands to the order of the file"
        )
    elif wrong := seasons(found):
        problems.append(f"seasons: {'; '.join(wrong)}: set seasons to the order of the steps")
    if problems:
        raise _refusal(source, f"{found.records} records of the first shards", problems)


def compare_totals(classes: np.ndarray, order: str, source: str) -> None:
    """Refuses an order of label codes that the pixels of all records contradict.

    Args:
        classes: pixels of each class index of 'forty', (9,) or more; the last are unknown.
        order: key of `ORDERS`.
        source: of the dataset, for the message.

    Raises:
        DatasetError: see `compare`.
    """
    pixels = np.concatenate([classes[-1:], classes[:8]])
    if pixels.sum() and (wrong := shares(pixels)):
        text = f"label_order='{order}': {'; '.join(wrong)}: set another label_order"
        raise _refusal(source, "all records", [text])


def labels(found: Measured, order: str) -> list[str]:
    """What contradicts an order of the label codes."""
    table = ORDERS[order]
    wrong = []
    strange = [code for code in range(_CODES) if found.pixels[code] and code not in table]
    if strange:
        wrong.append(f"code {', '.join(map(str, strange))} or above found, expected none")
    pixels, vv = np.zeros(9), np.zeros((2, 9))
    for code, ours in table.items():
        pixels[ours] += found.pixels[code]
        vv[:, ours] += found.vv[:, code]
    wrong += shares(pixels)
    level = vv[0] / np.maximum(vv[1], 1)
    for low, high, text in (
        (_WATER, _NATURAL, "water below natural forest"),
        (_BARE, _BUILT, "bare ground below built areas"),
    ):
        if vv[1, low] and vv[1, high] and level[high] - level[low] < _RADAR_DB:
            wrong.append(
                f"mean VV {level[low]:.1f} and {level[high]:.1f} dB, expected {text} by at least "
                f"{_RADAR_DB:g} dB"
            )
    return wrong


def shares(pixels: np.ndarray) -> list[str]:
    """What contradicts the usual shares of classes; `pixels` of codes 0 to 8 of 'forty'."""
    share = pixels / pixels.sum()
    low, high = _UNKNOWN_SHARE
    wrong = []
    if not low <= share[_UNKNOWN] <= high:
        wrong.append(f"{share[_UNKNOWN]:.1%} unknown, expected {low:.0%} to {high:.0%}")
    if share[1:].argmax() + 1 != _OTHER:
        wrong.append(f"other vegetation {share[_OTHER]:.1%}, expected it to be the largest class")
    if share[_ICE] >= _ICE_SHARE:
        wrong.append(f"{share[_ICE]:.1%} ice, expected less than {_ICE_SHARE:.0%}")
    return wrong


def bands(found: Measured) -> list[str]:
    """What contradicts the order of the Sentinel-2 bands, by the spectra of leaves and of soil."""
    wrong = []
    if found.forest and (share := found.greens / found.forest) < _GREEN_SHARE:
        return [f"{share:.1%} of the natural forest is green, expected {_GREEN_SHARE:.0%} or more"]
    for name, sums, count in (
        ("green forests", found.green, found.greens),
        ("bare soil", found.soil, found.soils),
    ):
        mean = {band: total / count for band, total in sums.items()} if count else {}
        for dark, bright in _BRIGHTER[name]:
            if mean and mean[dark] >= mean[bright]:
                wrong.append(
                    f"{dark} is {mean[dark]:.0f} and {bright} {mean[bright]:.0f} over {name}, "
                    f"expected {bright} to be brighter"
                )
    if found.greens and not _NIR[0] <= (nir := found.green["B08"] / found.greens) <= _NIR[1]:
        wrong.append(f"B08 is {nir:.4g} over green forests, expected reflectance x 10000")
    return wrong


def surface(found: Measured) -> str:
    """The level of the Sentinel-2 data: the air makes forests brighter in blue than in green."""
    return "l2a" if found.green["B02"] < found.green["B03"] else "l1c"


def seasons(found: Measured) -> list[str]:
    """What contradicts the order of the seasons, by the warmth of northern places."""
    if not found.northern:
        return []
    warmest, coldest = (f(found.warmth, key=lambda s: found.warmth[s]) for f in (max, min))
    if (warmest, coldest) == ("summer", "winter"):
        return []
    told = ", ".join(f"{s} {v / found.northern:.1f}" for s, v in found.warmth.items())
    return [
        f"mean tmmx north of {_NORTH:g} degrees: {told}, expected summer warmest, winter coldest"
    ]


def _refusal(source: str, looked_at: str, problems: list[str]) -> DatasetError:
    return DatasetError(
        f"{source}: what ForTy does not document was guessed, and {looked_at} contradict it\n  "
        + "\n  ".join(problems)
        + "\nchecks=False prepares the data as the options say"
    )
