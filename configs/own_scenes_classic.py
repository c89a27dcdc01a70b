"""Random forest, gradient boosting or K-means on your own scenes; minutes on a CPU.

    python -m rsjax.prepare --dataset=scenes --source=FOLDER --data_dir=data    # docs/scenes.md
    python -m rsjax.main --config=configs/own_scenes_classic.py:random_forest
    python -m rsjax.main --config=configs/own_scenes_classic.py:demo            # simulated scenes

Variants random_forest, gradient_boosting, kmeans. For patches of 120 px at 10 m with ten bands of
Sentinel-2; set `data.bands` and `data.grid_px` to what `scenes.json` says where that differs. A
pixel is its bands, three normalised differences, and mean and spread of all over 3 x 3 pixels:
docs/classic.md. Labels may be a map, polygons or points; only labelled pixels count. Needs
`pip install 'rsjax[classic]'` to fit, not to predict.

Hardware, time and metric here: two polygon layers and one scene are in docs/classic.md. The demo is
a random forest on two SIMULATED scenes; its figures say nothing about real ones.
"""

import ml_collections

from rsjax import config as configs

BANDS = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")
VARIANTS = ("random_forest", "gradient_boosting", "kmeans", "demo")


def get_config(variant: str = "random_forest") -> ml_collections.ConfigDict:
    """The run sheet: one of `VARIANTS`."""
    if variant not in VARIANTS:
        raise ValueError(
            f"configs/own_scenes_classic.py:{variant}: choose of {', '.join(VARIANTS)}"
        )
    c = configs.base().unlock()
    c.name = f"own_scenes_{variant}"

    c.data.dataset = "scenes"
    c.data.bands = tuple(f"sentinel2_l2a/{band}" for band in BANDS)
    c.data.grid_px = 120
    c.task.name = "segmentation"
    c.eval.group_by = ("scene",)
    c.eval.blocks = "block"

    c.model.name = "random_forest" if variant == "demo" else variant
    c.model.fields = ml_collections.ConfigDict(
        {"radius_px": 1, "indices": ("ndvi", "ndwi", "ndbi")}
    )
    c.fit.per_class = 10000
    c.eval_batch_size = 8
    if variant == "demo":
        c.data.data_dir = "data/simulated"
        c.data.simulate_samples = 240
        c.data.grid_px = 64
        c.fit.per_class = 500
        c.fit.options = ml_collections.ConfigDict({"n_estimators": 20})
    return c.lock()
