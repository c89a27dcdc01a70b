"""What of a model was chosen on the data of an evaluation: which data are the same."""

import dataclasses
from types import SimpleNamespace

import pytest

from rsjax.training import held_out


@dataclasses.dataclass(frozen=True)
class Made:
    """Shards, of which only what tells them apart is looked at."""

    title: str = "EuroSAT"
    name: str = "eurosat"
    version: str = "2.0.0"
    simulated: bool = False
    digest: str = "A"

    @property
    def info(self):
        return self

    def fingerprint(self):
        return self.digest


def seen(trained, made):
    told = {"title": trained.title, "dataset": trained.name, "version": trained.version,
            "simulated": trained.simulated, "fingerprint": trained.digest,
            "split": "train"}  # fmt: skip
    about = {"trained_on": told, "task": {}, "config": {"data": {"validation_split": "val"}},
             "validation": {"x": 1}}  # fmt: skip
    return held_out.seen(SimpleNamespace(about=about), made, "train+val")


@pytest.mark.parametrize("change", [
    {"title": "Another"}, {"name": "eurosat_rgb"}, {"version": "3.0.0"}, {"simulated": True},
])  # fmt: skip
def test_data_of_another_name_version_or_kind_are_not_the_same(change):
    made = Made()
    assert seen(made, made) == ["weights", "step"]
    assert seen(made, dataclasses.replace(made, digest="B")) == ["weights", "step"]  # made anew
    assert seen(made, dataclasses.replace(made, **change)) == []
    assert seen(dataclasses.replace(made, **change), made) == []


@pytest.mark.parametrize("title", ["Own patches", "Own scenes"])
def test_data_without_a_title_of_their_own_are_told_apart_by_their_shards(title):
    made = Made(title, "folder", "1.0.0")
    assert seen(made, made) == ["weights", "step"]
    assert seen(made, dataclasses.replace(made, digest="B")) == []


def test_weights_that_do_not_say_on_what_they_were_trained_have_seen_nothing():
    model = SimpleNamespace(about={"task": {}})
    assert held_out.seen(model, Made(), "train") == []
