"""DenseNet-121 on SEN12MS: the commonest land cover of a scene; recipe of `sen12ms_resnet.py`.

    python -m rsjax.prepare --dataset=sen12ms --source=DIR
    python -m rsjax.main --config=configs/sen12ms_densenet.py            # S2, ten bands; or
    python -m rsjax.main --config=configs/sen12ms_densenet.py:s1_s2      # :s1, :multilabel
    python -m rsjax.main --config=configs/sen12ms_densenet.py:demo       # simulated, no download

Hardware, time and metric here: not yet run on the real data. The demo is a small DenseNet on 300
SIMULATED scenes at 40 m; its figures say nothing about real scenes: test accuracy 0.400 against
0.100 of the most frequent class, 74 s of CPU time, data included (two cores shared with others, AMD
EPYC, 2026-11-25).
"""

import importlib.util
import pathlib
from typing import Any

import ml_collections


def get_config(variant: str = "s2") -> ml_collections.ConfigDict:
    """The run sheet: variant 's2', 's1', 's1_s2', 'multilabel' or 'demo'."""
    c = _resnet().get_config(variant).unlock()
    c.name = f"sen12ms_densenet_{variant}"
    c.model.name = "densenet121"
    fields: dict[str, Any] = {}
    if variant == "demo":
        fields = {"stage_sizes": (2, 2, 2, 2), "width": 16, "growth_rate": 8}
    c.model.fields = ml_collections.ConfigDict(fields)
    return c.lock()


def _resnet() -> Any:
    """The run sheet of the ResNet; config files are no package."""
    path = pathlib.Path(__file__).with_name("sen12ms_resnet.py")
    spec = importlib.util.spec_from_file_location("sen12ms_resnet", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
