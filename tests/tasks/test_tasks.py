import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsjax import config as configs
from rsjax import tasks
from rsjax.errors import ConfigError, RsjaxError


def options(**changes):
    return {**configs.base().task.to_dict(), **changes}


def test_unknown_tasks_list_the_known_ones():
    with pytest.raises(ConfigError, match="classification, multilabel, segmentation"):
        tasks.make("segmentatoin", options(), 3)


@pytest.mark.parametrize("name", ["classification", "multilabel"])
def test_class_weights_and_smoothing_change_the_loss(name):
    logits = jnp.asarray([[2.0, -1.0, 0.5], [0.1, 0.2, 3.0]])
    label = jnp.asarray([0, 1]) if name == "classification" else jnp.asarray([[1, 0, 0], [0, 1, 1]])
    losses = []
    for changes in ({}, {"class_weights": "inverse"}, {"label_smoothing": 0.2}):
        task = tasks.make(name, options(**changes), 3, [10, 40, 80])
        target = task.target({"label": label})
        losses.append(float(jax.jit(task.loss)(logits, target, jnp.ones(2, bool))))
    assert len(set(losses)) == 3


def test_smoothing_reaches_every_loss_that_has_it_or_is_refused():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 6, 3)), jnp.float32)
    labels = jnp.asarray(np.random.default_rng(1).integers(0, 3, (1, 6, 6)), jnp.uint8)
    changes = {"losses": (("boundary_cross_entropy", 1.0), ("dice", 1.0))}
    found = [
        float(tasks.make("segmentation", options(**changes, label_smoothing=e), 3).loss(
            logits, labels, jnp.ones(1, bool)))
        for e in (0.0, 0.3)
    ]  # fmt: skip
    assert found[0] != found[1]
    with pytest.raises(ConfigError, match="none of the losses dice has it"):
        tasks.make("segmentation", options(losses=(("dice", 1.0),), label_smoothing=0.1), 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ("focal",)}, r"not \(name, weight\)"),
        ({"losses": (("focal",),)}, r"not \(name, weight\)"),
        ({"losses": (("focal", 1.0),), "loss_options": {"focal": {"gamma": -1.0}}}, "gamma"),
        ({"nomenclature": "corine_l9"}, "corine_l9"),
    ],
)
def test_what_cannot_work_is_found_without_data(changes, message):
    with pytest.raises(RsjaxError, match=message):
        tasks.check("segmentation", options(**changes))


def test_one_class_is_decided_by_the_largest_and_many_by_the_threshold():
    row = np.array([[0.2, 0.5, 0.3]], np.float32)
    one = tasks.make("classification", options(), 3)
    assert one.decide(row).tolist() == [[False, True, False]]
    many = tasks.make("multilabel", options(threshold=0.3), 3)
    assert many.decide(row).tolist() == [[False, True, True]]


def test_baselines_are_what_always_predicting_the_frequencies_scores():
    from sklearn.metrics import average_precision_score

    labels = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [1, 0, 0]])
    many = tasks.make("multilabel", options(), 3)
    expected = np.mean([average_precision_score(labels[:, i], np.ones(4)) for i in range(2)])
    assert many.baseline(labels.sum(0).tolist(), 4) == pytest.approx(expected)
    one = tasks.make("classification", options(), 3)
    assert one.baseline([5, 3, 2], 10) == 0.5


def test_ignored_pixels_and_padded_samples_touch_neither_loss_nor_metric():
    task = tasks.make("segmentation", options(), 3)
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 4, 5)).astype(np.uint8)
    labels[0, 1] = 255
    valid = np.array([True, False])
    keep = np.zeros(labels.shape, bool)
    keep[0] = labels[0] != 255
    wild = np.where(keep[..., None], logits, np.nan)

    @jax.jit
    def both(logits, labels):
        mask = task.counts(labels, jnp.asarray(valid))
        metric = task.metrics["confusion"].from_model_output(
            logits=logits, labels=labels, mask=mask
        )
        return task.loss(logits, labels, jnp.asarray(valid)), metric, mask

    loss, metric, mask = both(wild, labels)
    np.testing.assert_array_equal(mask, keep)
    shifted = logits[keep] - logits[keep].max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    np.testing.assert_allclose(loss, -log_p[np.arange(keep.sum()), labels[keep]].mean(), rtol=1e-5)
    wanted = np.zeros((3, 3), int)
    np.add.at(wanted, (labels[keep], logits[keep].argmax(-1)), 1)
    np.testing.assert_array_equal(metric.counts, wanted)
    assert task.baseline([6, 3, 0], 1) == pytest.approx(6 / 9 / 2)
