"""DeepLab v3+ on the reference maps of BigEarthNet v2 (reBEN): land cover of every pixel, from S2.

    python -m rsjax.main --config=configs/bigearthnet_deeplab.py            # the 19 classes
    python -m rsjax.main --config=configs/bigearthnet_deeplab.py:corine_l3  # corine_l2, corine_l1
    python -m rsjax.main --config=configs/bigearthnet_deeplab.py:demo       # simulated, no download

As `configs/bigearthnet_unet.py` in all but the network: the DeepLab v3+ of
segmentation-models-pytorch on a ResNet-50, output stride 16 (Chen et al. 2018, arXiv:1802.02611),
with the polynomial schedule of the paper replaced by a cosine.

Hardware, time and metric here: not yet run on the real data.
"""

import importlib.util
import pathlib
from typing import Any

import ml_collections


def get_config(variant: str = "bigearthnet19") -> ml_collections.ConfigDict:
    """The run sheet: variant 'bigearthnet19', 'corine_l3', 'corine_l2', 'corine_l1' or 'demo'."""
    c = _unet().get_config(variant).unlock()
    c.name = f"bigearthnet_deeplab_{variant}"
    c.model.name = "deeplabv3plus"
    fields: dict[str, Any] = {"encoder_name": "resnet50", "output_stride": 16}
    if variant == "demo":
        small = {"width": 8, "stage_sizes": (1, 1, 1, 1)}
        fields = {"encoder_name": "resnet18", "encoder_fields": small, "decoder_channels": 32}
    c.model.fields = ml_collections.ConfigDict(fields)
    return c.lock()


def _unet() -> Any:
    """The run sheet of the U-Net; config files are no package."""
    path = pathlib.Path(__file__).with_name("bigearthnet_unet.py")
    spec = importlib.util.spec_from_file_location("bigearthnet_unet", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
