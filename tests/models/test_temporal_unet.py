import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import QUICK, assert_same_names, images, quick_jit, randomised, relative_error, shapes_of

from rsjax import models
from rsjax.errors import ConfigError

STEPS, BANDS = 3, 2
FIELDS = {
    "num_classes": 4,
    "encoder_name": "resnet18",
    "encoder_fields": {"stage_sizes": (1,), "width": 4},
    "decoder_channels": (8, 6),
}


def temporal(**fields):
    return models.get("temporal_unet", **FIELDS, **{"steps": STEPS, **fields})


@pytest.mark.parametrize(("pool", "reduce"), [("mean", np.mean), ("max", np.max)])
def test_it_is_the_encoder_step_by_step_a_pooling_and_the_decoder(pool, reduce):
    x = images(2, 37, 45, STEPS * BANDS)
    model, plain = temporal(pool=pool), models.get("unet", **FIELDS)
    variables = randomised(model, x)
    found = quick_jit(lambda x: model.apply(variables, x, False))(x)

    def encode(module, x):
        return {s: module.encoder.features(x, False)[n] for s, n in module.stages.items()}

    def decode(module, maps):
        return module.segmentation_head_0(module.decoder(maps, 37, 45, False))

    step = quick_jit(lambda x: plain.apply(variables, x, method=encode))
    each = [step(x[..., BANDS * k : BANDS * (k + 1)]) for k in range(STEPS)]
    maps = {s: jnp.asarray(reduce([m[s] for m in each], axis=0)) for s in each[0]}
    wanted = quick_jit(lambda maps: plain.apply(variables, maps, method=decode))(maps)
    assert relative_error(found, wanted) < 1e-5
    assert found.shape == (2, 37, 45, 4)


def test_equal_steps_are_the_plain_model_and_their_order_does_not_matter():
    x = images(1, 32, 32, BANDS)
    model, plain = temporal(), models.get("unet", **FIELDS)
    variables = randomised(plain, x)
    assert_same_names(randomised(model, jnp.tile(x, (1, 1, 1, STEPS))), variables)
    call = quick_jit(lambda x: model.apply(variables, x, False))
    same = call(jnp.tile(x, (1, 1, 1, STEPS)))
    wanted = quick_jit(lambda x: plain.apply(variables, x, False))(x)
    assert relative_error(same, wanted) < 1e-5
    series = images(1, 32, 32, STEPS * BANDS, seed=5)
    turned = jnp.roll(series, BANDS, axis=-1)
    assert relative_error(call(turned), call(series)) < 1e-5
    swapped = series[..., jnp.array([1, 0, 2, 3, 4, 5])]  # bands are not steps
    assert relative_error(call(swapped), call(series)) > 1e-2


def test_statistics_of_a_batch_are_those_of_all_its_steps():
    x = images(2, 32, 32, STEPS * BANDS)
    model = temporal()
    variables = randomised(model, x)
    run = jax.jit(
        lambda x: model.apply(variables, x, True, mutable=["batch_stats"])[1],
        compiler_options=QUICK,
    )
    first = jax.tree.leaves(run(x)["batch_stats"]["encoder"])
    turned = jax.tree.leaves(run(jnp.roll(x, BANDS, axis=-1))["batch_stats"]["encoder"])
    other = jax.tree.leaves(run(x.at[..., -1].add(1))["batch_stats"]["encoder"])
    for a, b in zip(first, turned, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    assert any(relative_error(a, b) > 1e-3 for a, b in zip(first, other, strict=True))


def test_wrong_steps_and_poolings_say_what_is_wrong():
    x = jnp.zeros((1, 32, 32, 5))
    with pytest.raises(ConfigError, match="5 channels are not those of steps=3"):
        shapes_of(temporal(), x)
    with pytest.raises(ConfigError, match=r"pool='median', expected one of \['mean', 'max'\]"):
        shapes_of(temporal(pool="median"), x[..., :3])
