"""Boundary counts against scipy's distance transforms, and their figures against plain loops."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rsjax import metrics
from rsjax.errors import ConfigError, DatasetError, RsjaxError
from rsjax.metrics import boundary, boundary_score, disk

SIZE = (11, 14)
IMAGES = 4


def case(num_classes, seed=0):
    """Patchy maps, of few classes in image 1; image 3 is padding; ignored pixels hold garbage."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, (IMAGES, 4, 5)).repeat(3, axis=1).repeat(3, axis=2)
    labels = labels[:, : SIZE[0], : SIZE[1]].astype(np.uint8)
    labels[1] %= 2
    predictions = np.roll(labels, 1, axis=2).astype(np.int32)
    noise = rng.random(labels.shape) < 0.1
    predictions[noise] = rng.integers(0, num_classes, noise.sum())
    mask = rng.random(labels.shape) < 0.9
    mask[0, :, 6:9] = False
    mask[3] = False
    labels[~mask] = rng.choice([0, 1, 255], (~mask).sum())
    predictions[~mask] = rng.integers(-1, num_classes + 1, (~mask).sum())
    return labels, predictions, mask


def reference_counts(labels, predictions, mask, num_classes, radius):
    """Class by class and image by image, with distance transforms."""
    counts = np.zeros((len(labels), num_classes, 7), int)
    for image, c in np.ndindex(len(labels), num_classes):
        counted = mask[image]
        edges, bands = [], []
        for classes in (predictions[image], labels[image]):
            own, rest = counted & (classes == c), counted & (classes != c)
            cross = scipy.ndimage.generate_binary_structure(2, 1)
            edges.append(own & scipy.ndimage.binary_dilation(rest, cross))
            bands.append(own & (distance_to(rest) <= radius))
        (p, r), (band_p, band_r) = edges, bands
        near_p, near_r = p & (distance_to(r) <= radius), r & (distance_to(p) <= radius)
        sets = (near_p, p, near_r, r, band_p & band_r, band_p, band_r)
        counts[image, c] = [where.sum() for where in sets]
    return counts


def distance_to(where):
    if not where.any():
        return np.full(where.shape, np.inf)
    return scipy.ndimage.distance_transform_edt(~where)


@functools.cache
def compiled(num_classes, radius):
    return jax.jit(
        functools.partial(boundary.boundary_counts, num_classes=num_classes, radius_px=radius)
    )


@pytest.mark.parametrize(
    ("num_classes", "radius"),
    [(3, 0.0), (3, 2.5), (19, 1.27), (44, 1.0), (255, math.sqrt(13)), (3, 1e6)],
)
def test_counts_equal_distance_transforms(num_classes, radius):
    for seed in range(1 if num_classes > 44 else 3):
        batch = case(num_classes, seed)
        counts = compiled(num_classes, radius)(*batch)
        assert counts.dtype == jnp.int32
        np.testing.assert_array_equal(counts, reference_counts(*batch, num_classes, radius))
        assert counts[:3, :, 1].sum() > 0
        assert not counts[3].any()


def test_disks_are_exact():
    y, x = np.indices((9, 12))
    for radius in (0, 0.5, 1, 1.27, math.sqrt(2), 2.5, math.sqrt(13), 5.43, 100):
        rows = disk.half_widths(radius, 9, 12)
        inside = [[dy < len(rows) and dx <= rows[dy] for dx in range(12)] for dy in range(9)]
        np.testing.assert_array_equal(inside, np.hypot(y, x) <= radius)


def test_devices_do_not_change_the_counts():
    batch = case(19)
    mesh = Mesh(np.array(jax.devices()[:4]), "data")
    place = lambda array: jax.device_put(array, NamedSharding(mesh, PartitionSpec("data")))  # noqa: E731
    counts = compiled(19, 1.27)(*map(place, batch))
    assert len(counts.sharding.device_set) == 4
    np.testing.assert_array_equal(counts, compiled(19, 1.27)(*batch))


def plain_figures(counts):
    """Means over lists of what is defined."""
    mean = lambda values: sum(values) / len(values) if values else math.nan  # noqa: E731
    number, classes = counts.shape[:2]
    f1 = {}
    for n, c in np.ndindex(number, classes):
        near_p, p, near_r, r = counts[n, c, :4].tolist()
        if p + r:
            precision, recall = near_p / max(p, 1), near_r / max(r, 1)
            total = precision + recall
            f1[n, c] = 2 * precision * recall / total if total else 0.0
    images = sorted({n for n, _ in f1})
    per_image = [mean([f1[n, c] for c in range(classes) if (n, c) in f1]) for n in images]
    by_class = [mean([f1[n, c] for n in images if (n, c) in f1]) for c in range(classes)]
    hits, p, r = counts[..., 4:].sum(axis=0).T
    iou = [h / u if u else math.nan for h, u in zip(hits, p + r - hits, strict=True)]
    known = lambda values: [value for value in values if not math.isnan(value)]  # noqa: E731
    figures = {
        "boundary_f1_per_image_macro": mean(per_image),
        "boundary_f1_by_class_macro": mean(known(by_class)),
        "boundary_iou_pooled_macro": mean(known(iou)),
        "boundary_images_counted": len(images),
        "boundary_classes_counted": len(known(by_class)),
    }
    return figures, {"boundary_f1": by_class, "boundary_iou": iou}


def from_batch(labels, predictions, mask, num_classes=19, radius=1.27):
    metric = metrics.get("boundary").for_classes(num_classes, radius)
    return jax.jit(metric.from_model_output)(labels=labels, predictions=predictions, mask=mask)


def test_figures_of_merged_batches_equal_plain_loops():
    batches = [case(19, seed) for seed in range(2)]
    total = metrics.get("boundary").for_classes(19, 1.27).empty()
    for batch in batches:
        total = total.merge(from_batch(*batch))
    assert all(isinstance(counts, np.ndarray) for counts in total.counts)
    counts = np.concatenate([reference_counts(*batch, 19, 1.27) for batch in batches])
    expected, per_class = plain_figures(counts)
    assert total.compute() == pytest.approx(expected, rel=1e-12)
    assert all(type(value) is float for value in total.compute().values())
    assert expected["boundary_images_counted"] == 6
    for name, values in total.per_class().items():
        np.testing.assert_allclose(values, per_class[name], rtol=1e-12)


def test_weights_are_multiplicities():
    counts = np.concatenate([reference_counts(*case(19, seed), 19, 2.5) for seed in range(3)])
    rng = np.random.default_rng(0)
    weights = rng.integers(0, 3, (5, len(counts)))
    weights[3] = np.arange(len(counts)) < 2
    weights[4] = 0
    figures, per_class = boundary_score.scores(counts, weights)
    for row, weight in enumerate(weights):
        expected, by_class = plain_figures(counts.repeat(weight, axis=0))
        found = {name: values[row] for name, values in figures.items()}
        assert found == pytest.approx(expected, rel=1e-12, nan_ok=True)
        for name, values in by_class.items():
            np.testing.assert_allclose(per_class[name][row], values, rtol=1e-12)


def test_a_shifted_stripe_by_hand():
    # Columns 0 0 0 1 1 1 1 0 0 against the same one column to the right, 5 rows.
    labels = np.tile(np.array([0, 0, 0, 1, 1, 1, 1, 0, 0], np.uint8), (1, 5, 1))
    predictions = np.roll(labels, 1, axis=2).astype(np.int32)
    mask = np.ones(labels.shape, bool)
    exact, near = (from_batch(labels, predictions, mask, 3, radius) for radius in (0.0, 1.0))
    # Boundary columns of class 0: 2 and 7, against 3 and 8; of class 1: 3 and 6, against 4 and 7.
    np.testing.assert_array_equal(exact.counts[0][0, :2, :4], [[0, 10, 0, 10]] * 2)
    assert exact.compute()["boundary_f1_per_image_macro"] == 0
    assert math.isnan(exact.compute()["boundary_iou_pooled_macro"])
    assert near.compute()["boundary_f1_per_image_macro"] == 1
    assert near.compute()["boundary_iou_pooled_macro"] == 0
    np.testing.assert_array_equal(near.per_class()["boundary_f1"], [1, 1, np.nan])


def test_a_class_in_one_map_only_is_zero_and_perfect_maps_are_one():
    labels, _, mask = case(19)
    perfect = from_batch(labels, labels.astype(np.int32), mask)
    scores = perfect.compute()
    assert scores["boundary_f1_per_image_macro"] == scores["boundary_f1_by_class_macro"] == 1
    assert scores["boundary_iou_pooled_macro"] == 1
    assert scores["boundary_classes_counted"] == len(np.unique(labels[mask]))
    counts = np.zeros((2, 3, 7), int)
    counts[0, 0] = [4, 4, 4, 4, 8, 8, 8]
    counts[0, 1] = [0, 4, 0, 0, 0, 8, 0]
    f1 = boundary_score.image_f1(counts)
    np.testing.assert_array_equal(f1, [[1, 0, np.nan], [np.nan] * 3])


def test_logits_are_ranked_and_what_cannot_be_scored_is_an_error():
    labels, predictions, mask = case(3)
    logits = np.eye(3, dtype=np.float32)[np.clip(predictions, 0, 2)]
    metric = metrics.get("boundary").for_classes(3, 2.5)
    batch = jax.jit(metric.from_model_output)
    sound = batch(labels=labels, logits=logits, mask=mask)
    np.testing.assert_array_equal(sound.counts[0], compiled(3, 2.5)(labels, predictions, mask))
    logits[mask, 0] = np.nan
    with pytest.raises(RsjaxError, match="predictions that count are not finite"):
        batch(labels=labels, logits=logits, mask=mask).compute()
    with pytest.raises(DatasetError, match="outside the 3 classes"):
        batch(labels=labels + np.uint8(3), logits=logits, mask=mask).per_class()


def test_an_empty_set_is_undefined():
    scores = metrics.get("boundary").for_classes(3, 1.0).empty().compute()
    assert scores["boundary_images_counted"] == scores["boundary_classes_counted"] == 0
    assert sum(math.isnan(value) for value in scores.values()) == 3


def test_tolerances_in_pixels():
    assert boundary.radius_of(1.5, "px", (120, 120)) == 1.5
    assert boundary.radius_of(0.0075, "diagonal", (300, 400)) == pytest.approx(3.75)
    assert boundary.radius_of(20, "m", (120, 120), gsd_m=10) == 2
    for tolerance, unit, gsd in [
        (1, "feet", 10),
        (20, "m", None),
        (20, "m", 0),
        (-1, "px", None),
        (math.nan, "px", None),
    ]:
        with pytest.raises(ConfigError, match="boundary"):
            boundary.radius_of(tolerance, unit, (120, 120), gsd)


def test_arguments_that_do_not_fit_are_refused():
    make = metrics.get("boundary").for_classes
    assert make(3, 1) is make(3, 1.0)
    for num_classes, radius in [(256, 1.0), (0, 1.0), (3, -1.0), (3, math.inf)]:
        with pytest.raises(ConfigError):
            make(num_classes, radius)
    labels, mask = jnp.zeros((1, 4, 4), jnp.uint8), jnp.ones((1, 4, 4), bool)
    with pytest.raises(ValueError, match="needs logits or predictions"):
        make(3, 1.0).from_model_output(labels=labels, mask=mask)
    with pytest.raises(ValueError, match="mask has shape"):
        boundary.boundary_counts(labels, labels, mask[:, :2], 3, 1.0)
    with pytest.raises(ValueError, match="expected integers"):
        boundary.boundary_counts(labels[0], labels[0], mask[0], 3, 1.0)
    with pytest.raises(TypeError, match="not under jit"):
        jax.jit(lambda a, b: a.merge(b))(*[make(3, 1.0).empty()] * 2)
