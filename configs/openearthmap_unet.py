"""U-Net on OpenEarthMap: eight classes of land cover at 0.25 to 0.5 m, from RGB.

    python -m rsjax.prepare --dataset=openearthmap --source=OpenEarthMap_wo_xBD
    python -m rsjax.main --config=configs/openearthmap_unet.py
    python -m rsjax.main --config=configs/openearthmap_unet.py:demo       # simulated, no download

The U-Net of segmentation-models-pytorch on a ResNet-34, in tiles of 512 px. Without the xBD images
prepare with `--option=xbd=skip`. The labels of the official test images are withheld: the official
validation images choose the checkpoint and give the figures, which are a little optimistic for it.
Published for this network, on the withheld labels: mIoU 65.43 (paper, as cited).

Hardware, time and metric here: not yet run on the real data. The demo is a small U-Net on 48
SIMULATED tiles; its figures say nothing about real scenes: validation mIoU 0.549 against 0.031 of
the most frequent class, 3.6 minutes of CPU time (two cores of an AMD EPYC, 2026-11-25).
"""

import ml_collections

from rsjax import config as configs

VARIANTS = ("full", "demo")


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    """The run sheet: variant 'full' or 'demo'."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/openearthmap_unet.py:{variant}: choose of {', '.join(VARIANTS)}")
    c = configs.base().unlock()
    c.name = f"openearthmap_unet_{variant}"

    c.data.dataset = "openearthmap"
    c.data.bands = ("rgb/red", "rgb/green", "rgb/blue")
    c.data.grid_px = 512  # the tiles, see the option tile_px of the dataset
    c.data.test_split = ""  # has no public labels
    c.task.name = "segmentation"
    c.eval.split = "validation"
    c.eval.group_by = ("region",)
    c.eval.blocks = "id:^(.+)@"  # tiles of one image are alike

    c.model.name = "unet"
    c.model.fields = ml_collections.ConfigDict({"encoder_name": "resnet34"})
    c.model.dtype = "bfloat16"

    c.batch_size = 32
    c.eval_batch_size = 32
    c.total_epochs = 60.0
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 5e-4
    c.optimizer.weight_decay = 0.01
    c.schedule.warmup_epochs = 1.0
    c.augment.d4 = True
    c.augment.max_zoom = 1.5
    c.augment.brightness_std = 0.1
    c.augment.contrast_std = 0.1

    if variant == "demo":
        c.data.data_dir = "data/simulated"
        c.data.simulate_samples = 48
        small = {"width": 16, "stage_sizes": (1, 1, 1, 1)}
        channels = (48, 32, 24, 16, 8)
        c.model.fields = ml_collections.ConfigDict(
            {"encoder_name": "resnet18", "encoder_fields": small, "decoder_channels": channels}
        )
        c.model.dtype = "float32"
        c.batch_size = 2
        c.eval_batch_size = 3
        c.total_epochs = 6.0
        c.eval_every_epochs = 2.0
        c.optimizer.learning_rate = 5e-3
        c.schedule.warmup_epochs = 0.5
        c.augment.max_zoom = 1.0
        c.augment.brightness_std = 0.0
        c.augment.contrast_std = 0.0
        c.log_every_steps = 20
    return c.lock()
