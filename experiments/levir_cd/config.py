"""Change detection on eleven real tiles of LEVIR-CD, to see that it can learn what it is shown.

    python -m rsjax.main --config=experiments/levir_cd/config.py:unet --workdir=runs/levir_unet

Eight tiles train, in quarters of 128 px and without augmentation or regularisation; three are the
split 'test'. Narrow models, for minutes on two CPU cores. See README.md.
"""

import ml_collections

from rsjax import config as configs

# Variant -> model, its fields, steps of 8 quarters.
RESNET = {"encoder_name": "resnet18", "encoder_fields": {"width": 16}}
DECODER = {"decoder_channels": (64, 32, 32, 16, 8)}
VARIANTS = {
    "unet": ("siam_unet", {**RESNET, **DECODER, "join": "diff"}, 100),
    "diff": ("fc_siam_diff", {"width": 8, "dropout_rate": 0.0}, 100),
}


def get_config(variant: str = "unet") -> ml_collections.ConfigDict:
    """The run sheet: variant 'unet' or 'diff'."""
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}; known: {', '.join(VARIANTS)}")
    name, fields, steps = VARIANTS[variant]
    c = configs.base().unlock()
    c.name = f"levir_cd_eleven_{variant}"
    c.data.dataset = "levir_cd"
    c.data.data_dir = "data/levir_cd"
    c.data.source = "data/levir_cd_source"
    colours = ("red", "green", "blue")
    c.data.bands = tuple(f"rgb/{colour}@{date}" for date in (0, 1) for colour in colours)
    c.data.grid_px = 128
    c.data.train_split = "train+validation"  # seven tiles and one
    c.data.validation_split = ""
    c.task.name = "segmentation"
    c.task.losses = (("cross_entropy", 1.0), ("dice", 1.0))

    c.model.name = name
    c.model.fields = ml_collections.ConfigDict(fields)
    c.batch_size = 8
    c.eval_batch_size = 8
    c.total_steps = steps
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 4e-3
    c.schedule.warmup_steps = 5
    c.eval_every_epochs = 0.0
    c.checkpoint_every_steps = 50
    c.log_every_steps = 10
    c.tensorboard = False
    return c.lock()
