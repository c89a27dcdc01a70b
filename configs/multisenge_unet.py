"""U-Net on MultiSenGE: 14 classes of every 10 m pixel, from four dates of Sentinel-2.

    python -m rsjax.prepare --dataset=multisenge --source=DIR
    python -m rsjax.main --config=configs/multisenge_unet.py             # four dates
    python -m rsjax.main --config=configs/multisenge_unet.py:one         # the first date of four
    python -m rsjax.main --config=configs/multisenge_unet.py:demo        # simulated, no download

Of a patch's 2 to 23 dates four are taken, evenly spread, and their bands are stacked: the model
sees them as forty bands. The splits are ours, blocks of 20 km (`rsjax.datasets.multisenge_places`);
what shares ground with another split is in none of the three. Roads and hedges are a pixel or two
wide and rare, hence the weights.

Hardware, time and metric here: not yet run on the real data. The demo is a small U-Net on 80
SIMULATED patches, two dates; its figures say nothing about real scenes: test mIoU 0.161 against
0.007 of the most frequent class, 2 minutes of CPU time, data included (two cores shared with
others, AMD EPYC, 2026-11-25).
"""

import ml_collections

from rsjax import config as configs

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
STEPS = {"series": (0, 1, 2, 3), "one": (0,), "demo": (0, 1)}


def get_config(variant: str = "series") -> ml_collections.ConfigDict:
    """The run sheet: variant 'series', 'one' or 'demo'."""
    if variant not in STEPS:
        raise ValueError(f"configs/multisenge_unet.py:{variant}: choose of {', '.join(STEPS)}")
    c = configs.base().unlock()
    c.name = f"multisenge_unet_{variant}"

    c.data.dataset = "multisenge"
    c.data.fit_steps = 2 if variant == "demo" else 4
    c.data.bands = tuple(
        f"sentinel2_l2a/{band}@{step}" for step in STEPS[variant] for band in BANDS
    )
    c.data.grid_px = 256  # 10 m
    c.task.name = "segmentation"
    c.task.class_weights = "median_frequency"
    c.eval.group_by = ("tile",)
    c.eval.blocks = "block"

    c.model.name = "unet"
    c.model.fields = ml_collections.ConfigDict({"encoder_name": "resnet34"})
    c.model.dtype = "bfloat16"

    c.batch_size = 64
    c.eval_batch_size = 64
    c.total_epochs = 60.0
    c.early_stop_evals = 8
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.weight_decay = 0.01
    c.schedule.warmup_steps = 300
    c.augment.d4 = True

    if variant == "demo":
        c.data.data_dir = "data/simulated"
        c.data.simulate_samples = 80
        c.model.name = "unet2015"
        c.model.fields = ml_collections.ConfigDict({"width": 8, "depth": 3})
        c.model.dtype = "float32"
        c.batch_size = 4
        c.eval_batch_size = 10
        c.total_epochs = 6.0
        c.early_stop_evals = 0
        c.optimizer.learning_rate = 3e-3
        c.schedule.warmup_steps = 10
        c.log_every_steps = 10
    return c.lock()
