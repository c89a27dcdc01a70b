"""What holds for every architecture: sizes, types, one compilation, 100 bfloat16 steps."""

import functools
import json

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
from peers import QUICK, images, quick_jit, randomised, relative_error, shapes_of
from tiny import TINY

from rsjax import config as configs
from rsjax import models, tasks
from rsjax.datasets.info import ImageSpec
from rsjax.input.preprocess import Inputs
from rsjax.training import optimizer, step

CLASSES = 4
CHANNELS = {"decoder_channels": (8, 4)}
# Of layers that others here have, too: their steps would tell nothing more.
ALIKE = (
    "deeplabv3", "dynamicworld", "fc_siam_diff", "fcn", "fcn8s", "resnet50", "siam_unet",
    "temporal_unet", "vgg11_bn", "xception65",
)  # fmt: skip
S2 = ImageSpec("sentinel2_l2a", ("B02", "B03", "B04"), 32, 32, "uint16", "reflectance_1e4", 10.0, 0)
BANDS = tuple(f"{S2.sensor}/{band}" for band in S2.bands)
INPUTS = Inputs({"s2": S2}, BANDS, (1500.0,) * 3, (900.0,) * 3, (32, 32))


def is_decoder(name):
    return name not in models.BACKBONES


def tiny(name, **fields):
    return models.get(name, num_classes=CLASSES, **{**TINY[name], **fields})


def test_every_file_has_a_tiny_version():
    networks = set(models.TABLE.values()) - set(models.CLASSIC.values())
    assert {models.TABLE[name] for name in TINY} == networks


@pytest.mark.parametrize("name", models.TABLE)
def test_every_name_builds_and_takes_the_shared_fields(name):
    model = models.get(name, num_classes=3, dtype=jnp.bfloat16)
    assert model.num_classes == 3
    assert hash(model) == hash(models.get(name, num_classes=3, dtype=jnp.bfloat16))


@pytest.mark.parametrize("name", TINY)
def test_fields_of_a_config_and_of_a_bundles_json_are_the_same_model(name):
    fields = {**TINY[name], "dtype": jnp.float32}
    model = models.get(name, num_classes=3, **fields)
    in_config = ml_collections.ConfigDict(TINY[name])
    in_json = json.loads(in_config.to_json_best_effort())
    for given in (in_config, in_json):
        again = models.get(name, num_classes=3, dtype=jnp.float32, **given)
        assert again == model
        assert hash(again) == hash(model)


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize(("height", "width"), [(32, 32), (45, 37), (120, 120)])
def test_any_size_and_number_of_bands(name, height, width):
    bands = 2 if height == 32 else 12
    x = jax.ShapeDtypeStruct((2, height, width, bands), jnp.float32)
    model = tiny(name)
    variables = shapes_of(model, jnp.zeros(x.shape))
    assert {v.dtype for v in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    logits = jax.eval_shape(lambda v, x: model.apply(v, x, False), variables, x)
    expected = (2, height, width, CLASSES) if is_decoder(name) else (2, CLASSES)
    assert logits.shape == expected
    assert logits.dtype == jnp.float32


@pytest.mark.parametrize("name", [name for name in TINY if not is_decoder(name)])
@pytest.mark.parametrize("size", [64, 75])
def test_stages_have_the_size_that_their_strides_say(name, size):
    model = models.backbone(name, TINY[name])
    x = jnp.zeros((1, size, size, 3))
    maps, _ = jax.eval_shape(
        lambda: model.init_with_output(jax.random.key(0), x, False, method=model.features)
    )
    assert set(maps) == set(model.strides)  # jit sorts the names
    assert list(model.strides.values()) == sorted(model.strides.values())
    for stage, stride in model.strides.items():
        assert maps[stage].shape[1] in (size // stride, -(-size // stride)), stage


@pytest.mark.parametrize(
    ("name", "fields", "stride"),
    [
        ("unet2015", {"width": 4, "depth": 2}, 4),
        ("unet", {"encoder_fields": {"width": 4, "stage_sizes": (1,)}, **CHANNELS}, 4),
        ("segnet", {"encoder_fields": {"width": 4, "stage_sizes": (1, 1)}}, 4),
        ("fc_densenet56", {"stage_sizes": (1, 1, 1), "width": 8, "growth_rate": 4}, 2),
        ("fcn", {"encoder_fields": {"width": 8, "stage_sizes": (1, 1)}, "output_stride": 8}, 8),
    ],
)
def test_a_map_moves_with_the_image_by_its_stride_and_no_less(name, fields, stride):
    fields = {"encoder_name": "resnet18", **fields} if name in ("unet", "fcn") else fields
    model = models.get(name, num_classes=CLASSES, **fields)
    x = images(1, 128 + stride, 32, 2)
    variables = randomised(model, x[:, :128])
    call = quick_jit(lambda x: model.apply(variables, x, False))
    whole, border = call(x[:, :128]), 48  # as far as the edge of the image is seen

    def moved(step):
        return call(x[:, step : 128 + step])[:, border : 128 - step - border]

    def still(step):
        return whole[:, border + step : 128 - border]

    assert relative_error(moved(stride), still(stride)) < 1e-5
    assert relative_error(moved(stride - 1), still(stride - 1)) > 1e-3


@pytest.mark.parametrize("name", ["densenet121", "xception"])
def test_the_last_map_is_rectified_unless_it_is_not_wanted(name):
    x = images(1, 33, 40, 3)
    plain = models.backbone(name, TINY[name], rectify_last=False)
    variables = randomised(plain, x, method="features")
    lowest = {}
    for rectify in (False, True):
        model = models.backbone(name, TINY[name], rectify_last=rectify)
        call = quick_jit(functools.partial(model.apply, method="features", train=False))
        last = list(model.strides)[-1]
        lowest[rectify] = call(variables, x)[last]
    assert lowest[False].min() < 0
    np.testing.assert_allclose(np.maximum(lowest[False], 0), lowest[True], rtol=1e-5, atol=1e-6)


@pytest.mark.once
@pytest.mark.parametrize("name", [name for name in TINY if name not in ALIKE])
def test_a_step_compiles_once_and_a_hundred_in_bfloat16_stay_finite(name):
    config = configs.base().unlock()
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.03
    model = tiny(name, dtype=jnp.bfloat16)
    kind = "segmentation" if is_decoder(name) else "classification"
    task = tasks.make(kind, config.task.to_dict(), CLASSES)
    schedule = optimizer.make_schedule(config, 100, 0)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, (4, 32, 32)).astype(np.uint8)
    labels[:, :3] = 255
    image = rng.integers(400, 900, (4, 32, 32, 3)) + 300 * (labels[..., None].astype(int) % 5)
    batch = {
        "s2": image.astype(np.uint16),
        **({"mask": labels} if is_decoder(name) else {"label": labels[:, -1, -1].astype(int)}),
        "index": np.arange(4, dtype=np.int32),
        "valid": np.array([True, True, True, False]),
    }
    jitted = functools.partial(jax.jit, compiler_options=QUICK)
    shapes = jax.eval_shape(lambda: step.init_state(config, model, INPUTS, None))
    tx = optimizer.make_optimizer(config, shapes["params"], schedule)
    state = jitted(lambda: step.init_state(config, model, INPUTS, tx))()
    train = jitted(
        step.make_train_step(config, model, task, INPUTS, tx, schedule), donate_argnums=0
    )
    losses = []
    for number in range(100):
        if number == 50:  # what a resume does between two steps
            state = jax.tree.map(jnp.asarray, jax.device_get(state))
        state, measured = train(state, batch)
        losses.append(float(measured["loss"]))
        assert int(measured["bad_steps"]) == 0
    assert train._cache_size() == 1
    assert np.isfinite(losses).all()
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    for leaf in jax.tree.leaves((state["params"], state["batch_stats"])):
        assert leaf.dtype == jnp.float32
