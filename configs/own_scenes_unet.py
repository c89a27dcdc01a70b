"""U-Net on your own scenes: every pixel's class, from Sentinel-2 and a layer of labels.

    python -m rsjax.prepare --dataset=scenes --source=FOLDER --data_dir=data    # docs/scenes.md
    python -m rsjax.main --config=configs/own_scenes_unet.py                    # one GPU, or better
    python -m rsjax.main --config=configs/own_scenes_unet.py:demo               # simulated scenes

For patches of 120 px at 10 m with ten bands of Sentinel-2; set `data.bands` and `data.grid_px` to
what `scenes.json` says where that differs. The U-Net of segmentation-models-pytorch on a ResNet-34.
Labels drawn on few polygons are few pixels: only these count, in the loss as in all figures. Test
figures are told with intervals over blocks of the ground, for neighbouring patches are alike.

Hardware, time and metric here: not yet run on real scenes. The demo is a small U-Net on 240 patches
of two SIMULATED scenes with a map of WorldCover classes.
"""

import ml_collections

from rsjax import config as configs

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    """The run sheet: variant 'full' or 'demo'."""
    if variant not in ("full", "demo"):
        raise ValueError(f"configs/own_scenes_unet.py:{variant}: choose of full, demo")
    c = configs.base().unlock()
    c.name = f"own_scenes_unet_{variant}"

    c.data.dataset = "scenes"
    c.data.bands = tuple(f"sentinel2_l2a/{band}" for band in BANDS)
    c.data.grid_px = 120
    c.task.name = "segmentation"
    c.task.temperature = "fitted"
    c.eval.group_by = ("scene",)
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
    c.schedule.warmup_steps = 100
    c.augment.d4 = True

    if variant == "demo":
        c.data.data_dir = "data/simulated"
        c.data.simulate_samples = 240
        c.data.grid_px = 64
        c.model.name = "unet2015"
        c.model.fields = ml_collections.ConfigDict({"width": 8, "depth": 3})
        c.model.dtype = "float32"
        c.batch_size = 8
        c.eval_batch_size = 32
        c.total_epochs = 16.0
        c.early_stop_evals = 0
        c.optimizer.learning_rate = 3e-3
        c.schedule.warmup_steps = 10
        c.log_every_steps = 10
    return c.lock()
