"""FC-Siam-diff on OSCD: urban change between two Sentinel-2 images of 13 bands.

    python -m rsjax.prepare --dataset=oscd --source=OSCD
    python -m rsjax.main --config=configs/oscd_fc_siam.py       # difference of the maps
    python -m rsjax.main --config=configs/oscd_fc_siam.py:conc  # the maps of both dates
    python -m rsjax.main --config=configs/oscd_fc_siam.py:ef    # both images as one
    python -m rsjax.main --config=configs/oscd_fc_siam.py:unet  # ResNet-18, U-Net, difference
    python -m rsjax.main --config=configs/oscd_fc_siam.py:demo  # simulated, no download

The networks of Daudt et al. (arXiv:1810.08462) and, of the recipe in their notebook, patches of
96 px, batch 32, weights of the classes by the inverse of their frequency, Adam at 1e-3, flips and
rotations. Their patches overlap by half, and they train for 50 epochs on all 14 cities; here tiles
do not overlap, two cities choose the checkpoint, and there are 200 epochs. The figures to look at
are IoU and F1 of the class 'changed' in the report's table of classes.

Hardware, time and metric here: not yet run on the real data. The demo is a narrow FC-Siam-diff on
76 SIMULATED tiles for 19 steps; its figures say nothing about real images: test IoU of 'changed'
0.503, mIoU 0.661 against 0.422 of class frequencies, 1.3 minutes of CPU time, a third of it
compilation (two busy cores of an AMD EPYC, 2026-11-25).
"""

import ml_collections

from rsjax import config as configs
from rsjax.datasets import oscd

# Variant -> model, its fields.
VARIANTS = {
    "diff": ("fc_siam_diff", {}),
    "conc": ("fc_siam_conc", {}),
    "ef": ("fc_ef", {}),
    "unet": ("siam_unet", {"encoder_name": "resnet18", "join": "diff"}),
    "demo": ("fc_siam_diff", {"width": 8, "dropout_rate": 0.0}),
}


def get_config(variant: str = "diff") -> ml_collections.ConfigDict:
    """The run sheet: variant 'diff', 'conc', 'ef', 'unet' or 'demo'."""
    if variant not in VARIANTS:
        known = ", ".join(VARIANTS)
        raise ValueError(f"configs/oscd_fc_siam.py:{variant}: choose of {known}")
    name, fields = VARIANTS[variant]
    c = configs.base().unlock()
    c.name = f"oscd_{variant}"

    c.data.dataset = "oscd"
    c.data.bands = tuple(f"sentinel2_l1c/{band}@{date}" for date in (0, 1) for band in oscd.BANDS)
    c.data.grid_px = 96
    c.task.name = "segmentation"
    c.task.class_weights = "inverse"
    c.eval.blocks = "city"  # tiles of one city are alike

    c.model.name = name
    c.model.fields = ml_collections.ConfigDict(fields)

    c.batch_size = 32
    c.eval_batch_size = 32
    c.total_epochs = 200.0
    c.eval_every_epochs = 5.0
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.weight_decay = 0.01
    c.schedule.warmup_epochs = 1.0
    c.augment.d4 = True

    if variant == "demo":
        c.data.data_dir = "data/simulated"
        c.data.simulate_samples = 96
        c.batch_size = 8
        c.eval_batch_size = 8
        c.total_epochs = 2.0
        c.optimizer.learning_rate = 3e-3
        c.log_every_steps = 10
    return c.lock()
