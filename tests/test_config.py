import importlib.util
import json
import pathlib

import pytest

from rsjax import config as configs
from rsjax.errors import ConfigError

FOLDER = pathlib.Path(__file__).parent.parent / "configs"
SHEETS = [
    ("bigearthnet_resnet", ""), ("bigearthnet_resnet", "s1"), ("bigearthnet_resnet", "s1_s2"),
    ("bigearthnet_resnet", "demo"), ("eurosat_resnet", ""), ("eurosat_resnet", "cpu"),
    ("eurosat_resnet", "demo"), ("ucmerced_resnet", "demo"),
    ("ucmerced_resnet", ""), ("bigearthnet_unet", ""), ("bigearthnet_unet", "corine_l1"),
    ("forty_unet", ""), ("forty_unet", "temporal"), ("forty_unet", "demo"),
    ("bigearthnet_unet", "demo"), ("bigearthnet_deeplab", ""), ("bigearthnet_deeplab", "corine_l3"),
    ("bigearthnet_deeplab", "demo"), ("buildings_xception_unet", ""),
    ("buildings_xception_unet", "inria"), ("buildings_xception_unet", "massachusetts"),
    ("buildings_xception_unet", "demo"), ("openearthmap_unet", ""), ("openearthmap_unet", "demo"),
    ("seasonet_densenet", ""), ("seasonet_densenet", "demo"), ("seasonet_deeplab", ""),
    ("seasonet_deeplab", "bigearthnet19"), ("seasonet_deeplab", "demo"), ("sen2lulc_unet", ""),
    ("sen2lulc_unet", "demo"),
    ("own_scenes_unet", ""), ("own_scenes_unet", "demo"), ("own_scenes_classic", ""),
    ("own_scenes_classic", "gradient_boosting"), ("own_scenes_classic", "kmeans"),
    ("own_scenes_classic", "demo"),
    ("sen12ms_resnet", ""), ("sen12ms_resnet", "s1"), ("sen12ms_resnet", "s1_s2"),
    ("sen12ms_resnet", "multilabel"), ("sen12ms_resnet", "demo"), ("sen12ms_densenet", ""),
    ("sen12ms_densenet", "s1_s2"), ("sen12ms_densenet", "demo"), ("sen12ms_fc_densenet", ""),
    ("sen12ms_fc_densenet", "igbp"), ("sen12ms_fc_densenet", "demo"), ("multisenge_unet", ""),
    ("multisenge_unet", "one"), ("multisenge_unet", "demo"),
    ("levir_cd_fc_siam", ""), ("levir_cd_fc_siam", "conc"), ("levir_cd_fc_siam", "ef"),
    ("levir_cd_fc_siam", "unet"), ("levir_cd_fc_siam", "demo"), ("oscd_fc_siam", ""),
    ("oscd_fc_siam", "conc"), ("oscd_fc_siam", "ef"), ("oscd_fc_siam", "unet"),
    ("oscd_fc_siam", "demo"),
]  # fmt: skip


def sheet(name, variant=""):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.get_config(*([variant] if variant else []))


@pytest.mark.parametrize(("name", "variant"), SHEETS)
def test_every_run_sheet_is_valid_locked_and_says_how_to_run_it(name, variant):
    module, config = sheet(name, variant)
    configs.validate(config)
    assert config.is_locked
    assert f"--config=configs/{name}.py" in module.__doc__
    assert "ardware" in module.__doc__
    json.dumps(configs.to_json(config))


def test_the_list_of_sheets_is_complete():
    assert {p.stem for p in FOLDER.glob("*.py")} == {name for name, _ in SHEETS}


@pytest.mark.parametrize(("name", "variant"), SHEETS)
def test_models_and_bands_of_run_sheets_exist(name, variant):
    from rsjax import models, sensors

    _, config = sheet(name, variant)
    models.get(config.model.name, num_classes=3, **config.model.fields)
    for band in config.data.bands:
        sensor, own = band.split("/")
        assert sensors.get(sensor).band(own.partition("@")[0])


def test_all_errors_are_reported_at_once_with_key_and_choices():
    _, config = sheet("eurosat_resnet")
    config.unlock()
    config.data.dataset = "eurosatt"
    config.optimizer.name = "adam"
    config.total_steps = 5
    config.task.label_smoothing = 1.5
    config.data.bands = ("red",)
    config.optimizer.accumulate_steps = 3
    with pytest.raises(ConfigError) as caught:
        configs.validate(config)
    message = str(caught.value)
    for part in (
        "data.dataset='eurosatt': did you mean 'eurosat'?",
        "optimizer.name='adam': choose one of adamw, sgd, lamb",
        "set one of total_steps and total_epochs",
        "task.label_smoothing=1.5: must lie in [0.0, 0.99]",
        "name them as 'sensor/band'",
        "batch_size=128 is no multiple of optimizer.accumulate_steps=3",
    ):
        assert part in message, part


def test_every_field_has_a_comment():
    """The list of fields is their documentation."""
    import inspect

    lines = inspect.getsource(configs.base).splitlines()
    for line in lines:
        if " = " in line and "ConfigDict(" not in line and "mesh" not in line:
            assert "#" in line, line


def test_table_marks_overrides():
    _, config = sheet("eurosat_resnet")
    with config.ignore_type():
        config.batch_size = 64
    text = configs.table(config, ["batch_size"])
    row = next(line for line in text.splitlines() if line.startswith("batch_size"))
    assert row.split() == ["batch_size", "int", "256", "64", "command", "line"]
    assert text.count("command line") == 1
    assert "config file" in next(line for line in text.splitlines() if "data.dataset" in line)


def test_durations_in_steps_or_epochs():
    config = configs.base().unlock()
    config.total_epochs = 2.5
    assert configs.steps_of(config, "total", 10.2) == 26
    config.total_steps = 7
    assert configs.steps_of(config, "total", 10.2) == 7
    config.schedule.warmup_epochs = 1.0
    assert configs.steps_of(config, "schedule.warmup", 10.0) == 10
