import json

import pytest
from ml_collections import ConfigDict

from rsjax import config as configs
from rsjax.training import reproduce


def changed():
    c = configs.base().unlock()
    c.name = 'it\'s "quoted"'
    c.data.bands = ("rgb/red", "rgb/green")
    c.data.options = ConfigDict({"sensors": ("s2", "s1")})
    c.model.fields = ConfigDict({"width": 16, "stages": (2, 2)})
    c.optimizer.factors = (("layer1", 0.1), ("head", 0.0))
    c.total_epochs = 3.0
    c.augment.d4 = True
    return c


@pytest.mark.parametrize("config", [configs.base(), changed()], ids=["base", "changed"])
def test_run_sheet_makes_the_same_config(config):
    before = json.loads(json.dumps(configs.to_json(config)))
    names = {}
    exec(reproduce.run_sheet(before), names)
    again = names["get_config"]()
    assert configs.to_json(again) == before
    assert again.is_locked
    assert again.optimizer.factors == config.optimizer.factors  # tuples, not lists


def test_run_sheet_holds_what_differs_alone():
    config = configs.base()
    config.batch_size = 7
    lines = reproduce.run_sheet(configs.to_json(config)).splitlines()
    assert [line for line in lines if line.startswith("    c.")] == ["    c.batch_size = 7"]


def test_training_seconds_sum_the_steps_over_their_rates():
    rows = [
        {"step": 10, "train/images_per_s": 100.0},
        {"step": 10, "validation/loss": 1.0},
        {"step": 30, "train/images_per_s": 50.0},
    ]
    assert reproduce.training_seconds(rows, 5) == pytest.approx(10 * 5 / 100 + 20 * 5 / 50)
    assert reproduce.training_seconds([], 5) == 0
