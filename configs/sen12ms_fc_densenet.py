"""FC-DenseNet-67 on SEN12MS: land cover of every pixel, from Sentinel-2, Sentinel-1 or both.

    python -m rsjax.prepare --dataset=sen12ms --source=DIR
    python -m rsjax.main --config=configs/sen12ms_fc_densenet.py         # S2; or :s1, :s1_s2
    python -m rsjax.main --config=configs/sen12ms_fc_densenet.py:igbp    # S2, 17 classes
    python -m rsjax.main --config=configs/sen12ms_fc_densenet.py:demo    # simulated, no download

The same shards as for `sen12ms_resnet.py`; the 17 classes of IGBP are joined to the ten of the IEEE
Data Fusion Contest 2020. To leave out savanna, as the contest did, prepare with
`--option=labels=dfc2020 --option=savanna=ignore --option=scene_label=none`. The labels are of 500 m
and only repeated at 10 m: no model can follow both them and the image, so boundary figures stay
low. Published for DeepLab v3+ on S2, hold-out scenes without savanna: mIoU 0.435.

Hardware, time and metric here: not yet run on the real data. The demo is a small FC-DenseNet on 300
SIMULATED scenes; its figures say nothing about real scenes: test mIoU 0.387 against 0.028 of the
most frequent class, 4.4 minutes of CPU time, data included (two cores shared with others, AMD EPYC,
2026-11-25).
"""

import ml_collections

from rsjax import config as configs

S2 = tuple(
    f"sentinel2_l1c/{band}"
    for band in ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
)
S1 = ("sentinel1/VV", "sentinel1/VH")
BANDS = {"s2": S2, "s1": S1, "s1_s2": (*S1, *S2), "igbp": S2, "demo": S2}


def get_config(variant: str = "s2") -> ml_collections.ConfigDict:
    """The run sheet: variant 's2', 's1', 's1_s2', 'igbp' or 'demo'."""
    if variant not in BANDS:
        raise ValueError(f"configs/sen12ms_fc_densenet.py:{variant}: choose of {', '.join(BANDS)}")
    c = configs.base().unlock()
    c.name = f"sen12ms_fc_densenet_{variant}"

    c.data.dataset = "sen12ms"
    c.data.bands = BANDS[variant]
    c.data.grid_px = 256  # 10 m, as the masks
    c.task.name = "segmentation"
    c.task.nomenclature = "igbp" if variant == "igbp" else "dfc2020"
    c.task.class_weights = "median_frequency"
    c.eval.group_by = ("season",)
    c.eval.blocks = "scene"

    c.model.name = "fc_densenet67"
    c.model.fields = ml_collections.ConfigDict({"remat": True})
    c.model.dtype = "bfloat16"

    c.batch_size = 64
    c.eval_batch_size = 64
    c.total_epochs = 20.0
    c.early_stop_evals = 5
    c.optimizer.name = "adamw"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.weight_decay = 0.01
    c.schedule.warmup_steps = 1000
    c.augment.d4 = True

    if variant == "demo":
        c.data.data_dir = "data/simulated"
        c.data.simulate_samples = 300
        c.data.options = ml_collections.ConfigDict({"sensors": "s2"})
        fields = {"stage_sizes": (1, 2, 4, 2, 1), "growth_rate": 8, "width": 8}
        c.model.fields = ml_collections.ConfigDict(fields)
        c.model.dtype = "float32"
        c.batch_size = 4
        c.eval_batch_size = 16
        c.total_epochs = 2.0
        c.early_stop_evals = 0
        c.optimizer.learning_rate = 3e-3
        c.schedule.warmup_steps = 10
        c.log_every_steps = 10
    return c.lock()
