"""Comparing a model with the same network in torch or Keras: outputs, statistics, gradients.

The peer's weights are drawn at random, so that none keeps a value that hides an error, and taken
over by the rules that published weights take.
"""

import functools
import re
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rsjax.models.pretrained.torch_names import from_torch, to_torch

# Compiles in half the time, or a quarter; the slower code costs less than that here.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
if jax.__version_info__ < (0, 11):  # later ones do not know it
    QUICK["xla_cpu_use_fusion_emitters"] = False
quick_jit = functools.partial(jax.jit, compiler_options=QUICK)


def images(*shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def relative_error(found, wanted):
    """Largest difference, as a share of the largest value wanted."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    return np.abs(found - wanted).max() / max(np.abs(wanted).max(), 1e-30)


def shapes_of(model, x, train=False, method=None):
    """Shapes and types of all variables, without computing anything."""
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return jax.eval_shape(lambda: model.init(keys, x, train, method=method))


def parameters(model, size=64, bands=3):
    """How many parameters a model has."""
    shapes = shapes_of(model, jnp.zeros((1, size, size, bands)))
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    return sum(leaf.size for leaf in jax.tree.leaves(shapes["params"]))


def draw(name, shape, rng):
    """A value for one leaf, by its name here or in torch."""
    if name in ("scale", "var", "running_var", "gamma", "moving_variance"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if len(shape) > 1:
        fan_in = np.prod(shape) / max(shape[0 if name == "weight" else -1], 1)
        return rng.normal(0, np.sqrt(1 / fan_in), shape).astype(np.float32)
    return rng.normal(0, 0.2, shape).astype(np.float32)


def randomised(model, x, seed=0, method=None):
    """Variables with every leaf drawn at random."""
    rng = np.random.default_rng(seed)
    shapes = shapes_of(model, x, method=method)
    shapes = {k: v for k, v in shapes.items() if k in ("params", "batch_stats")}
    return jax.tree.map_with_path(
        lambda path, leaf: jnp.asarray(draw(path[-1].key, leaf.shape, rng)), shapes
    )


def flat(tree):
    """Leaves by path, 'layer1_0/conv1/kernel'."""
    return {
        "/".join(entry.key for entry in path): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def assert_same_names(found, wanted):
    """Both trees have the same leaves, of the same shapes."""
    found = {name: leaf.shape for name, leaf in flat(found).items()}
    wanted = {name: leaf.shape for name, leaf in flat(wanted).items()}
    assert found == wanted, sorted(set(found.items()) ^ set(wanted.items()))


def assert_close_leaves(found, wanted, limit):
    """Each leaf within `limit`; leaves that should be next to zero are measured by the others."""
    found, wanted = flat(found), flat(wanted)
    assert set(found) == set(wanted)
    typical = np.median([np.abs(v).max() for v in wanted.values()]) if wanted else 0
    for name, value in wanted.items():
        error = np.abs(found[name] - value).max() / max(np.abs(value).max(), typical)
        assert error < limit, f"{name}: {error:.2g}"


def evaluate(model, variables, x):
    """Logits in evaluation."""
    return quick_jit(lambda v, x: model.apply(v, x, False))(variables, x)


def train_step(model, variables, x, weights):
    """Logits and statistics in training, and the gradient of the weighted sum of the logits.

    With auxiliary logits, these are added with the same weights.
    """

    def loss(params):
        logits, updates = model.apply(
            {**variables, "params": params},
            x,
            True,
            mutable=["batch_stats", "auxiliary"],
            rngs={"dropout": jax.random.key(0)},
        )
        total = jnp.sum(weights * logits)
        for extra in jax.tree.leaves(updates.pop("auxiliary", {})):
            total = total + jnp.sum(weights * extra)
        return total, (logits, updates)

    grads, (logits, updates) = quick_jit(jax.grad(loss, has_aux=True))(variables["params"])
    return logits, updates.get("batch_stats", {}), grads


def recomputed(model, x):
    """How many parts of a model are computed again for its gradient."""

    def logits(variables):
        rngs = {"dropout": jax.random.key(0)}
        return model.apply(variables, x, True, mutable=["batch_stats", "auxiliary"], rngs=rngs)

    jaxpr = str(jax.make_jaxpr(logits)(shapes_of(model, x)))
    return len(re.findall(r"\b(?:checkpoint|remat\w*)\[", jaxpr))


def equals_torch(model, peer, x, *, limit=1e-4, gradient_limit=1e-3, unused=(), calls=None):
    """Asserts that a torch module with the same weights gives the same, in both modes.

    Args:
        model: ours; dropout rates must be 0.
        peer: torch module from (B, C, H, W) to logits, classes last or second; in training it may
            return a list of logits, the auxiliary ones after the first.
        x: (B, H, W, C).
        limit: relative error of logits and statistics.
        gradient_limit: relative error of gradients.
        unused: starts of the names of the peer's entries that ours does not have.
        calls: function from the name of a batch norm to how often it is called in a step; once.

    Returns:
        The variables.
    """
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    state = {
        name: value.numpy()
        if name.endswith("num_batches_tracked")
        else draw(name.rsplit(".", 1)[-1], tuple(value.shape), rng)
        for name, value in peer.state_dict().items()
    }
    peer.load_state_dict({k: torch.tensor(v) for k, v in state.items()})
    state = {k: v for k, v in state.items() if not k.startswith(tuple(unused) or "\0")}
    variables = jax.tree.map(jnp.asarray, from_torch(state))
    again = to_torch(variables)
    assert again.keys() == state.keys(), sorted(again.keys() ^ state.keys())
    assert all(np.array_equal(value, state[name]) for name, value in again.items())
    shapes = shapes_of(model, x)
    wanted = {"params": shapes["params"], "batch_stats": shapes.get("batch_stats", {})}
    assert_same_names(variables, jax.tree.map(lambda s: np.zeros(s.shape), wanted))

    def ours_first(logits):  # (B, K, H, W) to (B, H, W, K)
        return logits.permute(0, 2, 3, 1) if logits.ndim == 4 else logits

    torch.set_num_threads(1)
    image = torch.tensor(np.asarray(x)).permute(0, 3, 1, 2).contiguous()
    peer.eval()
    with torch.no_grad():
        wanted = ours_first(peer(image)).numpy()
    assert relative_error(evaluate(model, variables, x), wanted) < limit

    weights = np.linspace(-1, 1, wanted.size, dtype=np.float32).reshape(wanted.shape)
    peer.train()
    moments = _batch_moments(peer)
    outputs = peer(image)
    outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    total = sum(torch.sum(torch.tensor(weights) * ours_first(y)) for y in outputs)
    total.backward()
    logits, stats, grads = train_step(model, variables, x, jnp.asarray(weights))
    assert relative_error(logits, ours_first(outputs[0]).detach().numpy()) < limit

    after = {k: v.numpy() for k, v in peer.state_dict().items() if k in state}
    for name, size in moments.items():  # torch tracks the unbiased variance, we the biased one
        if f"{name}.running_var" in after and size() > 1:
            key, n = f"{name}.running_var", size()
            kept = state[key] * 0.9 ** (calls(name) if calls else 1)
            after[key] = kept + (after[key] - kept) * (n - 1) / n
    assert_close_leaves(stats, from_torch(after)["batch_stats"], limit)
    slopes = {
        k: np.zeros(v.shape, np.float32) if v.grad is None else v.grad.numpy()
        for k, v in peer.named_parameters()
        if k in state
    }
    assert_close_leaves(grads, from_torch(slopes)["params"], gradient_limit)
    return variables


def _batch_moments(peer):
    """For each batch norm of a torch module, how many values its last variance was over."""
    sizes = {}
    for name, module in peer.named_modules():
        if hasattr(module, "running_var") and module.running_var is not None:
            module.register_forward_hook(
                lambda _, args, __, name=name: sizes.__setitem__(
                    name, args[0].numel() // args[0].shape[1]
                )
            )
    names = [n for n, m in peer.named_modules() if getattr(m, "running_var", None) is not None]
    return {name: functools.partial(sizes.get, name, 0) for name in names}


def equals_keras(model, peer, variables, leaves, x, *, limit=1e-4, gradient_limit=1e-3):
    """Asserts that a Keras model with our weights gives the same, in both modes.

    Args:
        model: ours; dropout rates must be 0.
        peer: Keras model on the JAX backend.
        variables: ours; every leaf must be taken.
        leaves: Keras layer -> function from a tree {'params', 'batch_stats'} of ours to the
            layer's weights in Keras' order and layouts, as arrays.
        x: (B, H, W, C).
        limit: relative error of logits and statistics.
        gradient_limit: relative error of gradients.
    """
    with (
        jax.numpy_rank_promotion("allow"),
        jax.numpy_dtype_promotion("standard"),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        layers = [layer for layer in peer.layers if layer.variables]
        count = 0
        for layer in layers:
            values = leaves(layer)(variables)
            layer.set_weights([np.asarray(v) for v in values])
            count += len(values)
        assert count == len(jax.tree.leaves(variables))
        trainable, rest = (
            [v.value for v in vs] for vs in (peer.trainable_variables, peer.non_trainable_variables)
        )
        wanted, _ = quick_jit(lambda t, r, x: peer.stateless_call(t, r, x, training=False))(
            trainable, rest, x
        )
        assert relative_error(evaluate(model, variables, x), wanted) < limit
        weights = jnp.linspace(-1, 1, wanted.size).reshape(wanted.shape)

        def peer_loss(trainable):
            logits, stats = peer.stateless_call(trainable, rest, x, training=True)
            return jnp.sum(weights * logits), (logits, stats)

        slopes, (wanted, after) = quick_jit(jax.grad(peer_loss, has_aux=True))(trainable)
        logits, stats, grads = train_step(model, variables, x, weights)
        assert relative_error(logits, wanted) < limit
        ours = {"params": grads, "batch_stats": stats}
        theirs = dict(zip((v.path for v in peer.trainable_variables), slopes, strict=True))
        theirs |= dict(zip((v.path for v in peer.non_trainable_variables), after, strict=True))
        typical = np.median([np.abs(np.asarray(v)).max() for v in slopes])
        for layer in layers:
            for variable, value in zip(layer.variables, leaves(layer)(ours), strict=True):
                moving = "moving" in variable.name
                want = np.asarray(theirs[variable.path])
                scale = np.abs(want).max() if moving else max(np.abs(want).max(), typical)
                error = np.abs(np.asarray(value) - want).max() / scale
                assert error < (limit if moving else gradient_limit), f"{variable.path}: {error}"


def keras_leaves(layer):
    """The weights of a Keras layer whose name is our path with '-' for '/'."""
    names = {"gamma": "scale", "beta": "bias", "moving_mean": "mean", "moving_variance": "var"}

    def values(tree):
        params, stats = tree["params"], tree.get("batch_stats", {})
        for key in layer.name.split("-"):
            params, stats = params.get(key, {}), stats.get(key, {})
        return [{**params, **stats}[names.get(v.name, v.name)] for v in layer.variables]

    return values
