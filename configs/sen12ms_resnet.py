"""ResNet-50 on SEN12MS: the commonest land cover of a scene, from Sentinel-2, Sentinel-1 or both.

    python -m rsjax.prepare --dataset=sen12ms --source=DIR               # 17 classes of IGBP
    python -m rsjax.main --config=configs/sen12ms_resnet.py              # S2, ten bands
    python -m rsjax.main --config=configs/sen12ms_resnet.py:s1           # Sentinel-1, two bands
    python -m rsjax.main --config=configs/sen12ms_resnet.py:s1_s2        # both, twelve bands
    python -m rsjax.main --config=configs/sen12ms_resnet.py:multilabel   # all with 10 % of a scene
    python -m rsjax.main --config=configs/sen12ms_resnet.py:demo         # simulated, no download

The classes are those of the shards: `--option=labels=dfc2020` prepares the simplified ten, and
`:multilabel` needs shards of its own, made with `--option=scene_label=shares --data_dir=...`. Bands
of the land surface only, as in the classification of Schmitt and Wu 2021. Neighbouring patches of a
scene overlap, so intervals resample whole scenes. The labels are of 500 m and often wrong.

Hardware, time and metric here: not yet run on the real data. The demo is a small ResNet on 300
SIMULATED scenes at 40 m; its figures say nothing about real scenes: test accuracy 0.617 against
0.100 of the most frequent class, 69 s of CPU time, data included (two cores shared with others, AMD
EPYC, 2026-11-25).
"""

import ml_collections

from rsjax import config as configs

S2 = tuple(
    f"sentinel2_l1c/{band}"
    for band in ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
)
S1 = ("sentinel1/VV", "sentinel1/VH")
BANDS = {"s2": S2, "s1": S1, "s1_s2": (*S1, *S2), "multilabel": (*S1, *S2), "demo": S2}


def get_config(variant: str = "s2") -> ml_collections.ConfigDict:
    """The run sheet: variant 's2', 's1', 's1_s2', 'multilabel' or 'demo'."""
    if variant not in BANDS:
        raise ValueError(f"configs/sen12ms_resnet.py:{variant}: choose of {', '.join(BANDS)}")
    c = configs.base().unlock()
    c.name = f"sen12ms_resnet_{variant}"

    c.data.dataset = "sen12ms"
    c.data.bands = BANDS[variant]
    c.data.grid_px = 256  # 10 m
    c.task.name = "classification"
    if variant == "multilabel":
        c.task.name = "multilabel"
        c.data.data_dir = "data/shares"
        c.data.options = ml_collections.ConfigDict({"scene_label": "shares"})
    c.eval.group_by = ("season",)
    c.eval.blocks = "scene"

    c.model.name = "resnet50"
    c.model.dtype = "bfloat16"

    c.batch_size = 256
    c.eval_batch_size = 256
    c.total_epochs = 30.0
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
        c.data.grid_px = 64  # 40 m: a sixteenth of the work
        c.model.fields = ml_collections.ConfigDict({"width": 16, "stage_sizes": (1, 1, 1, 1)})
        c.model.name = "resnet18"
        c.model.dtype = "float32"
        c.batch_size = 16
        c.eval_batch_size = 30
        c.total_epochs = 12.0
        c.early_stop_evals = 0
        c.optimizer.learning_rate = 3e-3
        c.schedule.warmup_steps = 15
        c.log_every_steps = 10
    return c.lock()
