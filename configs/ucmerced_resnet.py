"""ResNet-50 from scratch on UC Merced: 21 classes, 256 px aerial RGB, the fixed stratified split.

    python -m rsjax.prepare --dataset=ucmerced --source=UCMerced_LandUse.zip
    python -m rsjax.main --config=configs/ucmerced_resnet.py

Some images are not exactly 256 x 256 pixels: they are cropped, or padded by reflection, about
their centre (`data.fit_px`). Published for a ResNet-50 pretrained on ImageNet, on another split:
98.6 % (AiTLAS arena); from scratch 2,100 images give less.

Hardware, time and metric: not yet run on the whole dataset.
"""

import ml_collections

from rsjax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The run sheet."""
    c = configs.base().unlock()
    c.name = "ucmerced_resnet"

    c.data.dataset = "ucmerced"
    c.data.bands = ("rgb/red", "rgb/green", "rgb/blue")
    c.data.grid_px = 256
    c.data.fit_px = 256
    c.task.name = "classification"
    c.task.label_smoothing = 0.1

    c.model.name = "resnet50"
    c.model.dtype = "bfloat16"

    c.batch_size = 64
    c.eval_batch_size = 64
    c.total_epochs = 200.0
    c.eval_every_epochs = 5.0
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.weight_decay = 0.05
    c.schedule.warmup_epochs = 5.0
    c.augment.d4 = True
    c.augment.max_zoom = 1.5
    c.augment.brightness_std = 0.1
    c.augment.contrast_std = 0.1
    return c.lock()
