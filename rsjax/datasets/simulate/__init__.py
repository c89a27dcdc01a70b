"""Simulated downloads: any dataset, small, in its exact official layout and file formats.

`simulate(name, target, count, seed)` writes real GeoTIFF, JPEG, parquet and JSON files from class
spectra and smooth spatial fields: a model can learn from them, and a wrong band order shows. They
are the tests' and the demo's data and say so: `SIMULATED.json` lies at their root. No measured
imagery is in them, and no score on them means anything elsewhere.
"""

from __future__ import annotations

import importlib
import json
import os
import pathlib

from rsjax.datasets.base import SIMULATED
from rsjax.errors import ConfigError, DatasetError

_WRITERS = {
    "bigearthnet": "bigearthnet.write_v2",
    "bigearthnet_v1": "bigearthnet.write_v1",
    "epfl_roofs": "buildings.write_epfl",
    "eurosat": "scenes.write_eurosat",
    "eurosat_allbands": "scenes.write_eurosat_allbands",
    "forty": "forty.write_forty",
    "inria": "buildings.write_inria",
    "levir_cd": "levir_cd.write_levir_cd",
    "massachusetts_buildings": "buildings.write_massachusetts",
    "openearthmap": "openearthmap.write_openearthmap",
    "oscd": "oscd.write_oscd",
    "pastis": "pastis.write_pastis",
    "planted": "planted.write_planted",
    "scenes": "own_scenes.write_scenes",
    "spacenet2": "spacenet2.write_spacenet2",
    "ucmerced": "scenes.write_ucmerced",
}


def simulate(name: str, target: str | os.PathLike[str], count: int, seed: int = 0) -> None:
    """Writes a simulated download.

    Args:
        name: of a dataset in `rsjax.datasets`.
        target: folder to write, new or empty.
        count: number of samples over all splits; BigEarthNet v2 gets 5 % more with snow or cloud,
            and where the layout holds no fewer (see the writer), there are more.
        seed: the same seed gives the same pixels and labels.

    Raises:
        ConfigError: an unknown dataset or a count that its layout cannot hold.
        DatasetError: `target` is not empty or not a folder.
    """
    if name not in _WRITERS:
        raise ConfigError(f"no simulation of {name!r}; there are {', '.join(_WRITERS)}")
    if count < 1:
        raise ConfigError(f"count={count}, expected at least 1")
    target = pathlib.Path(target)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DatasetError(f"{target}: not an empty folder; give another one, or empty it first")
    module, _, function = _WRITERS[name].partition(".")
    write = getattr(importlib.import_module(f"{__name__}.{module}"), function)
    target.mkdir(parents=True, exist_ok=True)
    note = {
        "simulated": True,
        "dataset": name,
        "count": count,
        "seed": seed,
        "note": "written by rsjax.datasets.simulate from class spectra and random fields; "
        "not measured imagery",
    }
    # First, so that a simulation cut short is never taken for a real download.
    (target / SIMULATED).write_text(json.dumps(note, indent=2) + "\n")
    write(target, count, seed)
