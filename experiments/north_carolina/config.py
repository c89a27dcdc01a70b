"""A small U-Net on the Landsat 7 scene of the GRASS North Carolina data: 6 bands, 7 classes.

    python -m rsjax.main --config=experiments/north_carolina/config.py --workdir=runs/nc
    python -m rsjax.main --config=experiments/north_carolina/config.py:random_forest

11 training patches of 64 x 64 pixels, 6 of validation, 18 of test with `prepare.py --split=halves`;
19, 8 and 8 without. The map is no truth by hand: scores say how well a model copies landclass96.
See README.md.
"""

import ml_collections

from rsjax import config as configs

# Of a pixel: bands, three normalised differences, mean and spread of all over 3 x 3 pixels.
FEATURES = {"radius_px": 1, "indices": ("ndvi", "ndwi", "ndbi")}
CLASSIC = ("random_forest", "gradient_boosting", "kmeans")


def get_config(variant: str = "unet") -> ml_collections.ConfigDict:
    """The run sheet: variant 'unet', 'random_forest', 'gradient_boosting' or 'kmeans'."""
    if variant not in ("unet", *CLASSIC):
        raise ValueError(f"config.py:{variant}: choose of unet, {', '.join(CLASSIC)}")
    c = configs.base().unlock()
    c.name = f"north_carolina_{variant}"

    c.data.dataset = "folder"
    c.data.data_dir = "data/nc"
    c.data.source = "data/nc_source"
    c.data.bands = tuple(f"landsat7/{band}" for band in ("B1", "B2", "B3", "B4", "B5", "B7"))
    c.data.grid_px = 64
    c.task.name = "segmentation"
    c.task.nomenclature = ""  # the 7 classes of landclass96.csv

    c.model.name = "unet"
    c.model.fields = {
        "encoder_name": "resnet18",
        "encoder_fields": {"width": 32, "stem": "small", "stage_sizes": (1, 1, 1, 1)},
        "decoder_channels": (128, 64, 32),
    }

    c.batch_size = 8
    c.eval_batch_size = 8
    c.total_steps = 600
    c.eval_every_epochs = 0.0
    c.eval_every_steps = 60
    c.checkpoint_every_steps = 300
    c.log_every_steps = 30
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 2e-3
    c.optimizer.weight_decay = 0.01
    c.schedule.warmup_steps = 20
    c.augment.d4 = True
    c.eval.split = "test"
    c.eval.blocks = "block"
    if variant in CLASSIC:
        c.model.name = variant
        c.model.fields = ml_collections.ConfigDict(FEATURES)
    return c.lock()
