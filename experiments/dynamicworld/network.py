"""Dynamic World's network written once more, plainly, with every choice of its wiring a switch."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rsjax.models.pretrained import dynamicworld

Array = jax.Array
ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "mish": lambda x: x * jnp.tanh(jax.nn.softplus(x)),
    "relu": jax.nn.relu,
    "swish": jax.nn.swish,
    "gelu": jax.nn.gelu,
    "elu": jax.nn.elu,
    "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.2),
    "none": lambda x: x,
}


@dataclasses.dataclass(frozen=True)
class Wiring:
    """Choices that shapes and order of the arrays leave open; the defaults are the published ones.

    Attributes:
        squash: 'logistic', 'log' (without the logistic function), or 'plain' (reflectance up to 1).
        activation: name in `ACTIVATIONS`.
        shortcut_activation: whether the shortcut is activated.
        add_activation: whether the sum is activated, and not its terms.
        down: 'triangle', 'nearest' or 'mean'; 'none': full resolution throughout.
        up: 'end': before the classifier; 'third': before the third block.
        swap_norms: whether the norms beside each other at a block's end are the other's.
        swap_concat: whether the skip comes first in the third block's input.
        unit_length: whether the classifier sees vectors of length 1.
        order: 'norm_first' (norm, then activation) or 'activation_first'.
    """

    squash: str = "logistic"
    activation: str = "mish"
    shortcut_activation: bool = True
    add_activation: bool = False
    down: str = "triangle"
    up: str = "end"
    swap_norms: bool = False
    swap_concat: bool = False
    unit_length: bool = True
    order: str = "norm_first"


def arrays(path: str) -> dict[str, np.ndarray]:
    """The published arrays by our names, as they are."""
    from rsjax.models.pretrained import read

    numbered = read.read(path).arrays
    by_number = {
        int(match[1]): value
        for name, value in numbered.items()
        if (match := dynamicworld.NUMBER.fullmatch(name))
    }
    return {name: by_number[i] for i, name in enumerate(dynamicworld.names())}


def forward(
    weights: dict[str, np.ndarray], x: Array, wiring: Wiring
) -> tuple[Array, dict[str, tuple[Array, Array]]]:
    """Logits (B, H, W, 9), and of what each batch norm is given the mean and variance.

    Args:
        weights: see `arrays`.
        x: (B, H, W, 9), reflectance times 10000.
        wiring: the choices.
    """
    seen: dict[str, tuple[Array, Array]] = {}
    act = ACTIVATIONS[wiring.activation]

    def unit(x: Array, layer: str, activated: bool = True) -> Array:
        kernel = weights[f"{layer}/conv/kernel"]
        wide = kernel.shape[2] if kernel.shape[3] == 1 and kernel.shape[0] == 3 else 1
        if wide > 1:
            kernel = kernel.transpose(0, 1, 3, 2)
        y = lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=wide,
        )  # fmt: skip
        y = y + weights[f"{layer}/conv/bias"]
        if activated and wiring.order == "activation_first":
            y = act(y)
        seen[layer] = (y.mean((0, 1, 2)), y.var((0, 1, 2)))
        norm = f"{layer}/bn"
        if wiring.swap_norms and layer.endswith(("dw3", "shortcut")):
            other = "shortcut" if layer.endswith("dw3") else "dw3"
            norm = f"{layer.rpartition('/')[0]}/{other}/bn"
        scale, bias, mean, var = (weights[f"{norm}/{n}"] for n in ("scale", "bias", "mean", "var"))
        y = (y - mean) / jnp.sqrt(var + 1e-3) * scale + bias
        return act(y) if activated and wiring.order == "norm_first" else y

    def block(x: Array, name: str) -> Array:
        shortcut = unit(
            x, f"{name}/shortcut", wiring.shortcut_activation and not wiring.add_activation
        )
        for pair in (1, 2, 3):
            x = unit(x, f"{name}/pw{pair}")
            x = unit(x, f"{name}/dw{pair}", not (pair == 3 and wiring.add_activation))
        return act(x + shortcut) if wiring.add_activation else x + shortcut

    height, width = x.shape[1:3]
    x = unit(squashed(x, wiring.squash), "stem")
    size = (x.shape[0], height // 2, width // 2, x.shape[3])
    if wiring.down == "triangle":
        x = jax.image.resize(x, size, "linear", antialias=True)
    elif wiring.down == "nearest":
        x = x[:, : 2 * size[1] : 2, : 2 * size[2] : 2]
    elif wiring.down == "mean":
        x = x[:, : 2 * size[1], : 2 * size[2]].reshape(size[0], size[1], 2, size[2], 2, size[3])
        x = x.mean((2, 4))
    skip = unit(unit(x, "skip_pw"), "skip_dw")
    x = block(block(x, "block1"), "block2")

    def upsampled(x: Array) -> Array:
        return jax.image.resize(x, (x.shape[0], height, width, x.shape[3]), "linear")

    if wiring.up == "third":
        x, skip = upsampled(x), upsampled(skip)
    x = jnp.concatenate([skip, x] if wiring.swap_concat else [x, skip], axis=-1)
    x = upsampled(block(x, "block3"))
    if wiring.unit_length:
        x = x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    logits = jnp.einsum("bhwc,cd->bhwd", x, weights["classifier/kernel"][0, 0])
    return logits + weights["classifier/bias"], seen


def squashed(x: Array, how: str) -> Array:
    """Reflectances times 10000 as the network takes them."""
    if how == "plain":
        return x / 10000
    low, scale = np.float32(dynamicworld.PERCENTILES).T
    y = (jnp.log(jnp.maximum(x, 0) * 0.005 + 1) - low) / scale
    return jax.nn.sigmoid(y * 5 - 1) if how == "logistic" else y
