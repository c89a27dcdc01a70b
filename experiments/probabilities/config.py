"""A small ResNet for the classes in ninths of BigEarthNet patches, with thresholds of its own.

    python -m rsjax.main --config=experiments/probabilities/config.py --workdir=runs/ninths

Thresholds and temperature come from the validation split, see README.md.
"""

import ml_collections

from rsjax import config as configs


def get_config() -> ml_collections.ConfigDict:
    """The run sheet."""
    c = configs.base().unlock()
    c.name = "ninths"

    c.data.dataset = "folder"
    c.data.data_dir = "data/ninths"
    c.data.source = "data/ninths_source"
    c.data.bands = ("rgb/red", "rgb/green", "rgb/blue")
    c.data.grid_px = 40
    c.task.name = "multilabel"
    c.task.thresholds = "tuned"
    c.task.temperature = "fitted"

    c.model.name = "resnet18"
    c.model.fields = {"width": 32, "stem": "small", "stage_sizes": (1, 1, 1)}

    c.batch_size = 32
    c.eval_batch_size = 48
    c.total_steps = 400
    c.eval_every_epochs = 0.0
    c.eval_every_steps = 50
    c.log_every_steps = 50
    c.checkpoint_every_steps = 200
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 2e-3
    c.optimizer.weight_decay = 0.02
    c.schedule.warmup_steps = 20
    c.augment.d4 = True
    c.eval.blocks = "patch"
    return c.lock()
