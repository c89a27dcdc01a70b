"""Fitted models as arrays decide as scikit-learn does, also at thresholds."""

import jax
import numpy as np
import pytest
import threadpoolctl
from sklearn.cluster import MiniBatchKMeans
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier

from rsjax import models
from rsjax.classic import estimators
from rsjax.errors import ConfigError

SMALL = {
    "random_forest": {"n_estimators": 12, "max_features": 2},
    "gradient_boosting": {"max_iter": 8, "learning_rate": 0.3, "min_samples_leaf": 3},
}
PEERS = {
    "random_forest": RandomForestClassifier,
    "gradient_boosting": HistGradientBoostingClassifier,
}
CLASSES = 5


@pytest.fixture(autouse=True)
def one_thread():
    """Threads for a few hundred rows cost more than they give."""
    with threadpoolctl.threadpool_limits(1):
        yield


def rows(count=400, three=True):
    """Few distinct values, so that many lie beside a threshold; class 1 never comes."""
    rng = np.random.default_rng(1)
    x = np.round(rng.normal(size=(count, 4)), 1).astype(np.float32)
    noise = rng.normal(size=count) / 2
    y = np.where(x[:, 0] + x[:, 1] * x[:, 2] + noise > 0, 4, 0)
    return x, np.where((x[:, 3] > 0.4) & three, 2, y).astype(np.int32), rng.uniform(0.5, 2, count)


def probabilities(name, params, x, **fields):
    model = models.get(name, num_classes=CLASSES, **fields)
    logits = model.apply({"params": params}, x[None, :, None], False)
    return np.asarray(jax.nn.softmax(logits))[0, :, 0]


@pytest.mark.parametrize("three", [True, False], ids=["three classes", "two classes"])
@pytest.mark.parametrize("name", list(SMALL))
def test_probabilities_are_those_of_scikit_learn_also_at_thresholds(name, three):
    x, y, weights = rows(three=three)
    options = SMALL[name]
    params, _ = estimators.fit(name, x, y, weights, CLASSES, options=options, seed=3, jobs=1)
    more = {} if name == "random_forest" else {"early_stopping": False, "l2_regularization": 1.0}
    peer = PEERS[name](random_state=3, **options, **more).fit(x, y, sample_weight=weights)
    inner = params["threshold"][np.isfinite(params["threshold"])]
    at = np.resize(inner, (len(inner) // 4 + 1, 4))  # the thresholds, and the numbers around them
    near = [np.nextafter(at, np.float32(side)) for side in (-np.inf, np.inf)]
    asked = np.concatenate([x, at, *near]).astype(np.float32)
    asked[np.abs(asked) < np.finfo(np.float32).tiny] = 0  # subnormal: zero to XLA's comparison
    wanted = np.zeros((len(asked), CLASSES))
    wanted[:, peer.classes_] = peer.predict_proba(asked)
    found = probabilities(name, params, asked)
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert (found[:, 1] < 1e-6).all()


def test_thresholds_are_rounded_down_to_float32():
    values = np.array([0.1, -0.1, 1 + 1e-12, 1 - 1e-12, 2.5, 3e38])
    found = estimators.not_above(values)
    assert found.dtype == np.float32
    assert (found <= values).all()
    assert (np.nextafter(found, np.float32(np.inf)).astype(float) > values).all()


def test_boosting_ends_where_other_rows_are_predicted_best():
    x, y, weights = rows()
    held = (x[:, ::-1].copy(), y, weights)  # rows that it understands less and less
    options = {**SMALL["gradient_boosting"], "max_iter": 30}
    fit = {"options": options, "seed": 3, "jobs": 1}
    params, told = estimators.fit(
        "gradient_boosting", x, y, weights, CLASSES, validation=held, **fit
    )
    assert 1 <= told["iterations"] < told["iterations_tried"] == 30

    def loss(params):
        found = probabilities("gradient_boosting", params, held[0])[np.arange(len(y)), y]
        return -(weights * np.log(found)).sum()

    each = []
    for count in (told["iterations"], told["iterations"] + 1, max(1, told["iterations"] - 1)):
        fit["options"] = {**options, "max_iter": count}
        each.append(loss(estimators.fit("gradient_boosting", x, y, weights, CLASSES, **fit)[0]))
    assert np.isclose(loss(params), each[0])
    assert each[0] == min(each)


def test_a_pixel_has_the_class_frequencies_of_its_nearest_centroid():
    x, y, weights = rows()
    options = {"n_clusters": 9}
    params, told = estimators.fit("kmeans", x, y, weights, CLASSES, options=options, seed=0, jobs=1)
    scaled = (x - params["shift"]) * params["scale"]
    np.testing.assert_allclose(np.average(scaled, axis=0, weights=weights), 0, atol=1e-5)
    peer = MiniBatchKMeans(9, random_state=0, n_init=3).fit(scaled, sample_weight=weights)
    cluster = peer.predict(scaled)
    votes = np.stack([np.bincount(y[cluster == j], weights[cluster == j], CLASSES)
                      for j in range(9)])  # fmt: skip
    wanted = (votes / votes.sum(axis=1, keepdims=True))[cluster]
    np.testing.assert_allclose(probabilities("kmeans", params, x), wanted, atol=1e-5)
    assert np.isclose(told["share_of_the_majority"], votes.max(axis=1).sum() / weights.sum())


def test_clusters_without_names_are_classes_of_their_own():
    x, y, weights = rows()
    fit = {"options": {"n_clusters": CLASSES}, "seed": 0, "jobs": 1, "named": False}
    params, told = estimators.fit("kmeans", x, y, weights, CLASSES, **fit)
    found = probabilities("kmeans", params, x, named=False)
    scaled = (x - params["shift"]) * params["scale"]
    apart = np.square(scaled[:, None] - params["centroid"]).sum(axis=2)
    exact = np.exp(-apart / 2 / params["variance"])
    np.testing.assert_allclose(found, exact / exact.sum(axis=1, keepdims=True), atol=1e-5)
    assert (found.argmax(axis=1) == apart.argmin(axis=1)).all()
    assert "share_of_the_majority" not in told


def test_options_that_it_does_not_take_are_one_message():
    x, y, weights = rows(40)
    fit = {"seed": 0, "jobs": 1}
    with pytest.raises(ConfigError, match=r"'trees'; known: bootstrap, .*n_estimators"):
        estimators.fit("random_forest", x, y, weights, 5, options={"trees": 3}, **fit)
    with pytest.raises(ConfigError, match=r"n_estimators.*must be an int"):
        estimators.fit("random_forest", x, y, weights, 5, options={"n_estimators": 0}, **fit)
