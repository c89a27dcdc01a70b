"""Spectra of the simulated surfaces: materials, and classes as mixtures of them.

Values are plausible, not measured: the shape over the bands follows textbook spectra of water,
soil, leaves and built-up surfaces, so that every band of every class differs.
"""

from __future__ import annotations

import numpy as np

# Columns of the tables; Sentinel-2 in reflectance x 10000 at the surface, Sentinel-1 in dB.
BANDS = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12",
    "VV", "VH",
)  # fmt: skip

# B01  B02  B03  B04  B05  B06  B07  B08  B8A  B09  B10  B11  B12   VV   VH
_MATERIALS = """
lake     300  320  380  250  220  180  170  150  140  130  10   80   60  -20  -28
sea      420  380  260  150  120  100   95   80   75   70  10   45   35  -16  -26
soil     700  650 1250 1700 1950 2100 2250 2400 2550 2600  12 3300 2800  -11  -18
crop     250  250  650  400  950 3000 3800 4000 4200 4200  12 1900  900  -11  -16
grass    280  300  780  560 1200 2600 3100 3300 3450 3450  12 2200 1200  -12  -19
broad    180  170  480  270  750 2700 3400 3500 3750 3700  12 1700  750   -9  -14
conifer  150  140  330  210  450 1300 1550 1650 1750 1750  12  800  380  -10  -16
shrub    350  350  720  700 1150 1900 2200 2350 2550 2550  12 2300 1400  -11  -17
urban    900  830 1350 1450 1600 1750 1850 1950 2000 2000  14 2000 1800   -5  -12
roof    1500 1370 2100 2200 2300 2350 2400 2450 2480 2500  15 2500 2400   -2  -10
sand    1500 1370 2500 3000 3200 3350 3450 3550 3600 3600  15 4100 3700  -16  -24
rock     900  790 1300 1500 1600 1680 1750 1800 1850 1850  14 2300 2100  -10  -17
marsh    250  250  500  450  800 1300 1500 1550 1650 1600  12 1100  600  -13  -20
peat     300  270  520  600  900 1300 1450 1550 1700 1700  12 1700 1000  -12  -19
snow    8500 8800 8600 8400 8000 7600 7200 7000 6600 6200  20  900  700  -13  -21
burnt    450  350  550  620  700  800  880  950 1050 1100  12 1900 1700  -12  -20
dry      400  430  950 1150 1500 2000 2250 2450 2650 2650  12 2900 1900  -12  -19
"""

# CORINE level 3 code -> parts of materials.
_CORINE = {
    111: "urban 8 roof 2", 112: "urban 5 grass 3 broad 2", 121: "roof 8 urban 2",
    122: "urban 7 soil 3", 123: "roof 5 lake 5", 124: "rock 5 grass 5", 131: "rock 6 soil 4",
    132: "soil 6 urban 4", 133: "soil 8 roof 2", 141: "grass 6 broad 4", 142: "grass 7 urban 3",
    211: "crop 7 soil 3", 212: "crop 9 lake 1", 213: "crop 5 lake 5", 221: "soil 7 broad 3",
    222: "soil 4 broad 6", 223: "soil 6 shrub 4", 231: "grass 9 crop 1",
    241: "soil 6 crop 2 broad 2", 242: "crop 4 grass 3 soil 3", 243: "crop 3 grass 3 broad 4",
    244: "dry 6 broad 4", 311: "broad 9 grass 1", 312: "conifer 9 peat 1",
    313: "broad 5 conifer 5", 321: "dry 6 grass 4", 322: "shrub 6 peat 4", 323: "shrub 8 dry 2",
    324: "shrub 5 conifer 3 broad 2", 331: "sand 9 sea 1", 332: "rock 9 dry 1",
    333: "rock 3 dry 7", 334: "burnt 8 shrub 2", 335: "snow 9 rock 1", 411: "marsh 7 lake 3",
    412: "peat 9 conifer 1", 421: "marsh 5 sand 3 sea 2", 422: "sand 3 sea 7",
    423: "sand 5 sea 5", 511: "lake 8 grass 2", 512: "lake 9 marsh 1", 521: "sea 7 lake 3",
    522: "sea 8 sand 2", 523: "sea 1", 999: "dry 5 soil 5",
}  # fmt: skip

# Light scattered in the air on top of the surface's, B01 to B12: for products not corrected for it.
_HAZE = (950, 650, 420, 260, 200, 150, 120, 100, 80, 0, 0, 10, 5)


def _parse() -> dict[str, np.ndarray]:
    rows = (line.split() for line in _MATERIALS.strip().splitlines())
    return {row[0]: np.array(row[1:], np.float32) for row in rows}


MATERIALS = _parse()


def mixture(parts: str) -> np.ndarray:
    """The spectrum of e.g. 'crop 7 soil 3', float32 in the order of `BANDS`.

    Backscatter is mixed in dB, which is enough to tell the classes apart.
    """
    words = parts.split()
    weights = np.array(words[1::2], np.float32)
    return np.average([MATERIALS[name] for name in words[::2]], axis=0, weights=weights)


def corine() -> dict[int, np.ndarray]:
    """CORINE level 3 code -> spectrum in the order of `BANDS`."""
    return {code: mixture(parts).astype(np.float32) for code, parts in _CORINE.items()}


def top_of_atmosphere(surface: np.ndarray) -> np.ndarray:
    """What a satellite sees of a surface (..., 13) of Sentinel-2 bands in the order of `BANDS`.

    Water vapour hides most of B09, and B10 sees no ground at all.
    """
    seen = surface + np.array(_HAZE, np.float32)
    seen[..., BANDS.index("B09")] *= 0.3
    return seen
