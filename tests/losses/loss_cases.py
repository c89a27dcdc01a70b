"""What the tests of the losses share: random cases, and float64 gradients of their references."""

import jax
import jax.numpy as jnp
import numpy as np

from rsjax import losses

CLASSES = 4


def case(shape, seed=0):
    """Logits, labels of every form, a mask and class weights, in float64."""
    rng = np.random.default_rng(seed)
    mask = rng.random(shape) < 0.7
    mask.flat[0] = True
    return {
        "logits": rng.normal(0, 2, (*shape, CLASSES)),
        # The last class does not occur.
        "index": rng.integers(0, CLASSES - 1, shape),
        "mixture": rng.dirichlet(np.ones(CLASSES), shape),
        "multihot": rng.integers(0, 2, (*shape, CLASSES)),
        "mask": mask,
        "weights": rng.uniform(0.01, 0.2, CLASSES),
    }


def one_hot(index):
    return np.eye(CLASSES)[index]


def value_and_grad(name, logits, labels, **arguments):
    """Of the loss called `name`, compiled, in float32."""
    run = jax.jit(jax.value_and_grad(lambda x: losses.get(name)(x, labels, **arguments)))
    value, gradient = run(jnp.asarray(logits, jnp.float32))
    assert value.dtype == jnp.float32
    assert value.shape == ()
    return value, gradient


def equals(name, reference, logits, labels, **arguments):
    """Value and gradient are those of `reference`, a function of float64 logits."""
    value, gradient = value_and_grad(name, logits, labels, **arguments)
    np.testing.assert_allclose(value, reference(logits), rtol=3e-6)
    expected = numerical_gradient(reference, logits)
    np.testing.assert_allclose(gradient, expected, rtol=2e-4, atol=1e-6)
    assert np.abs(expected).max() > 1e-4


def numerical_gradient(function, x, step=1e-6):
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        high, low = x.copy(), x.copy()
        high[index] += step
        low[index] -= step
        gradient[index] = (function(high) - function(low)) / (2 * step)
    return gradient
