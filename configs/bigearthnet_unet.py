"""U-Net on the reference maps of BigEarthNet v2 (reBEN): land cover of every 10 m pixel, from S2.

    python -m rsjax.main --config=configs/bigearthnet_unet.py            # the 19 classes
    python -m rsjax.main --config=configs/bigearthnet_unet.py:corine_l3  # 44 classes; corine_l2 15,
    python -m rsjax.main --config=configs/bigearthnet_unet.py:corine_l1  # and corine_l1 5 classes
    python -m rsjax.main --config=configs/bigearthnet_unet.py:demo       # simulated, no download

The U-Net of segmentation-models-pytorch on a ResNet-34, ten bands at 120 px. Pixels that the
nomenclature does not know (in 19 classes: ports, mines, bare rock, ...) are ignored by loss,
figures and pictures. The maps are those of CORINE 2018, drawn with a minimum mapping unit of
25 ha: no model can follow both them and the image at 10 m, so boundary figures stay low.

Hardware, time and metric here: not yet run on the real data. The demo is a small U-Net on 400
SIMULATED patches, level 1; its figures say nothing about real scenes: test mIoU 0.568 against 0.081
of the most frequent class, 3.5 minutes of CPU time (two cores of an AMD EPYC, 2026-11-25).
"""

import ml_collections

from rsjax import config as configs

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
CLASSES = ("bigearthnet19", "corine_l3", "corine_l2", "corine_l1")


def get_config(variant: str = "bigearthnet19") -> ml_collections.ConfigDict:
    """The run sheet: variant 'bigearthnet19', 'corine_l3', 'corine_l2', 'corine_l1' or 'demo'."""
    if variant not in (*CLASSES, "demo"):
        known = ", ".join((*CLASSES, "demo"))
        raise ValueError(f"configs/bigearthnet_unet.py:{variant}: choose of {known}")
    c = configs.base().unlock()
    c.name = f"bigearthnet_unet_{variant}"

    c.data.dataset = "bigearthnet"
    c.data.bands = tuple(f"sentinel2_l2a/{band}" for band in BANDS)
    c.data.grid_px = 120  # 10 m, as the maps
    c.task.name = "segmentation"
    c.task.nomenclature = variant
    c.task.temperature = "fitted"
    c.eval.group_by = ("country", r"id:_MSIL2A_\d{4}(\d{2})")  # and by month
    c.eval.blocks = r"id:_T(\w{5})_"  # tiles: patches of one tile are alike

    c.model.name = "unet"
    c.model.fields = ml_collections.ConfigDict({"encoder_name": "resnet34"})
    c.model.dtype = "bfloat16"

    c.batch_size = 256
    c.eval_batch_size = 256
    c.total_epochs = 40.0
    c.early_stop_evals = 5
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.weight_decay = 0.01
    c.schedule.warmup_steps = 1000
    c.augment.d4 = True

    if variant == "demo":
        c.data.data_dir = "data/simulated"
        c.data.simulate_samples = 400
        c.task.nomenclature = "corine_l1"
        c.model.name = "unet2015"
        c.model.fields = ml_collections.ConfigDict({"width": 8, "depth": 3})
        c.model.dtype = "float32"
        c.batch_size = 16
        c.eval_batch_size = 32
        c.total_epochs = 8.0
        c.early_stop_evals = 0
        c.optimizer.learning_rate = 3e-3
        c.schedule.warmup_steps = 10
        c.log_every_steps = 10
    return c.lock()
