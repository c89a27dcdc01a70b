"""DeepLab v3 on the maps of SeasoNet: land cover of every 10 m pixel, from twelve bands.

    python -m rsjax.prepare --dataset=seasonet --source=DIR
    python -m rsjax.main --config=configs/seasonet_deeplab.py                # the 33 classes
    python -m rsjax.main --config=configs/seasonet_deeplab.py:corine_l2      # 15; corine_l1: 5
    python -m rsjax.main --config=configs/seasonet_deeplab.py:bigearthnet19  # to compare with it
    python -m rsjax.main --config=configs/seasonet_deeplab.py:demo           # simulated

DeepLab v3 on a ResNet-50 (Chen et al. 2017, arXiv:1706.05587), output stride 16. The authors'
scores (Koßmann et al. 2022, arXiv 2207.09507) were not at hand; the recipe is that of
configs/bigearthnet_deeplab.py with fewer epochs, for there are five times as many patches.

Hardware, time and metric here: not yet run on the real data. The demo is a small DeepLab v3 on 600
SIMULATED patches, level 1; its figures say nothing about real scenes: test mIoU 0.565 against 0.057
of the most frequent class, 2.1 minutes of CPU time (two busy cores of an AMD EPYC, 2026-11-25).
"""

import ml_collections

from rsjax import config as configs

BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
CLASSES = ("seasonet", "corine_l2", "corine_l1", "bigearthnet19")


def get_config(variant: str = "seasonet") -> ml_collections.ConfigDict:
    """The run sheet: variant 'seasonet', 'corine_l2', 'corine_l1', 'bigearthnet19' or 'demo'."""
    if variant not in (*CLASSES, "demo"):
        known = ", ".join((*CLASSES, "demo"))
        raise ValueError(f"configs/seasonet_deeplab.py:{variant}: choose of {known}")
    c = configs.base().unlock()
    c.name = f"seasonet_deeplab_{variant}"

    c.data.dataset = "seasonet"
    c.data.bands = tuple(f"sentinel2_l2a/{band}" for band in BANDS)
    c.data.grid_px = 120  # 10 m, as the maps
    c.task.name = "segmentation"
    c.task.nomenclature = variant
    c.task.temperature = "fitted"
    c.eval.group_by = ("season",)
    c.eval.blocks = "place"

    c.model.name = "deeplabv3"
    fields = {"encoder_name": "resnet50", "output_stride": 16}
    c.model.fields = ml_collections.ConfigDict(fields)
    c.model.dtype = "bfloat16"

    c.batch_size = 256
    c.eval_batch_size = 256
    c.total_epochs = 10.0
    c.early_stop_evals = 3
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.weight_decay = 0.01
    c.schedule.warmup_steps = 1000
    c.augment.d4 = True

    if variant == "demo":
        c.data.data_dir = "data/simulated"
        c.data.simulate_samples = 600
        c.task.nomenclature = "corine_l1"
        small = {"width": 8, "stage_sizes": (1, 1, 1, 1)}
        c.model.fields = ml_collections.ConfigDict({
            "encoder_name": "resnet18", "encoder_fields": small, "output_stride": 8,
            "rates": (2, 4, 6), "decoder_channels": 32, "dropout_rate": 0.1,
        })  # fmt: skip
        c.model.dtype = "float32"
        c.batch_size = 16
        c.eval_batch_size = 32
        c.total_epochs = 8.0
        c.eval_every_epochs = 2.0
        c.early_stop_evals = 0
        c.optimizer.learning_rate = 3e-3
        c.schedule.warmup_steps = 10
        c.log_every_steps = 10
    return c.lock()
