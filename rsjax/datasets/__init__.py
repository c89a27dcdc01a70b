"""Datasets by name: what lies on disk in the official layout, as examples.

A dataset is `Dataset(source, **options)`: `info` (its card: images, classes, splits, licence),
`keys(split)` in a fixed order, `read(key)` one example as numpy arrays at native resolution and
dtype, `simulated` and `fingerprint()`. Construction reads nothing large; `read` touches one
sample's files. Missing, damaged or misplaced input is a `DatasetError` that names the file, what
was found, what was expected and the remedy. Nothing here knows of shards, models or training. To
add a dataset: one file, one line in the table below, one test.
"""

from __future__ import annotations

import importlib

from rsjax.errors import ConfigError

_DATASETS = {
    "bigearthnet": "bigearthnet.BigEarthNet",
    "bigearthnet_v1": "bigearthnet_v1.BigEarthNetV1",
    "epfl_roofs": "epfl_roofs.EPFLRoofs",
    "eurosat": "eurosat.EuroSAT",
    "eurosat_allbands": "eurosat.EuroSATAllBands",
    "folder": "folder.Folder",
    "forty": "forty.ForTy",
    "inria": "inria.Inria",
    "levir_cd": "levir_cd.LevirCD",
    "massachusetts_buildings": "massachusetts_buildings.MassachusettsBuildings",
    "openearthmap": "openearthmap.OpenEarthMap",
    "oscd": "oscd.OSCD",
    "pastis": "pastis.PASTIS",
    "planted": "planted.Planted",
    "scenes": "own_scenes.OwnScenes",
    "spacenet2": "spacenet2.SpaceNet2",
    "ucmerced": "ucmerced.UCMerced",
}


def names() -> tuple[str, ...]:
    """The names of all datasets."""
    return tuple(_DATASETS)


def get(name: str) -> type:
    """The class of a dataset, imported when asked for; an unknown name is a ConfigError."""
    if name not in _DATASETS:
        raise ConfigError(f"unknown dataset {name!r}; known: {', '.join(_DATASETS)}")
    module, _, attribute = _DATASETS[name].partition(".")
    found: type = getattr(importlib.import_module(f"{__name__}.{module}"), attribute)
    return found
