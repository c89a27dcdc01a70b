"""DenseNet-121 on SeasoNet: 33 labels a scene, from the twelve bands of Sentinel-2, all seasons.

    python -m rsjax.prepare --dataset=seasonet --source=DIR
    python -m rsjax.main --config=configs/seasonet_densenet.py
    python -m rsjax.main --config=configs/seasonet_densenet.py:demo     # simulated, no download

One season alone: `--option=seasons=Summer` when it is prepared. The authors' scores (Koßmann et al.
2022, arXiv 2207.09507) were not at hand, so this recipe is ours: that of
configs/bigearthnet_resnet.py with fewer epochs, for there are five times as many patches. Figures
are reported for each season, and their intervals resample places, which come several times.

Hardware, time and metric here: not yet run on the real data. The demo is a small DenseNet on 1,500
SIMULATED patches at 20 m; its figures say nothing about real scenes: test mAP 0.377 macro against
0.068 of the class frequencies, 2 minutes of CPU time (two busy cores of an AMD EPYC, 2026-11-25).
"""

import ml_collections

from rsjax import config as configs

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


def get_config(variant: str = "full") -> ml_collections.ConfigDict:
    """The run sheet: variant 'full' or 'demo'."""
    if variant not in ("full", "demo"):
        raise ValueError(f"configs/seasonet_densenet.py:{variant}: choose of full, demo")
    c = configs.base().unlock()
    c.name = f"seasonet_densenet_{variant}"

    c.data.dataset = "seasonet"
    c.data.bands = tuple(f"sentinel2_l2a/{band}" for band in BANDS)
    c.data.grid_px = 120  # 10 m
    c.task.name = "multilabel"
    c.eval.group_by = ("season",)
    c.eval.blocks = "place"

    c.model.name = "densenet121"
    c.model.dtype = "bfloat16"

    c.batch_size = 512
    c.eval_batch_size = 512
    c.total_epochs = 20.0
    c.early_stop_evals = 3
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.weight_decay = 0.01
    c.schedule.warmup_steps = 1000
    c.augment.d4 = True

    if variant == "demo":
        c.data.data_dir = "data/simulated"
        c.data.simulate_samples = 1500
        c.data.grid_px = 60  # 20 m: a quarter of the work
        fields = {"width": 16, "growth_rate": 8, "stage_sizes": (2, 4, 4)}
        c.model.fields = ml_collections.ConfigDict(fields)
        c.model.dtype = "float32"
        c.batch_size = 32
        c.eval_batch_size = 60
        c.total_epochs = 10.0
        c.eval_every_epochs = 2.0
        c.early_stop_evals = 0
        c.optimizer.learning_rate = 5e-3
        c.schedule.warmup_steps = 30
        c.log_every_steps = 20
    return c.lock()
