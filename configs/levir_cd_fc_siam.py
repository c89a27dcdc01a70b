"""FC-Siam-diff on LEVIR-CD: buildings that came or went between two aerial images.

    python -m rsjax.prepare --dataset=levir_cd --source=LEVIR-CD
    python -m rsjax.main --config=configs/levir_cd_fc_siam.py       # difference of the maps
    python -m rsjax.main --config=configs/levir_cd_fc_siam.py:conc  # the maps of both dates
    python -m rsjax.main --config=configs/levir_cd_fc_siam.py:ef    # both images as one
    python -m rsjax.main --config=configs/levir_cd_fc_siam.py:unet  # ResNet-18, U-Net, difference
    python -m rsjax.main --config=configs/levir_cd_fc_siam.py:demo  # simulated, no download

The networks of Daudt et al. (arXiv:1810.08462) on the official splits in tiles of 256 px, and their
idea on a U-Net. One pixel in 21 has changed: cross-entropy and Dice, and the figures to look at are
IoU and F1 of the class 'changed' in the report's table of classes: the mean has 'unchanged' in it.
Open-CD reports them on the test split after 40,000 steps (https://github.com/likyoo/open-cd,
configs/fcsn): IoU 0.752 and F1 0.858 for FC-EF, 0.775 and 0.873 for FC-Siam-diff, 0.794 and 0.885
for FC-Siam-conc.

Hardware, time and metric here: not yet run on the real data (experiments/levir_cd has 11 tiles of
it). The demo is a narrow FC-Siam-diff on 64 SIMULATED tiles of 128 px for 12 steps, just enough to
find the new houses; its figures say nothing about real images: test IoU of 'changed' 0.352, mIoU
0.626 against 0.474 of class frequencies, 1.7 minutes of CPU time, a third of it compilation (two
busy cores of an AMD EPYC, 2026-11-25).
"""

import ml_collections

from rsjax import config as configs

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
        raise ValueError(f"configs/levir_cd_fc_siam.py:{variant}: choose of {known}")
    name, fields = VARIANTS[variant]
    c = configs.base().unlock()
    c.name = f"levir_cd_{variant}"

    c.data.dataset = "levir_cd"
    colours = ("red", "green", "blue")
    c.data.bands = tuple(f"rgb/{colour}@{date}" for date in (0, 1) for colour in colours)
    c.data.grid_px = 256
    c.task.name = "segmentation"
    c.task.losses = (("cross_entropy", 1.0), ("dice", 1.0))
    c.task.temperature = "fitted"
    c.eval.blocks = "id:^(.+)@"  # tiles of one image are alike

    c.model.name = name
    c.model.fields = ml_collections.ConfigDict(fields)
    c.model.dtype = "bfloat16"

    c.batch_size = 16
    c.eval_batch_size = 16
    c.total_epochs = 100.0
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.weight_decay = 0.01
    c.schedule.warmup_epochs = 1.0
    c.augment.d4 = True
    c.augment.brightness_std = 0.1
    c.augment.contrast_std = 0.1

    if variant == "demo":
        c.data.data_dir = "data/simulated"
        c.data.simulate_samples = 48
        c.data.options = ml_collections.ConfigDict({"tile_px": 128})
        c.data.grid_px = 128
        c.model.dtype = "float32"
        c.eval.blocks = ""  # the test tiles are of one image
        c.total_epochs = 3.0
        c.optimizer.learning_rate = 3e-3
        c.augment.brightness_std = 0.0
        c.augment.contrast_std = 0.0
        c.log_every_steps = 5
    return c.lock()
