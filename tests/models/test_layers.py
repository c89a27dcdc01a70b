import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from peers import quick_jit

from rsjax.models import layers
from rsjax.models.layers import BatchNorm, Conv, DropPath

# height, width, channels, features, kernel, strides, padding, dilation
SHAPES = [
    (5, 7, 3, 4, 1, 1, 0, 1),
    (7, 6, 3, 4, 1, 2, 0, 1),
    (9, 9, 3, 4, 1, 3, 0, 1),
    (6, 5, 2, 3, 3, 1, 1, 1),
    (6, 5, 2, 3, 3, 2, 1, 1),
    (7, 8, 2, 3, 3, 1, 2, 2),
    (9, 8, 2, 3, 3, 2, 4, 4),
    (1, 1, 3, 2, 3, 1, 1, 1),
    (2, 2, 3, 2, 3, 1, 1, 1),
    (2, 3, 3, 2, 3, 2, 1, 1),
    (11, 10, 2, 3, 7, 2, 3, 1),
    (4, 4, 2, 3, 2, 2, 0, 1),
    (5, 6, 1, 1, 3, 1, 0, 1),
]


def reference(x, kernel, strides=1, padding=0, dilation=1, groups=1):
    return lax.conv_general_dilated(
        x,
        kernel,
        (strides, strides),
        [(padding, padding), (padding, padding)],
        rhs_dilation=(dilation, dilation),
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        feature_group_count=groups,
    )


def sample(height, width, channels, features, size, dtype=jnp.float32):
    rng = np.random.default_rng(height * 100 + size)
    x = jnp.asarray(rng.normal(size=(3, height, width, channels)), dtype)
    return x, jnp.asarray(rng.normal(size=(size, size, channels, features)), dtype)


@pytest.fixture
def always_matmul(monkeypatch):
    monkeypatch.setattr(layers, "matmul_on_cpu", lambda grid, kernel_shape: True)


@pytest.fixture
def always_taps(monkeypatch):
    monkeypatch.setattr(layers, "matmul_on_cpu", lambda grid, kernel_shape: False)
    monkeypatch.setattr(layers, "taps_on_cpu", lambda kernel_shape, dilation: True)


@pytest.mark.parametrize("form", ["always_matmul", "always_taps"])
@pytest.mark.parametrize("shape", SHAPES)
def test_matmul_is_the_convolution_in_value_and_gradient(shape, form, request):
    request.getfixturevalue(form)
    *size, strides, padding, dilation = shape
    x, kernel = sample(*size)
    options = dict(strides=strides, padding=padding, dilation=dilation)

    @quick_jit
    def both(x, kernel):
        found, pull_found = jax.vjp(lambda *a: layers.conv2d(*a, **options), x, kernel)
        wanted, pull_wanted = jax.vjp(lambda *a: reference(*a, **options), x, kernel)
        cotangent = jnp.cos(jnp.arange(wanted.size, dtype=jnp.float32)).reshape(wanted.shape)
        return (found, *pull_found(cotangent)), (wanted, *pull_wanted(cotangent))

    found, wanted = both(x, kernel)
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("always_matmul")
def test_matmul_under_vmap_jvp_and_without_jit():
    x, kernel = sample(5, 6, 2, 3, 3)
    convolve = functools.partial(layers.conv2d, padding=1)
    wanted = reference(x, kernel, padding=1)
    eager = convolve(x, kernel)

    @quick_jit
    def transformed(x, kernel):
        each = jax.vmap(lambda image: convolve(image[None], kernel)[0])(x)
        kernels = jax.vmap(lambda scale: convolve(x, scale * kernel))(jnp.arange(3.0))
        _, tangent = jax.jvp(lambda k: convolve(x, k), (kernel,), (2 * kernel,))
        return each, kernels, tangent

    each, kernels, tangent = transformed(x, kernel)
    np.testing.assert_allclose(eager, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(each, wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(kernels[2], 2 * wanted, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(tangent, 2 * wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.usefixtures("always_matmul")
def test_matmul_in_bfloat16_is_as_exact_as_its_result_type():
    x, kernel = sample(6, 6, 32, 8, 3, jnp.bfloat16)
    found = quick_jit(lambda x, k: layers.conv2d(x, k, padding=1))(x, kernel)
    wanted = reference(x.astype(jnp.float32), kernel.astype(jnp.float32), padding=1)
    assert found.dtype == jnp.bfloat16
    error = jnp.max(jnp.abs(found.astype(jnp.float32) - wanted)) / jnp.max(jnp.abs(wanted))
    assert error < 2**-8


def gradient(x, kernel, **options):
    return jax.grad(lambda *a: jnp.sum(layers.conv2d(*a, **options) ** 2), argnums=(0, 1))(
        x, kernel
    )


@pytest.mark.usefixtures("always_matmul")
@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("function", [layers.conv2d, gradient])
def test_each_platform_gets_its_own_form(function, size):
    x, kernel = sample(2, 2, 4, 4, size)
    traced = jax.jit(lambda x, k: function(x, k, padding=size // 2)).trace(x, kernel)
    text = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text()
        for platform in ("cpu", "cuda", "tpu")
    }
    assert "dot_general" in text["cpu"]
    assert "stablehlo.convolution" not in text["cpu"]
    for platform in ("cuda", "tpu"):
        assert "stablehlo.convolution" in text[platform]
        assert "dot_general" not in text[platform]
        assert "concatenate" not in text[platform]


@pytest.mark.parametrize(
    ("side", "channels", "size", "strides", "matmul"),
    [
        (224, 2048, 1, 1, True),
        (2, 512, 3, 1, True),
        (64, 12, 7, 2, True),
        (30, 64, 3, 1, True),
        (120, 32, 3, 1, False),
        (120, 64, 3, 2, False),
    ],
)
def test_a_cpu_multiplies_matrices_unless_the_patches_are_large(
    side, channels, size, strides, matmul
):
    x = jax.ShapeDtypeStruct((2, side, side, channels), jnp.float32)
    kernel = jax.ShapeDtypeStruct((size, size, channels, 8), jnp.float32)
    convolve = functools.partial(layers.conv2d, strides=strides, padding=size // 2)
    text = jax.jit(convolve).trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
    assert ("dot_general" in text) == matmul
    assert ("stablehlo.convolution" in text) != matmul


@pytest.mark.parametrize(
    ("side", "channels", "size", "padding", "dilation", "products"),
    [(15, 2048, 3, 12, 12, 9), (10, 512, 7, 0, 1, 1), (20, 512, 7, 0, 1, 49), (150, 8, 7, 3, 1, 0)],
)
def test_a_cpu_adds_up_taps_that_are_distant_or_many(
    side, channels, size, padding, dilation, products
):
    x = jax.ShapeDtypeStruct((2, side, side, channels), jnp.float32)
    kernel = jax.ShapeDtypeStruct((size, size, channels, 8), jnp.float32)
    convolve = functools.partial(layers.conv2d, padding=padding, dilation=dilation)
    text = jax.jit(convolve).trace(x, kernel).lower(lowering_platforms=("cpu",)).as_text()
    assert text.count("stablehlo.dot_general") == products
    assert ("stablehlo.convolution" in text) == (products == 0)


# channels, features, groups, kernel, strides, padding, dilation
GROUPS = [
    (6, 9, 3, 3, 1, 1, 1),
    (4, 4, 2, 3, 2, 2, 2),
    (6, 4, 2, 1, 2, 0, 1),
    (3, 6, 3, 3, 1, 0, 1),
    (5, 5, 5, 3, 1, 1, 1),
    (5, 5, 5, 3, 2, 1, 1),
    (4, 4, 4, 3, 1, 2, 2),
    (4, 4, 4, 2, 1, 0, 1),
]


@pytest.mark.parametrize("shape", GROUPS)
def test_grouped_convolution_in_value_and_gradient(shape):
    channels, features, groups, size, strides, padding, dilation = shape
    x, _ = sample(7, 6, channels, 1, size)
    _, kernel = sample(7, 6, channels // groups, features, size)
    options = dict(strides=strides, padding=padding, dilation=dilation)

    def split(x, kernel):  # the definition
        parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        return jnp.concatenate([reference(*part, **options) for part in parts], -1)

    @quick_jit
    def both(x, kernel):
        found, pull = jax.vjp(lambda *a: layers.conv2d(*a, groups=groups, **options), x, kernel)
        wanted, pull_wanted = jax.vjp(split, x, kernel)
        cotangent = jnp.cos(jnp.arange(wanted.size, dtype=jnp.float32)).reshape(wanted.shape)
        return (found, *pull(cotangent)), (wanted, *pull_wanted(cotangent))

    for a, b in zip(*both(x, kernel), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("groups", [2, 4])
def test_grouped_convolution_in_bfloat16_without_jit_and_mapped(groups):
    x, _ = sample(6, 5, 4, 1, 3)
    _, kernel = sample(6, 5, 4 // groups, 4, 3)
    convolve = functools.partial(layers.conv2d, padding=1, groups=groups)
    wanted = reference(x, kernel, padding=1, groups=groups)
    np.testing.assert_allclose(convolve(x, kernel), wanted, rtol=1e-5, atol=1e-5)
    each = quick_jit(jax.vmap(lambda image: convolve(image[None], kernel)[0]))(x)
    np.testing.assert_allclose(each, wanted, rtol=1e-5, atol=1e-5)
    low = convolve(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16
    assert jnp.max(jnp.abs(low.astype(jnp.float32) - wanted)) / jnp.max(jnp.abs(wanted)) < 2**-6


@pytest.mark.parametrize("function", [layers.conv2d, gradient])
@pytest.mark.parametrize("groups", [2, 4])
def test_only_a_cpu_takes_a_grouped_convolution_apart(function, groups):
    x, _ = sample(3, 3, 4, 1, 3)
    _, kernel = sample(3, 3, 4 // groups, 4, 3)
    traced = jax.jit(lambda x, k: function(x, k, padding=1, groups=groups)).trace(x, kernel)
    for platform in ("cpu", "cuda", "tpu"):
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        assert ("stablehlo.convolution" in text) == (platform != "cpu")
        assert ("stablehlo.slice" in text) == (platform == "cpu")
        assert ("dot_general" in text) == (platform == "cpu" and groups == 2)


@pytest.mark.parametrize(
    ("size", "strides", "dilation", "height", "expected"),
    [(7, 2, 1, 33, 17), (7, 2, 1, 32, 16), (3, 2, 1, 9, 5), (3, 1, 4, 9, 9), (1, 2, 1, 5, 3)],
)
def test_conv_pads_both_sides_alike(size, strides, dilation, height, expected):
    conv = Conv(4, size, strides, dilation)
    x = np.random.default_rng(0).normal(size=(1, height, height, 2)).astype(np.float32)
    padding = dilation * (size // 2)

    @quick_jit
    def both(x):
        out, variables = conv.init_with_output(jax.random.key(1), x)
        return out, reference(x, variables["params"]["kernel"], strides, padding, dilation)

    found, wanted = both(x)
    assert found.shape == (1, expected, expected, 4)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_conv_bias_types_and_scale_of_the_initial_kernel():
    conv = Conv(256, 3, use_bias=True, dtype=jnp.bfloat16)
    x = jnp.zeros((1, 4, 4, 16))
    params = quick_jit(conv.init)(jax.random.key(0), x)["params"]
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    np.testing.assert_allclose(params["kernel"].std(), np.sqrt(2 / (9 * 256)), rtol=0.02)
    shifted = {"params": {**params, "bias": jnp.arange(256.0)}}
    out = conv.apply(shifted, x)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_array_equal(out[0, 0, 0].astype(jnp.float32), np.arange(256.0))


def test_batch_norm_against_numpy():
    rng = np.random.default_rng(0)
    x = rng.normal(3.0, 2.0, (4, 5, 6, 3)).astype(np.float32)
    scale, bias, mean, var = rng.uniform(0.5, 2.0, (4, 3)).astype(np.float32)
    variables = {
        "params": {"scale": scale, "bias": bias},
        "batch_stats": {"mean": mean, "var": var},
    }
    wide = x.astype(np.float64)
    batch_mean, batch_var = wide.mean((0, 1, 2)), wide.var((0, 1, 2))

    found, updates = BatchNorm().apply(variables, x, True, mutable=["batch_stats"])
    wanted = (wide - batch_mean) / np.sqrt(batch_var + 1e-5) * scale + bias
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(
        updates["batch_stats"]["mean"], 0.9 * mean + 0.1 * batch_mean, rtol=1e-5
    )
    np.testing.assert_allclose(
        updates["batch_stats"]["var"], 0.9 * var + 0.1 * batch_var, rtol=1e-5
    )

    found = BatchNorm().apply(variables, x, False)
    wanted = (wide - mean) / np.sqrt(var.astype(np.float64) + 1e-5) * scale + bias
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_batch_norm_statistics_of_bfloat16_are_float32():
    x = jnp.asarray(np.random.default_rng(0).normal(1, 1, (64, 8, 8, 2)), jnp.bfloat16)
    norm = BatchNorm(jnp.bfloat16)

    @quick_jit
    def call(x):
        variables = norm.init(jax.random.key(1), x, True)
        return norm.apply(variables, x, True, mutable=["batch_stats"])

    out, updates = call(x)
    assert out.dtype == jnp.bfloat16
    wide = np.asarray(x.astype(jnp.float32), np.float64)
    for name, exact in (
        ("mean", 0.1 * wide.mean((0, 1, 2))),
        ("var", 0.9 + 0.1 * wide.var((0, 1, 2))),
    ):
        found = updates["batch_stats"][name]
        assert found.dtype == jnp.float32
        np.testing.assert_allclose(found, exact, rtol=1e-5)


def test_batch_norm_of_a_constant_channel_is_finite():
    x = jnp.full((4, 3, 3, 1), 1e3)
    norm = BatchNorm()

    @quick_jit
    @jax.value_and_grad
    def loss(x):
        variables = norm.init(jax.random.key(0), x, False)
        return jnp.sum(norm.apply(variables, x, True, mutable=["batch_stats"])[0] ** 2)

    value, slope = loss(x)
    np.testing.assert_allclose(value, 0.0, atol=1e-3)
    assert np.isfinite(slope).all()


def test_drop_path_is_the_identity_in_evaluation_and_at_rate_zero():
    x = jax.random.normal(jax.random.key(0), (8, 2, 2, 3))
    np.testing.assert_array_equal(DropPath(0.5).apply({}, x, False), x)
    np.testing.assert_array_equal(DropPath(0.0).apply({}, x, True), x)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_drop_path_drops_whole_images_and_keeps_the_mean(dtype):
    x = jnp.ones((4000, 2, 2, 3), dtype)
    out = DropPath(0.25).apply({}, x, True, rngs={"dropout": jax.random.key(0)})
    assert out.dtype == dtype
    per_image = np.asarray(out.astype(jnp.float32)).reshape(4000, -1)
    assert (per_image == per_image[:, :1]).all()
    kept = per_image[:, 0] > 0
    np.testing.assert_allclose(per_image[kept], 1 / 0.75, rtol=2**-8)
    assert abs(kept.mean() - 0.75) < 0.03
