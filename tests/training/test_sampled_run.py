"""Training with sampling by class: it runs and resumes, and says what is missing."""

import contextlib
import dataclasses
import json

import numpy as np
import pytest
import toy
from test_loop import assert_equal_bits, leaves

from rsjax.errors import CheckpointError, ShardError
from rsjax.input import histograms, manifest, pipeline, sampling
from rsjax.input.source import ShardSource
from rsjax.training import data, loop

BY_CLASS = {"data.sampling": "inverse_frequency", "data.sampling_cap": 3.0}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    path = tmp_path_factory.mktemp("data")
    root = toy.write(path)
    listed = {}
    for split in manifest.load(root).splits:
        source = ShardSource(root, split, columns=["label"])
        labels = source.read(np.arange(len(source)))["label"]
        listed[split] = histograms.save(root, split, {"label": labels})
    toy.rewrite(root, histograms=listed)
    return path


@pytest.fixture
def made(data_dir):
    return manifest.load(manifest.find(data_dir, "bigearthnet"))


@pytest.mark.once
def test_a_resumed_run_equals_an_unbroken_one_bit_for_bit(data_dir, made, tmp_path, monkeypatch):
    config = toy.config(data_dir, **BY_CLASS)
    seen, read = [], pipeline.train_batches

    def watched(*args, **options):
        for batch in read(*args, **options):
            seen.append(batch["index"])
            yield batch

    monkeypatch.setattr(pipeline, "train_batches", watched)
    scalars = loop.train_and_evaluate(config, tmp_path / "unbroken")
    ends = sampling.cumulate(data.sampling_weights(config, made))
    drawn = sampling.weighted_order(np.arange(12 * 16), ends, config.seed)
    np.testing.assert_array_equal(np.concatenate(seen), drawn)
    assert len(np.unique(drawn[:96])) < 96  # of the first epoch

    with monkeypatch.context() as patch:
        patch.setattr(loop, "watch", lambda: contextlib.nullcontext(lambda step: step == 7))
        assert loop.train_and_evaluate(config, tmp_path / "run") == {}
    assert loop.train_and_evaluate(config, tmp_path / "run") == scalars
    found = leaves(tmp_path / "run", 12)
    assert_equal_bits(found, leaves(tmp_path / "unbroken", 12))


def test_weights_are_those_of_the_train_split_s_labels(data_dir, made):
    config = toy.config(data_dir, **BY_CLASS, **{"data.train_split": "validation+train"})
    source = ShardSource(made.root, "validation+train", columns=["label"])
    labels = source.read(np.arange(len(source)))["label"]
    found = data.sampling_weights(config, made)
    np.testing.assert_array_equal(found, sampling.inverse_frequency(labels, 3.0))
    assert found.std() > 0.05
    assert data.sampling_weights(toy.config(data_dir), made) is None
    old = dataclasses.replace(made, histograms={})
    assert data.sampling_weights(toy.config(data_dir), old) is None
    with pytest.raises(ShardError, match=r"prepare. again: finished shards are kept"):
        data.sampling_weights(config, old)


def test_masks_are_counted_in_the_classes_of_the_task(data_dir, made, tmp_path):
    rng = np.random.default_rng(0)
    size = made.splits["train"]["records"]
    masks = rng.choice([0, 1, 2, 3, 255], (size, 8, 8), p=[0.5, 0.3, 0.1, 0.05, 0.05])
    masks[: size // 2][masks[: size // 2] == 3] = 0  # rare, and in half of the records only
    masks[5] = 255
    lut = np.full(256, 255, np.uint8)
    lut[[0, 1, 3]] = 1, 1, 4  # 2 is ignored

    def counted(values, classes):
        return np.array([[(value == c).sum() for c in classes] for value in values])

    masked = dataclasses.replace(
        made,
        root=tmp_path,
        info=dataclasses.replace(made.info, mask=(8, 8)),
        histograms={
            "train": histograms.save(tmp_path, "train", {"mask": counted(masks, [0, 1, 2, 3, 255])})
        },
    )
    config = toy.config(data_dir, **BY_CLASS, **{"task.name": "segmentation"})
    expected = sampling.inverse_frequency(counted(masks, range(4)), 3.0)
    np.testing.assert_allclose(data.sampling_weights(config, masked), expected, rtol=1e-12)
    mapped = data.sampling_weights(config, masked, lut)
    expected = sampling.inverse_frequency(counted(lut[masks], range(5)), 3.0)
    np.testing.assert_allclose(mapped, expected, rtol=1e-12)
    assert mapped[size // 2 :].mean() > 1.4 > 0.6 > mapped[: size // 2].mean()


def test_sampling_is_part_of_what_must_not_change(data_dir, made):
    uniform, by_class = toy.config(data_dir), toy.config(data_dir, **BY_CLASS)
    other_cap = toy.config(data_dir, **{**BY_CLASS, "data.sampling_cap": 2.0})
    inputs = data.read_inputs(uniform, made.root)[1]
    prints = [
        json.loads(json.dumps(data.fingerprint(c, made, inputs)))  # as a checkpoint keeps it
        for c in (uniform, by_class, other_cap)
    ]
    before = {k: v for k, v in prints[0].items() if k != "sampling"}  # of an older rsjax
    for i, saved in enumerate((before, prints[1], prints[2])):
        for k, current in enumerate(prints):
            where = {"position": 5, "fingerprint": saved}
            if i == k:
                assert data.resume_position(uniform, where, current) == 5
            else:
                with pytest.raises(CheckpointError, match=r"sampling: .* then, .* now"):
                    data.resume_position(uniform, where, current)
