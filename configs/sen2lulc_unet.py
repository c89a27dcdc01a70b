"""U-Net on Sen-2 LULC: land cover of every pixel of 64 px RGB pictures, seven classes.

    python -m rsjax.prepare --dataset=sen2lulc --source=DIR
    python -m rsjax.main --config=configs/sen2lulc_unet.py
    python -m rsjax.main --config=configs/sen2lulc_unet.py:demo     # simulated, no download

The U-Net of segmentation-models-pytorch on a ResNet-34. Others report for such a network a mIoU of
46.1 %, and for the best, a DeepLab v3+, 55.3 %. Pictures of all splits are cut from the same few
scenes: figures are optimistic for any other place.

Hardware, time and metric here: not yet run on the real data. The demo is a small U-Net on 600
SIMULATED pictures; its figures say nothing about real scenes: test mIoU 0.908 against 0.023 of the
most frequent class, 2 minutes of CPU time (two busy cores of an AMD EPYC, 2026-11-25).
"""

import ml_collections

from rsjax import config as configs


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    """The run sheet: variant 'full' or 'demo'."""
    if variant not in ("full", "demo"):
        raise ValueError(f"configs/sen2lulc_unet.py:{variant}: choose of full, demo")
    c = configs.base().unlock()
    c.name = f"sen2lulc_unet_{variant}"

    c.data.dataset = "sen2lulc"
    c.data.bands = ("rgb/red", "rgb/green", "rgb/blue")
    c.data.grid_px = 64  # 10 m
    c.task.name = "segmentation"
    c.task.temperature = "fitted"

    c.model.name = "unet"
    c.model.fields = ml_collections.ConfigDict({"encoder_name": "resnet34"})
    c.model.dtype = "bfloat16"

    c.batch_size = 512
    c.eval_batch_size = 512
    c.total_epochs = 40.0
    c.early_stop_evals = 5
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.weight_decay = 0.01
    c.schedule.warmup_steps = 500
    c.augment.d4 = True

    if variant == "demo":
        c.data.data_dir = "data/simulated"
        c.data.simulate_samples = 600
        c.model.name = "unet2015"
        c.model.fields = ml_collections.ConfigDict({"width": 8, "depth": 3})
        c.model.dtype = "float32"
        c.batch_size = 16
        c.eval_batch_size = 32
        c.total_epochs = 8.0
        c.eval_every_epochs = 2.0
        c.early_stop_evals = 0
        c.optimizer.learning_rate = 3e-3
        c.schedule.warmup_steps = 10
        c.log_every_steps = 20
    return c.lock()
