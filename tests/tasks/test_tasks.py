import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsjax import config as configs
from rsjax import tasks
from rsjax.errors import ConfigError


def options(**changes):
    return {**configs.base().task.to_dict(), **changes}


def test_unknown_tasks_list_the_known_ones():
    with pytest.raises(ConfigError, match="classification, multilabel"):
        tasks.make("segmentatoin", options(), 3)


def test_class_weights_are_inverse_to_counts_with_mean_one():
    weights = tasks.class_weights("inverse", [10, 40, 0])
    assert weights.mean() == pytest.approx(1.0)
    assert weights[0] == pytest.approx(4 * weights[1])
    assert weights[2] == weights[0]  # a class without samples: as the rarest that has some
    assert tasks.class_weights("none", [1, 2]) is None


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
