import functools

import jax
import numpy as np
import optax
import pytest
import toy
from jax.sharding import PartitionSpec as P

from rsjax import config as configs
from rsjax import models
from rsjax.errors import ConfigError
from rsjax.input import manifest as manifests
from rsjax.input.preprocess import make_inputs
from rsjax.training import layout, optimizer, sharding, step

PARAMS = {
    "conv": {"kernel": np.zeros((3, 3, 16, 32), np.float32), "bias": np.zeros(32, np.float32)},
    "head": {"kernel": np.zeros((4096, 19), np.float32), "bias": np.zeros(19, np.float32)},
    "odd": {"kernel": np.zeros((3, 3, 31, 33), np.float32)},
}


def specs(mesh, *rules):
    placed = layout.lay_out_params(PARAMS, mesh, rules)
    return {f"{a}/{b}": s.spec for a, part in placed.items() for b, s in part.items()}


def test_fsdp_splits_the_longest_axis_that_divides_and_leaves_small_arrays_whole():
    assert specs(sharding.make_mesh(), (".*", "fsdp")) == {
        "conv/kernel": P(None, None, None, "data"),
        "conv/bias": P(),
        "head/kernel": P("data"),
        "head/bias": P(),
        "odd/kernel": P(),  # 31 x 33 by four devices
    }


def test_model_splits_output_features_and_the_first_rule_wins():
    found = specs(sharding.make_mesh(2), ("head", "fsdp"), ("odd", "replicate"), (".", "model"))
    assert found == {
        "conv/kernel": P(None, None, None, "model"),
        "conv/bias": P("model"),
        "head/kernel": P("data"),
        "head/bias": P(),
        "odd/kernel": P(),
    }


def test_without_rules_everything_is_everywhere():
    assert set(specs(sharding.make_mesh()).values()) == {P()}


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ([("encoder", "fsdp")], "mesh.rules: 'encoder' matches no parameter.*conv/bias"),
        ([("(", "fsdp")], "is no regex"),
        ([(".", "fsdp"), ("head", "model")], "'head' matches no parameter that an earlier"),
        ([("odd", "fsdp")], "splits none of the 1 parameters.*4 devices along 'data'"),
        ([("bias", "fsdp")], "splits none of the 2 parameters.*fewer than 4096 values"),
    ],
)
def test_rules_that_do_nothing_are_refused(rules, message):
    with pytest.raises(ConfigError, match=message):
        layout.lay_out_params(PARAMS, sharding.make_mesh(), rules)


def test_the_config_names_every_wrong_rule(tmp_path):
    config = toy.config(tmp_path, **{"mesh.rules": ((".", "fdsp"), ("a",)), "mesh.model": 0})
    with pytest.raises(ConfigError) as error:
        configs.validate(config)
    for wrong in ("('.', 'fdsp')", "('a',)", "mesh.model=0"):
        assert wrong in str(error.value)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lamb"])
def test_moments_and_averages_lie_as_their_parameter(tmp_path, name, monkeypatch):
    monkeypatch.setattr(layout, "SMALL", 100)
    changes = {
        "optimizer.name": name,
        "optimizer.weight_decay": 0.1,
        "optimizer.clip_norm": 1.0,
        "optimizer.factors": (("fc", 0.0), ("conv1", 0.1)),
        "ema_decay": 0.9,
    }
    made = manifests.load(toy.write(tmp_path))
    config = toy.config(tmp_path, **changes)
    inputs = make_inputs(made.info.images, config.data.bands, made.statistics, (8, 8))
    model = models.get("resnet18", num_classes=19, **toy.TINY)
    params = jax.eval_shape(functools.partial(step.init_state, config, model, inputs, None))
    tx = optimizer.make_optimizer(config, params["params"], optax.constant_schedule(0.1))
    shapes = jax.eval_shape(functools.partial(step.init_state, config, model, inputs, tx))
    mesh = sharding.make_mesh()
    placed = layout.lay_out_params(shapes["params"], mesh, [("kernel", "fsdp")])
    lies = layout.lay_out_state(shapes, tx, placed, mesh)

    assert jax.tree.structure(lies) == jax.tree.structure(shapes)
    split = sum(bool(s.spec) for s in jax.tree.leaves(placed))
    assert split > 3
    structure = jax.tree.structure(placed)
    alike = [
        tree
        for tree in jax.tree.leaves(lies, is_leaf=lambda t: jax.tree.structure(t) == structure)
        if jax.tree.structure(tree) == structure
    ]
    moments = {"adamw": 2, "lamb": 2, "sgd": 1}[name]
    assert alike == [placed] * (2 + moments)  # the parameters, their average, their moments
    assert sum(bool(s.spec) for s in jax.tree.leaves(lies)) == split * (2 + moments)
    whole = sum(np.prod(x.shape) * x.dtype.itemsize for x in jax.tree.leaves(shapes))
    assert layout.bytes_on_device(shapes, lies) < 0.6 * whole


def test_arrays_come_back_from_the_mesh_as_they_were_put():
    mesh = sharding.make_mesh(2)
    lies = layout.lay_out_params(PARAMS, mesh, [("conv", "model"), ("head/kernel", "fsdp")])
    tree = jax.tree.map(lambda x: np.random.default_rng(0).normal(size=x.shape), PARAMS)
    tree = jax.tree.map(lambda x: x.astype(np.float32), tree)
    placed = layout.put(tree, lies)
    assert jax.tree.map(lambda x: x.sharding, placed) == lies
    assert placed["head"]["kernel"].addressable_shards[0].data.shape == (2048, 19)
    back = layout.to_host(placed, mesh)
    jax.tree.map(np.testing.assert_array_equal, back, tree)
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(back))
    again = layout.put(placed, sharding.replicated(mesh))  # what is placed stays
    assert again["head"]["kernel"] is placed["head"]["kernel"]
