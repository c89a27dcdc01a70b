import inspect
import json

import pytest

from rsjax import datasets, landcover, sensors
from rsjax.datasets import base
from rsjax.datasets.info import DatasetInfo
from rsjax.errors import ConfigError, DatasetError

# Of one's own folder nothing is known before it is looked at.
OFFICIAL = [name for name in datasets.names() if name not in ("folder", "scenes")]


@pytest.mark.parametrize("name", OFFICIAL)
def test_every_dataset_has_a_sound_card(name, tmp_path):
    dataset = datasets.get(name)(tmp_path)
    info = dataset.info
    assert info.name == name
    for spec in info.images.values():
        sensor = sensors.get(spec.sensor)
        assert spec.unit in sensor.units
        assert set(spec.bands) <= {band.name for band in sensor.bands}
    for sensor, bands in info.published_statistics.items():
        used = {b for s in info.images.values() if s.sensor == sensor for b in s.bands}
        assert set(bands) == used
    entry, bands = info.rgb
    assert set(bands) <= set(info.images[entry].bands)
    assert info.nomenclature in landcover.NAMES
    assert DatasetInfo.from_json(json.loads(json.dumps(info.to_json()))) == info
    assert not dataset.simulated


@pytest.mark.parametrize("name", OFFICIAL)
def test_empty_folder_is_an_error_that_names_it_and_the_page(name, tmp_path):
    dataset = datasets.get(name)(tmp_path)
    for split in dataset.info.splits:
        with pytest.raises(DatasetError) as caught:
            dataset.keys(split)
        assert str(tmp_path) in str(caught.value)
        assert dataset.info.page in str(caught.value)


@pytest.mark.parametrize("name", OFFICIAL)
def test_missing_folder_is_an_error_that_names_it_and_the_page(name, tmp_path):
    dataset = datasets.get(name)(tmp_path / "nowhere")
    with pytest.raises(DatasetError) as caught:
        dataset.keys(next(iter(dataset.info.splits)))
    assert str(tmp_path / "nowhere") in str(caught.value)
    assert dataset.info.page in str(caught.value)


@pytest.mark.parametrize("name", OFFICIAL)
def test_unknown_split_lists_the_known(name, tmp_path):
    dataset = datasets.get(name)(tmp_path)
    with pytest.raises(DatasetError, match=f"no split 'val'.*{next(iter(dataset.info.splits))}"):
        dataset.keys("val")


def test_unknown_dataset_lists_the_known():
    with pytest.raises(ConfigError, match=r"'landsat'; known: bigearthnet, bigearthnet_v1, "):
        datasets.get("landsat")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("bigearthnet", {"sensors": ("s3",)}),
        ("bigearthnet", {"sensors": ()}),
        ("bigearthnet", {"sensors": "s2,s2"}),
        ("bigearthnet", {"labels": "eurosat"}),
        ("bigearthnet_v1", {"labels": "corine_l3"}),
        ("eurosat", {"split_rule": "random"}),
        ("eurosat_allbands", {"split_rule": "random"}),
        ("ucmerced", {"split_rule": "spatial"}),
    ],
)
def test_unknown_option_value_lists_the_known(name, options, tmp_path):
    with pytest.raises(ConfigError, match=f"{next(iter(options))}=.*expected"):
        datasets.get(name)(tmp_path, **options)


def test_sensors_as_text_and_in_any_order(tmp_path):
    for sensors_given in ("s1,s2", ("s1", "s2"), ["s2", "s1"]):
        images = datasets.get("bigearthnet")(tmp_path, sensors=sensors_given).info.images
        assert list(images) == ["s2_10m", "s2_20m", "s2_60m", "s1"]


def test_fingerprint_depends_on_everything():
    info = datasets.get("ucmerced")("x").info
    other = datasets.get("eurosat")("x").info
    args = (info, {"rule": "a"}, {"train": ["a", "b"], "test": ["c"]}, {"f": b"1"})
    changes = [
        (0, other),
        (1, {"rule": "b"}),
        (2, {"train": ["b", "a"], "test": ["c"]}),
        (2, {"train": ["a"], "test": ["b", "c"]}),
        (3, {"f": b"2"}),
        (3, {"g": b"1"}),
    ]
    prints = {base.fingerprint(*(v if i == k else a for i, a in enumerate(args)))
              for k, v in changes}  # fmt: skip
    assert len(prints | {base.fingerprint(*args)}) == len(changes) + 1
    assert all(len(p) == 64 for p in prints)


@pytest.mark.parametrize("name", datasets.names())
def test_every_dataset_keeps_the_contract(name):
    made = datasets.get(name)
    for method in ("keys", "read", "fingerprint"):
        expected = inspect.signature(getattr(base.Dataset, method))
        assert list(inspect.signature(getattr(made, method)).parameters) == list(
            expected.parameters
        )
