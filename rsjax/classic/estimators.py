"""scikit-learn fits; what it found becomes plain arrays for `rsjax.models`.

Pedregosa et al. 2011, Scikit-learn: Machine Learning in Python. The forest compares float32 values
with float64 thresholds, boosting float64 with float64. Inputs here are float32, and for those
x <= t is the same as x <= the largest float32 that is not above t: thresholds are rounded down, and
every decision stays what it was.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rsjax.errors import ConfigError
from rsjax.models.trees import FLOOR

Arrays = dict[str, np.ndarray]
CLUSTERS_A_CLASS = 4  # default of kmeans: a class rarely is one cloud


def fit(
    name: str,
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    classes: int,
    *,
    options: Mapping[str, Any],
    seed: int,
    jobs: int = 0,
    named: bool = True,
    validation: tuple[np.ndarray, np.ndarray, np.ndarray] | None = None,
) -> tuple[Arrays, dict[str, Any]]:
    """Fits a model.

    Args:
        name: 'random_forest', 'gradient_boosting' or 'kmeans'.
        features: (N, F) float32.
        labels: (N,) class indices.
        weights: (N,) of the rows.
        classes: number of classes.
        options: of the estimator.
        seed: of all that is random in it.
        jobs: threads; 0: all cores of this process.
        named: kmeans: whether clusters get the class of most of their rows, else each is its own.
        validation: gradient_boosting: features, labels and weights that say after how many
            iterations it ends: where their weighted negative log-likelihood is least.

    Returns:
        parameters for the model of this name in `rsjax.models`, and what else is worth telling.

    Raises:
        ConfigError: scikit-learn is not installed, or an option that it does not take.
    """
    # Threads that wait would spin, for seconds where others have the cores; read when OpenMP loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import joblib
        import sklearn  # noqa: F401
        from threadpoolctl import threadpool_limits
    except ImportError:
        raise ConfigError(
            f"model.name={name!r} needs scikit-learn: pip install 'rsjax[classic]'"
        ) from None
    jobs = jobs or joblib.cpu_count()  # heeds the quota of a container
    with threadpool_limits(limits=jobs):
        made = {
            "random_forest": _forest, "gradient_boosting": _boosting, "kmeans": _kmeans
        }[name](dict(options), seed, jobs, classes)  # fmt: skip
        try:
            if name == "kmeans":
                return _centroids(made, features, labels, weights, classes, named)
            made.fit(features, labels, sample_weight=weights)
        except (ValueError, TypeError) as error:  # scikit-learn checks options when it fits
            raise ConfigError(f"fit.options={dict(options)}: {error}") from None
    if name == "random_forest":
        return _forest_arrays(made, classes)
    count = len(made._predictors) if validation is None else _best_iteration(made, *validation)
    return _boosted_arrays(made, classes, count)


def _best_iteration(
    made: Any, features: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> int:
    """How many iterations predict these rows best."""
    columns = np.searchsorted(made.classes_, labels)
    known = np.isin(labels, made.classes_)  # what was never seen is missed by all
    rows, columns, weights = np.flatnonzero(known), columns[known], weights[known]
    losses = [
        -(weights * np.log(np.maximum(found[rows, columns], FLOOR))).sum()
        for found in made.staged_predict_proba(features)
    ]
    return 1 + int(np.argmin(losses))


def _make(kind: type, defaults: dict[str, Any], options: dict[str, Any]) -> Any:
    try:
        return kind(**{**defaults, **options})
    except TypeError as error:
        known = ", ".join(sorted(kind().get_params()))
        raise ConfigError(f"fit.options: {error}; known: {known}") from None


def _forest(options: dict[str, Any], seed: int, jobs: int, classes: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return _make(RandomForestClassifier, {"random_state": seed, "n_jobs": jobs}, options)


def _boosting(options: dict[str, Any], seed: int, jobs: int, classes: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier

    # Early stopping would hold out single pixels, whose neighbours are fitted to. Without l2 the
    # leaves of rare classes grow without bound: where all agree, the second derivative vanishes.
    defaults = {"random_state": seed, "early_stopping": False, "l2_regularization": 1.0}
    return _make(HistGradientBoostingClassifier, defaults, options)


def _kmeans(options: dict[str, Any], seed: int, jobs: int, classes: int) -> Any:
    from sklearn.cluster import MiniBatchKMeans

    defaults = {"n_clusters": CLUSTERS_A_CLASS * classes, "random_state": seed, "n_init": 3}
    return _make(MiniBatchKMeans, defaults, options)


def not_above(values: np.ndarray) -> np.ndarray:
    """The largest float32 that is not above each float64."""
    near = values.astype(np.float32)
    return np.where(near > values, np.nextafter(near, np.float32(-np.inf)), near)


def _forest_arrays(made: Any, classes: int) -> tuple[Arrays, dict[str, Any]]:
    trees = []
    for one in made.estimators_:
        tree = one.tree_
        value = np.zeros((tree.node_count, classes))
        value[:, made.classes_.astype(int)] = tree.value[:, 0]
        value /= value.sum(axis=1, keepdims=True)
        left, right = tree.children_left, tree.children_right
        trees.append((left, right, tree.feature, tree.threshold, left < 0, value))
    arrays = pack(trees, np.zeros(classes))
    about = {"trees": len(trees), "importance": made.feature_importances_.tolist()}
    return arrays, {**about, "leaves": len(arrays["value"])}


def _boosted_arrays(made: Any, classes: int, count: int) -> tuple[Arrays, dict[str, Any]]:
    there = made.classes_.astype(int)
    columns = there if len(there) > 2 else there[1:]  # of two classes the second has the trees
    trees = []
    for iteration in made._predictors[:count]:
        for column, predictor in zip(columns, iteration, strict=True):
            nodes = predictor.nodes
            value = np.zeros((len(nodes), classes))
            value[:, column] = nodes["value"]
            trees.append((
                nodes["left"].astype(np.int64), nodes["right"].astype(np.int64),
                nodes["feature_idx"].astype(np.int64), nodes["num_threshold"],
                nodes["is_leaf"].astype(bool), value,
            ))  # fmt: skip
    baseline = np.full(classes, -np.inf)  # a class without pixels is never the answer
    baseline[there] = 0
    baseline[columns] = np.ravel(made._baseline_prediction)
    arrays = pack(trees, baseline)
    about = {"iterations": count, "iterations_tried": len(made._predictors), "trees": len(trees)}
    return arrays, {**about, "leaves": len(arrays["value"])}


def pack(trees: Sequence[tuple[np.ndarray, ...]], baseline: np.ndarray) -> Arrays:
    """Trees as `rsjax.models.trees` walks them.

    Args:
        trees: of each left and right child, feature, threshold (right if larger), whether it is a
            leaf, and values (nodes, K); node 0 is the root.
        baseline: (K,).
    """
    parts: dict[str, list[np.ndarray]] = {
        name: [] for name in ("child", "feature", "threshold", "value")
    }
    roots, depths, nodes, leaves = [], [], 0, 0
    for left, right, feature, threshold, is_leaf, value in trees:
        # Level by level; the children of a level's nodes make the next one, in pairs.
        level, order, starts = np.zeros(1, np.int64), [], []
        while len(level):
            order.append(level)
            inner = level[~is_leaf[level]]
            starts.append(np.where(is_leaf[level], -1, 2 * (np.cumsum(~is_leaf[level]) - 1)))
            level = np.stack([left[inner], right[inner]], axis=1).reshape(-1)
        ends = np.cumsum([len(one) for one in order])
        child = np.concatenate(
            [np.where(s < 0, -1, end + s) for s, end in zip(starts, ends, strict=True)]
        )
        new = np.concatenate(order)
        leaf = is_leaf[new]
        parts["child"].append(nodes + np.where(leaf, np.arange(len(new)), child))
        parts["feature"].append(np.where(leaf, leaves + np.cumsum(leaf) - 1, feature[new]))
        parts["threshold"].append(np.where(leaf, np.inf, not_above(threshold[new])))
        parts["value"].append(value[new[leaf]])
        roots.append(nodes)
        depths.append(len(order) - 1)
        nodes, leaves = nodes + len(new), leaves + int(leaf.sum())
    kinds = {"child": np.int32, "feature": np.int32, "threshold": np.float32, "value": np.float32}
    found = {name: np.concatenate(parts[name]).astype(kind) for name, kind in kinds.items()}
    return {
        **found,
        "root": np.array(roots, np.int32),
        "depth": np.array(depths, np.int32),
        "baseline": baseline.astype(np.float32),
    }


def _centroids(
    made: Any, features: np.ndarray, labels: np.ndarray, weights: np.ndarray, classes: int,
    named: bool,
) -> tuple[Arrays, dict[str, Any]]:  # fmt: skip
    wide, share = features.astype(np.float64), weights / weights.sum()
    shift = share @ wide
    spread = np.sqrt(share @ np.square(wide - shift))
    scale = np.where(spread > 0, 1 / np.where(spread > 0, spread, 1), 0)
    shift, scale = shift.astype(np.float32), scale.astype(np.float32)
    scaled = (features - shift) * scale
    made.fit(scaled, sample_weight=weights)
    centroid = made.cluster_centers_.astype(np.float32)
    cluster = made.predict(scaled)
    square = np.square(scaled - centroid[cluster]).sum(axis=1)
    votes = np.zeros((len(centroid), classes))
    np.add.at(votes, (cluster, labels), weights)
    about: dict[str, Any] = {"clusters": len(centroid)}
    if named:
        about["share_of_the_majority"] = float(votes.max(axis=1).sum() / votes.sum())
    # A cluster without pixels has the frequencies of all: it says nothing.
    votes = np.where(votes.any(axis=1, keepdims=True), votes, votes.sum(axis=0))
    frequency = votes / votes.sum(axis=1, keepdims=True)
    variance = max(float(share @ square) / features.shape[1], np.finfo(np.float32).tiny)
    arrays = {"shift": shift, "scale": scale, "centroid": centroid, "frequency": frequency}
    arrays = {name: value.astype(np.float32) for name, value in arrays.items()}
    arrays["variance"] = np.full(1, variance, np.float32)
    return arrays, {**about, "variance_within": variance}
