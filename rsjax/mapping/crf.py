"""A dense conditional random field over pixels, by mean field: its mathematics, in JAX.

Energy of a labelling x: sum_i -log p_i(x_i) + sum_{i<j} mu(x_i, x_j) k(i, j), with

    k(i, j) = appearance exp(-|p_i - p_j|^2 / 2 theta_alpha^2 - |I_i - I_j|^2 / 2 theta_beta^2)
            + smoothness exp(-|p_i - p_j|^2 / 2 theta_gamma^2)

of positions p in pixels and bands I, where each exp(i, j) is divided by the root of its sums over i
and over j, both with i = j (symmetric normalisation). `mean_field` takes pairs inside a square
window and is exact within it; `exact` takes all pairs by matrices, for small images.

Sources: Krähenbühl & Koltun 2011 (arXiv:1210.5644), eq. 3 and algorithm 1; the window of Teichmann
& Cipolla 2018 (arXiv:1805.04777) in place of the lattice, whose error is not known.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from rsjax.errors import ConfigError

# What a parameter may be; beyond, the sums of float32 would not be finite.
RANGES = {
    "appearance": (0, 1e6), "smoothness": (0, 1e6), "theta_alpha": (1e-3, 1e6),
    "theta_beta": (1e-3, 1e6), "theta_gamma": (1e-3, 1e6), "iterations": (1, 1000),
    "radius": (1, 1000),
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Crf:
    """Parameters of the field.

    Attributes:
        appearance: weight of the kernel of positions and bands: the most, in log-odds, that
            neighbours of one class can say against another one.
        smoothness: likewise of the kernel of positions alone.
        theta_alpha: pixels; how far the first kernel reaches.
        theta_beta: distance of two pixels' bands, in the units of the bands given (standard
            deviations of the scene, by Euclid over all bands), up to which they are alike.
        theta_gamma: pixels; how far the second kernel reaches.
        iterations: of the mean field.
        radius: pixels; pairs that are further apart in rows or columns are left out.

    Raises:
        ConfigError: a value that cannot be.
    """

    appearance: float = 3.0
    smoothness: float = 1.0
    theta_alpha: float = 3.0
    theta_beta: float = 1.0
    theta_gamma: float = 1.5
    iterations: int = 5
    radius: int = 5

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            whole = field.name in ("iterations", "radius")
            number = isinstance(value, int if whole else int | float) and not isinstance(
                value, bool
            )
            low, high = RANGES[field.name]
            if not number or not low <= value <= high:
                raise ConfigError(
                    f"crf: {field.name}={value!r}, expected a {'whole ' if whole else ''}number "
                    f"from {low:g} to {high:,.0f}"
                )

    @property
    def halo(self) -> int:
        """Pixels around a tile that its result depends on: a radius an iteration, and one more.

        The last is that of the normalisation, which a neighbour has from its own neighbours.
        """
        return (self.iterations + 1) * self.radius


def potts(count: int) -> np.ndarray:
    """Compatibility (count, count) of classes that are all equally unlike: 0 or 1."""
    return 1 - np.eye(count, dtype=np.float32)


def mean_field(
    unary: jax.Array | np.ndarray,
    bands: jax.Array | np.ndarray,
    valid: jax.Array | np.ndarray,
    compatibility: np.ndarray,
    crf: Crf,
) -> jax.Array:
    """Marginals by mean field over pairs inside the window: O(pixels x window x classes).

    Equal to `exact` with the window's radius, and to `exact` over all pairs where the radius
    reaches across the image. Pairs beyond the window are left out; those have a kernel of at most
    exp(-(radius + 1)^2 / 2 theta^2), 14 % with a radius of 5 and a theta of 3.

    Args:
        unary: -log p, float32 (K, rows, columns), finite.
        bands: float32 (B, rows, columns), finite; those of invalid pixels are not looked at.
        valid: bool (rows, columns); the others neither send messages nor count anywhere.
        compatibility: mu, float32 (K, K), symmetric; `potts` for the usual.
        crf: parameters.

    Returns:
        float32 (K, rows, columns) that sums to one over K; softmax of -unary at invalid pixels.
    """
    numbers = (crf.appearance, crf.smoothness, crf.theta_alpha, crf.theta_beta, crf.theta_gamma)
    return _windowed(
        jnp.asarray(unary, jnp.float32), jnp.asarray(bands, jnp.float32), jnp.asarray(valid),
        jnp.asarray(compatibility, jnp.float32), jnp.asarray(numbers, jnp.float32),
        iterations=crf.iterations, radius=crf.radius,
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames=("iterations", "radius"))
def _windowed(
    unary: jax.Array,
    bands: jax.Array,
    valid: jax.Array,
    compatibility: jax.Array,
    numbers: jax.Array,
    *,
    iterations: int,
    radius: int,
) -> jax.Array:
    appearance, smoothness, *thetas = numbers
    alpha, beta, gamma = (0.5 / theta**2 for theta in thetas)
    span = np.arange(2 * radius + 1, dtype=np.int32)
    grid = np.stack(np.meshgrid(span, span, indexing="ij"), axis=-1).reshape(-1, 2)
    offsets = jnp.asarray(grid[(grid != radius).any(axis=1)])
    edges = ((radius, radius), (radius, radius))
    bands = jnp.where(valid[None], bands, 0)
    bands_around = jnp.pad(bands, ((0, 0), *edges))
    # Invalid pixels and those beyond the edge have weight 0, as receivers and as senders.
    there = jnp.pad(valid.astype(jnp.float32), edges)

    def shifted(padded: jax.Array, offset: jax.Array) -> jax.Array:
        start = (0,) * (padded.ndim - 2) + (offset[0], offset[1])
        rows, columns = valid.shape
        return jax.lax.dynamic_slice(padded, start, (*padded.shape[:-2], rows, columns))

    def kernels(offset: jax.Array) -> tuple[jax.Array, jax.Array]:
        apart = jnp.square((offset - radius).astype(jnp.float32)).sum()
        colour = jnp.zeros(valid.shape, jnp.float32)
        # Band by band: a sum over an axis would not be fused, 20 times as slow on a CPU.
        for band, band_around in zip(bands, bands_around, strict=True):
            colour = colour + jnp.square(band - shifted(band_around, offset))
        sender = shifted(there, offset)
        return sender * jnp.exp(-alpha * apart - beta * colour), sender * jnp.exp(-gamma * apart)

    def count(i: jax.Array, sums: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        near, smooth = kernels(offsets[i])
        return sums[0] + near, sums[1] + smooth

    # A pixel counts itself (kernel 1): one that is unlike all around it gets no message, in place
    # of a full one from nobody.
    ones = jnp.ones(valid.shape, jnp.float32)
    sums = jax.lax.fori_loop(0, len(offsets), count, (ones, ones))
    roots = [jnp.where(valid, jax.lax.rsqrt(one), 0) for one in sums]
    around = [jnp.pad(root, edges) for root in roots]

    def weight(offset: jax.Array) -> jax.Array:
        near, smooth = (
            kernel * root * shifted(one, offset)
            for kernel, root, one in zip(kernels(offset), roots, around, strict=True)
        )
        return appearance * near + smoothness * smooth

    weights = jax.lax.map(weight, offsets)

    def iterate(_: int, found: jax.Array) -> jax.Array:
        padded = jnp.pad(found, ((0, 0), *edges))

        def receive(i: jax.Array, message: jax.Array) -> jax.Array:
            return message + weights[i][None] * shifted(padded, offsets[i])

        message = jax.lax.fori_loop(0, len(offsets), receive, jnp.zeros_like(found))
        return _update(unary, compatibility, message)

    return jax.lax.fori_loop(0, iterations, iterate, jax.nn.softmax(-unary, axis=0))


def _update(unary: jax.Array, compatibility: jax.Array, message: jax.Array) -> jax.Array:
    cost = jnp.einsum("lm,m...->l...", compatibility, message, precision="highest")
    return jax.nn.softmax(-unary - cost, axis=0)


def exact(
    unary: np.ndarray,
    bands: np.ndarray,
    valid: np.ndarray,
    compatibility: np.ndarray,
    crf: Crf,
    *,
    window: bool = False,
) -> jax.Array:
    """Marginals by mean field with the matrix of all pairs: O(pixels^2), for small images.

    Args:
        unary: as `mean_field`.
        bands: likewise.
        valid: likewise.
        compatibility: likewise.
        crf: likewise; its radius is not looked at unless `window`.
        window: only pairs inside the window.

    Returns:
        As `mean_field`.
    """
    bands = np.where(valid, bands, 0)
    given = (jnp.asarray(one, jnp.float32) for one in (unary, bands, compatibility))
    return _all_pairs(*given, jnp.asarray(valid), crf=crf, window=window)


@functools.partial(jax.jit, static_argnames=("crf", "window"))
def _all_pairs(
    unary: jax.Array,
    bands: jax.Array,
    compatibility: jax.Array,
    valid: jax.Array,
    *,
    crf: Crf,
    window: bool,
) -> jax.Array:
    row, col = (jnp.asarray(one.ravel(), jnp.float32) for one in np.indices(valid.shape))
    down, across = row[:, None] - row[None], col[:, None] - col[None]
    apart = down**2 + across**2
    features = bands.reshape(len(bands), -1)
    colour = jnp.square(features[:, :, None] - features[:, None]).sum(axis=0)
    pairs = valid.ravel()[:, None] & valid.ravel()[None]
    if window:
        pairs &= jnp.maximum(jnp.abs(down), jnp.abs(across)) <= crf.radius
    weights = jnp.zeros_like(apart)
    for weight, exponent in (
        (crf.appearance, apart / 2 / crf.theta_alpha**2 + colour / 2 / crf.theta_beta**2),
        (crf.smoothness, apart / 2 / crf.theta_gamma**2),
    ):
        kernel = jnp.where(pairs, jnp.exp(-exponent), 0)
        roots = jax.lax.rsqrt(jnp.maximum(kernel.sum(axis=1), 1))  # 1 where a pixel is valid
        weights += weight * kernel * roots[:, None] * roots[None]
    weights *= 1 - jnp.eye(len(weights))
    cost = unary.reshape(len(unary), -1)

    def iterate(_: int, found: jax.Array) -> jax.Array:
        message = jnp.matmul(found, weights.T, precision="highest")
        return _update(cost, compatibility, message)

    found = jax.lax.fori_loop(0, crf.iterations, iterate, jax.nn.softmax(-cost, axis=0))
    return found.reshape(unary.shape)
