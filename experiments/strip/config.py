"""Six segmentation models on the strip of 64 BigEarthNet patches, to see that each can learn it.

    python -m rsjax.main --config=experiments/strip/config.py:unet --workdir=runs/strip_unet

The goal is to overfit: a mean IoU of at least 0.9 on the 48 training patches, without augmentation
or regularisation. The 16 held-out patches are the split 'test'; there is no validation split. The
models are small versions, meant for two CPU cores: 16 to 60 minutes of processor time each. What
came out is in README.md.
"""

import ml_collections

from rsjax import config as configs

RESNET = {"encoder_name": "resnet18", "encoder_fields": {"width": 32}}
# variant: (model, its fields, learning rate, steps); 6 steps are an epoch.
VARIANTS = {
    "unet": ("unet", {**RESNET, "decoder_channels": (128, 64, 32, 32, 16)}, 2e-3, 2400),
    "segnet": ("segnet", {"encoder_name": "vgg11_bn", "encoder_fields": {"width": 16}}, 2e-3, 2400),
    "fcn8s": (
        "fcn8s",
        {"width": 16, "fc_width": 256, "stage_sizes": (1, 1, 2, 2, 2), "dropout_rate": 0.0},
        1e-3,
        1500,
    ),
    "fc_densenet56": (
        "fc_densenet56",
        {"width": 24, "growth_rate": 6, "dropout_rate": 0.0},
        2e-3,
        1000,
    ),
    "deeplabv3plus": (
        "deeplabv3plus",
        {**RESNET, "decoder_channels": 64, "skip_channels": 24, "dropout_rate": 0.0},
        2e-3,
        2400,
    ),
    "xception_unet": (
        "unet",
        {
            "encoder_name": "xception",
            "encoder_fields": {"width": 0.25, "middle_blocks": 2},
            "decoder_channels": (128, 64, 32, 32, 16),
        },
        2e-3,
        1500,
    ),
}


def get_config(variant: str = "unet") -> ml_collections.ConfigDict:
    """The run sheet of a variant."""
    if variant not in VARIANTS:
        raise ValueError(f"no variant {variant!r}; known: {', '.join(VARIANTS)}")
    model, fields, learning_rate, steps = VARIANTS[variant]
    c = configs.base().unlock()
    c.name = f"strip_{variant}"

    c.data.dataset = "folder"
    c.data.data_dir = "data/strip"
    c.data.source = "data/strip_source"
    c.data.bands = ("rgb/red", "rgb/green", "rgb/blue")
    c.data.grid_px = 120
    c.data.validation_split = ""
    c.task.name = "segmentation"
    # The 44 classes of the masks, 14 of which occur in training. FCN's three up-convolutions have
    # classes x classes kernels: with 44 its step costs 2.7 times as much, so it learns level 2. The
    # Xception-U-Net learns level 1, as the one it is compared with.
    c.task.nomenclature = {"fcn8s": "corine_l2", "xception_unet": "corine_l1"}.get(variant, "")

    # One class has 48 pixels in all, and with weights of 1 is never predicted. So it weighs 21
    # times as much as the common ones, and those of 1,000 pixels 1.6 times; with a beta of 0.9999
    # rare classes were found, and overrun their neighbours.
    c.task.class_weights = "effective_number"
    c.task.effective_beta = 0.999

    c.model.name = model
    c.model.fields = fields

    c.batch_size = 8
    c.eval_batch_size = 8
    c.total_steps = steps
    c.eval_every_epochs = 0.0
    c.checkpoint_every_steps = 300
    c.log_every_steps = 30
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = learning_rate
    c.schedule.warmup_steps = 20
    c.eval.split = "test"
    c.eval.blocks = "block"
    return c.lock()
