"""What every loss of the table owes its callers, whichever it is: one compiled program of each."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from loss_cases import case, one_hot

from rsjax import losses

# The two plain cross-entropies have the same tests, and more, in test_classification_loss.
NAMES = sorted(set(losses.LOSSES) - {"cross_entropy", "binary_cross_entropy"})
SHAPE = (4, 3, 3)


@functools.cache
def compiled(name):
    def loss(logits, labels, mask, weights):
        return losses.get(name)(logits, labels, mask=mask, class_weights=weights)

    return jax.jit(jax.value_and_grad(loss))


def inputs(name, seed=0):
    c = case(SHAPE, seed)
    labels = c["index"].astype(np.uint8)
    if losses.KINDS[name] == "sigmoid":
        labels = c["multihot"].astype(np.float32)
    logits, weights = c["logits"].astype(np.float32), c["weights"].astype(np.float32)
    return [logits, labels, c["mask"], weights]


def garbage(name):
    return 255 if losses.KINDS[name] == "softmax" else np.nan


@pytest.mark.parametrize("name", NAMES)
def test_garbage_at_masked_positions_touches_nothing(name):
    logits, labels, mask, weights = inputs(name)
    clean = compiled(name)(logits, labels, mask, weights)
    assert np.isfinite(clean[0])
    assert clean[0] > 0
    labels[~mask] = garbage(name)
    for bad_logit in (np.nan, np.inf, -np.inf):
        logits[~mask] = bad_logit
        dirty = compiled(name)(logits, labels, mask, weights)
        np.testing.assert_array_equal(dirty[0], clean[0])
        np.testing.assert_array_equal(dirty[1], clean[1])
    assert not np.any(np.asarray(clean[1])[~mask])
    assert np.any(np.asarray(clean[1])[mask])


@pytest.mark.parametrize("name", NAMES)
def test_an_all_masked_batch_gives_zero_and_no_gradient(name):
    logits, labels, mask, weights = inputs(name)
    logits[:], labels[:] = np.nan, garbage(name)
    value, gradient = compiled(name)(logits, labels, np.zeros_like(mask), weights)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_garbage_that_counts_is_not_hidden(name):
    logits, labels, mask, weights = inputs(name)
    labels[0, 0, 0] = garbage(name)
    assert mask[0, 0, 0]
    value, gradient = compiled(name)(logits, labels, mask, weights)
    assert np.isnan(value)
    assert np.isnan(gradient).any()
    # Alone, too, where no class of the nomenclature occurs.
    mask[:] = False
    mask[0, 0, 0] = True
    assert np.isnan(compiled(name)(logits, labels, mask, weights)[0])


@pytest.mark.parametrize("name", NAMES)
def test_a_common_factor_of_the_weights_changes_nothing(name):
    logits, labels, mask, weights = inputs(name)
    one = compiled(name)(logits, labels, mask, weights)
    many = compiled(name)(logits, labels, mask, 64 * weights)
    np.testing.assert_allclose(many[0], one[0], rtol=1e-6)
    np.testing.assert_allclose(many[1], one[1], rtol=1e-5, atol=1e-8)
    other = compiled(name)(logits, labels, mask, weights[[1, 2, 0, 3]])
    assert abs(other[0] / one[0] - 1) > 1e-4


@pytest.mark.parametrize("name", NAMES)
def test_weights_of_zero_leave_a_finite_zero(name):
    logits, labels, mask, weights = inputs(name)
    value, gradient = compiled(name)(logits, labels, mask, np.zeros_like(weights))
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_have_finite_losses_and_gradients(name):
    logits, labels, mask, weights = inputs(name)
    for scale in (0.0, 1e2, 1e4):
        value, gradient = compiled(name)(scale * logits, labels, mask, weights)
        assert np.isfinite(value)
        assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("name", NAMES)
def test_perfect_predictions_have_no_loss_at_all(name):
    logits, labels, mask, weights = inputs(name)
    hot = labels if losses.KINDS[name] == "sigmoid" else one_hot(labels)
    logits = (1000 * (2 * hot - 1)).astype(np.float32)
    value, gradient = compiled(name)(logits, labels, mask, weights)
    assert value == 0.0
    np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("name", NAMES)
def test_nan_logits_that_count_are_not_hidden(name):
    logits, labels, mask, weights = inputs(name)
    logits[0, 0, 0, 0] = np.nan
    assert np.isnan(compiled(name)(logits, labels, mask, weights)[0])


def operations(jaxpr):
    for equation in jaxpr.eqns:
        inner = [p.jaxpr for p in equation.params.values() if hasattr(p, "jaxpr")]
        for part in inner:
            yield from operations(part)
        if not inner:
            yield equation


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_computed_in_bfloat16(name):
    logits, labels, mask, weights = inputs(name)
    run = functools.partial(losses.get(name), mask=mask, class_weights=weights)
    traced = jax.make_jaxpr(run)(jnp.asarray(logits, jnp.bfloat16), labels)
    short = {
        str(equation.primitive)
        for equation in operations(traced.jaxpr)
        if any(v.aval.dtype == jnp.bfloat16 for v in equation.invars)
    }
    assert short == {"convert_element_type"}
    assert traced.out_avals[0].dtype == jnp.float32


# One of each way to sum over positions.
@pytest.mark.parametrize("name", ["boundary_cross_entropy", "focal", "dice", "lovasz_softmax"])
def test_four_devices_give_what_one_gives(name):
    *arrays, weights = inputs(name)
    one = compiled(name)(*arrays, weights)
    sharding = NamedSharding(Mesh(np.array(jax.devices()[:4]), "data"), PartitionSpec("data"))
    four = compiled(name)(*(jax.device_put(array, sharding) for array in arrays), weights)
    assert len(four[1].sharding.device_set) == 4
    np.testing.assert_allclose(four[0], one[0], rtol=1e-6)
    np.testing.assert_allclose(four[1], one[1], rtol=1e-5, atol=1e-8)


def test_the_tables_name_the_same_losses():
    assert set(losses.KINDS) == set(losses.LOSSES)
    assert set(losses.KINDS.values()) == {"softmax", "sigmoid"}
    assert set(losses.LOSSES) >= losses.HARD >= losses.PIXELS
