import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import images, quick_jit

from rsjax.errors import ConfigError
from rsjax.models import resampling
from rsjax.models.layers import Conv, ConvTranspose, GroupNorm

torch = pytest.importorskip("torch", reason="torch is not installed: pip install torch")
F = torch.nn.functional

X = images(2, 7, 9, 6)
T = torch.tensor(np.asarray(X)).permute(0, 3, 1, 2)


def same(found, wanted):
    np.testing.assert_allclose(found, wanted.permute(0, 2, 3, 1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("size", [(14, 18), (15, 31), (3, 4), (7, 20), (1, 1)])
def test_resize_is_torchs_bilinear_interpolation(size, corners):
    wanted = F.interpolate(T, size, mode="bilinear", align_corners=corners)
    same(resampling.resize(X, *size, align_corners=corners), wanted)


@pytest.mark.parametrize(("rows", "cols"), [(1, 2), (2, 1), (1, 1)])
def test_corners_of_one_row_or_column(rows, cols):
    wanted = F.interpolate(T[:, :, :rows, :cols], (4, 5), mode="bilinear", align_corners=True)
    same(resampling.resize(X[:, :rows, :cols], 4, 5, align_corners=True), wanted)


@pytest.mark.parametrize("corners", [False, True])
def test_resize_of_one_pixel_repeats_it(corners):
    found = resampling.resize(X[:, :1, :1], 4, 5, align_corners=corners)
    np.testing.assert_allclose(found, np.broadcast_to(X[:, :1, :1], found.shape), rtol=1e-6)


@pytest.mark.parametrize(("rows", "cols"), [(7, 9), (3, 4), (1, 2)])
@pytest.mark.parametrize("size", [1, 4, 7])
def test_adaptive_average_pool(size, rows, cols):
    same(
        resampling.adaptive_avg_pool(X[:, :rows, :cols], size),
        F.adaptive_avg_pool2d(T[:, :, :rows, :cols], size),
    )


@pytest.mark.parametrize(("size", "strides", "padding"), [(3, 2, 1), (2, 2, 0), (3, 1, 1)])
@pytest.mark.parametrize("ceil", [False, True])
def test_max_pool(size, strides, padding, ceil):
    wanted = F.max_pool2d(T, size, strides, padding, ceil_mode=ceil)
    same(resampling.max_pool(X, size, strides, padding, ceil=ceil), wanted)


@pytest.mark.parametrize("count", [False, True])
def test_average_pool(count):
    wanted = F.avg_pool2d(T, 3, 1, 1, count_include_pad=count)
    same(resampling.avg_pool(X, 3, 1, 1, count_padding=count), wanted)


def test_unpooling_restores_the_maxima_where_they_stood():
    maxima, where = resampling.max_pool_with_indices(X)
    wanted, indices = F.max_pool2d(T, 2, 2, return_indices=True)
    np.testing.assert_array_equal(maxima, wanted.permute(0, 2, 3, 1))
    restored = resampling.unpool(maxima, where, 7, 9)
    wanted = F.max_unpool2d(wanted, indices, 2, 2, output_size=(7, 9)).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(restored, wanted)
    assert (np.asarray(restored) != 0).sum() == maxima.size
    at = np.asarray(restored) != 0
    np.testing.assert_array_equal(np.asarray(restored)[at], np.asarray(X)[at])


def test_of_equal_values_the_first_is_the_maximum_and_alone_gets_the_gradient():
    x = jnp.zeros((1, 2, 2, 1))
    slope = jax.grad(lambda x: resampling.max_pool_with_indices(x)[0].sum())(x)
    np.testing.assert_array_equal(slope[0, :, :, 0], [[1, 0], [0, 0]])


@pytest.mark.parametrize(
    ("size", "strides", "padding", "more"),
    [(2, 2, 0, 0), (3, 2, 0, 0), (4, 2, 1, 0), (16, 8, 4, 0), (4, 4, 0, 0), (3, 2, 1, 1)],
)
def test_transposed_convolution(size, strides, padding, more):
    peer = torch.nn.ConvTranspose2d(6, 3, size, strides, padding, more)
    kernel = peer.weight.detach().numpy().transpose(2, 3, 1, 0)
    params = {"kernel": jnp.asarray(kernel), "bias": jnp.asarray(peer.bias.detach().numpy())}
    layer = ConvTranspose(3, size, strides, padding, more)

    @quick_jit
    def both(params, x):
        y, pull = jax.vjp(lambda p, x: layer.apply({"params": p}, x), params, x)
        return y, *pull(jnp.ones_like(y))

    found, slopes, slope = both(params, X)
    image = T.clone().requires_grad_()
    wanted = peer(image)
    wanted.sum().backward()
    same(found, wanted.detach())
    same(slope, image.grad)
    np.testing.assert_allclose(
        slopes["kernel"], peer.weight.grad.numpy().transpose(2, 3, 1, 0), rtol=1e-4, atol=1e-4
    )


def test_rectangular_kernels_pad_their_own_axes():
    peer = torch.nn.Conv2d(6, 4, (1, 7), padding=(0, 3), bias=False)
    kernel = jnp.asarray(peer.weight.detach().numpy().transpose(2, 3, 1, 0))
    same(Conv(4, (1, 7)).apply({"params": {"kernel": kernel}}, X), peer(T).detach())
    peer.padding = (2, 1)
    padded = Conv(4, (1, 7), padding=(2, 1))
    same(padded.apply({"params": {"kernel": kernel}}, X), peer(T).detach())


@pytest.mark.parametrize(("channels", "groups"), [(64, 32), (48, 16), (6, 2)])
def test_group_norm(channels, groups):
    x = images(2, 3, 4, channels)
    peer = torch.nn.GroupNorm(groups, channels)
    scale, bias = images(channels), images(channels, seed=2)
    peer.load_state_dict({"weight": torch.tensor(scale), "bias": torch.tensor(bias)})
    found = GroupNorm().apply({"params": {"scale": scale, "bias": bias}}, x, True)
    wanted = peer(torch.tensor(np.asarray(x)).permute(0, 3, 1, 2)).detach()
    np.testing.assert_allclose(found, wanted.permute(0, 2, 3, 1), rtol=1e-4, atol=1e-5)


def test_fit_cuts_or_repeats_the_edge_and_moves_nothing():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    np.testing.assert_array_equal(resampling.fit(x, 3, 2)[0, :, :, 0], [[0, 1], [3, 4], [3, 4]])
    np.testing.assert_array_equal(
        resampling.upsample_nearest(x)[0, :, :, 0],
        [[0, 0, 1, 1, 2, 2]] * 2 + [[3, 3, 4, 4, 5, 5]] * 2,
    )


def test_dilation_takes_the_place_of_strides():
    plan = resampling.dilations
    assert plan(32, (4, 1, 2, 2, 2), "net") == ((4, 1), (1, 1), (2, 1), (2, 1), (2, 1))
    assert plan(16, (4, 1, 2, 2, 2), "net") == ((4, 1), (1, 1), (2, 1), (2, 1), (1, 2))
    assert plan(8, (4, 1, 2, 2, 2), "net") == ((4, 1), (1, 1), (2, 1), (1, 2), (1, 4))
    with pytest.raises(ConfigError, match=r"net cannot have output_stride 10"):
        plan(10, (4, 1, 2), "net")
