"""U-Net on ForTy v1: forest types of every 10 m pixel, from four seasons of Sentinel-2.

    python -m rsjax.prepare --dataset=forty --source=forty_v1/1.0.0 --option sensors=s2,elevation
    python -m rsjax.main --config=configs/forty_unet.py           # the seasons as channels
    python -m rsjax.main --config=configs/forty_unet.py:temporal  # one encoder for each season
    python -m rsjax.main --config=configs/forty_unet.py:demo      # simulated, no download

The U-Net of segmentation-models-pytorch on a ResNet-34, ten bands in four seasons at 128 px. By
default they are 40 channels of one image, and the three of the terrain beside them; `temporal` runs
the encoder on each season and takes the mean of its maps, without the terrain. A pixel without a
value (clouds) has its band's mean. 'Unknown' is ignored. The paper reports macro-F1 81.1 for its
best model, 32.4 for a 3D U-Net, with climate besides (arXiv:2505.01805, table I).

The download is 1.1 TB: `--option shards=64,64,64` prepares the first 64 of the 1024 shards of each
split, 10,000 places for training.

Hardware, time and metric here: not yet run on the real data. The demo is a small temporal U-Net on
48 SIMULATED places, 36 of them for training; its figures say nothing about real ones: test mIoU
0.763 against 0.048 of class frequencies, 1.9 minutes of CPU time (two busy cores of an AMD EPYC,
2026-11-25).
"""

import ml_collections

from rsjax import config as configs

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
TERRAIN = ("elevation", "slope", "aspect")
SEASONS = 4
VARIANTS = ("channels", "temporal", "demo")


def get_config(variant: str = "channels") -> ml_collections.ConfigDict:
    """The run sheet: variant 'channels', 'temporal' or 'demo'."""
    if variant not in VARIANTS:
        raise ValueError(f"configs/forty_unet.py:{variant}: choose of {', '.join(VARIANTS)}")
    c = configs.base().unlock()
    c.name = f"forty_unet_{variant}"

    series = tuple(f"sentinel2_l2a/{b}@{step}" for step in range(SEASONS) for b in BANDS)
    c.data.dataset = "forty"
    c.data.bands = (*series, *(f"fabdem/{band}" for band in TERRAIN))
    c.data.grid_px = 128
    c.task.name = "segmentation"
    c.task.nomenclature = "forty"
    c.task.temperature = "fitted"

    c.model.name = "unet"
    c.model.fields = ml_collections.ConfigDict({"encoder_name": "resnet34"})
    c.model.dtype = "bfloat16"

    c.batch_size = 128
    c.eval_batch_size = 128
    c.total_epochs = 30.0
    c.early_stop_evals = 5
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.weight_decay = 0.01
    c.schedule.warmup_steps = 1000
    c.augment.d4 = True

    if variant != "channels":
        c.data.bands = series
        c.model.name = "temporal_unet"
        fields = {"encoder_name": "resnet34", "steps": SEASONS, "pool": "mean"}
        c.model.fields = ml_collections.ConfigDict(fields)
    if variant == "demo":
        c.data.data_dir = "data/simulated"
        c.data.simulate_samples = 48
        c.model.fields = ml_collections.ConfigDict(
            {
                "encoder_name": "resnet18",
                "encoder_fields": {"width": 8, "stage_sizes": (1, 1, 1)},
                "decoder_channels": (32, 16, 16, 8),
                "steps": SEASONS,
            }
        )
        c.model.dtype = "float32"
        c.batch_size = 6
        c.eval_batch_size = 6
        c.total_epochs = 20.0
        c.early_stop_evals = 0
        c.optimizer.learning_rate = 3e-3
        c.schedule.warmup_steps = 10
        c.log_every_steps = 10
    return c.lock()
