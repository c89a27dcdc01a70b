"""The published arrays of Dynamic World in our names; they are numbered in the graph's order.

Which array is which follows from their shapes and their order, and was checked: with these names
the activations on real images have the running statistics that the batch norms hold
(experiments/dynamicworld).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from rsjax.errors import WeightsError
from rsjax.models.dynamicworld import PAIRS
from rsjax.models.pretrained.fit import Tree, unflat

# (a, b) of B02 B03 B04 B05 B06 B07 B08 B11 B12: "30/70 percentiles" of log(0.005 x + 1), from
# single_image_runner.ipynb of https://github.com/google/dynamicworld.
PERCENTILES = (
    (1.7417268007636313, 2.023298706048351),
    (1.7261204997060209, 2.038905204308012),
    (1.6798346251414997, 2.179592821212937),
    (1.7734969472909623, 2.2890068333026603),
    (2.289154079164943, 2.6171674549378166),
    (2.382939712192371, 2.773418590375327),
    (2.3828939530384052, 2.7578332604178284),
    (2.1952484264967844, 2.789092484314204),
    (1.554812948247501, 2.4140534947492487),
)
NUMBER = re.compile(r"variables[_/](\d+)(?:/\.ATTRIBUTES/VARIABLE_VALUE)?")


def _layers() -> list[tuple[str, ...]]:
    """The layers in the graph's order; those in one tuple lie side by side in it.

    A graph's order is by depth, so that the last depthwise convolution of a block stands beside
    the block's shortcut, and the skip between the layers of the second block.
    """
    order: list[tuple[str, ...]] = [("stem",)]
    for number in (1, 2, 3):
        for pair in range(1, PAIRS):
            order += [(f"block{number}/pw{pair}",), (f"block{number}/dw{pair}",)]
        order.append((f"block{number}/pw{PAIRS}",))
        if number == 2:
            order.append(("skip_pw",))
        order.append((f"block{number}/dw{PAIRS}", f"block{number}/shortcut"))
        if number == 2:
            order.append(("skip_dw",))
    return order


def names() -> list[str]:
    """Our names of the numbered arrays, 'block1/dw1/conv/kernel'."""
    found: list[str] = []
    for beside in _layers():
        found += [f"{layer}/conv/{leaf}" for layer in beside for leaf in ("kernel", "bias")]
        leaves = ("scale", "bias", "mean", "var")
        found += [f"{layer}/bn/{leaf}" for layer in beside for leaf in leaves]
    return [*found, "classifier/kernel", "classifier/bias"]


def from_tensorflow(arrays: Mapping[str, np.ndarray]) -> tuple[Tree, dict[str, Any]]:
    """Variables of `rsjax.models.dynamicworld`, and the fields that they need.

    A convolution's bias before a batch norm, which ours has not, is taken off the running mean,
    to the same effect.

    Args:
        arrays: 'variables/0/.ATTRIBUTES/VARIABLE_VALUE' and on, as the checkpoint names them, or
            'variables_0' and on.

    Raises:
        WeightsError: other names, or not as many.
    """
    numbers = {name: NUMBER.fullmatch(name) for name in arrays}
    if strange := [name for name, match in numbers.items() if match is None]:
        raise WeightsError(
            f"entries {', '.join(strange[:10])} are none of Dynamic World's forward model, which "
            "are variables/0 and on. Take model/forward of google/dynamicworld"
        )
    by_number = {int(match[1]): arrays[name] for name, match in numbers.items() if match}
    wanted = names()
    if sorted(by_number) != list(range(len(wanted))):
        raise WeightsError(
            f"{len(arrays)} arrays; Dynamic World's forward model has {len(wanted)}, "
            f"numbered 0 to {len(wanted) - 1}. Take model/forward of google/dynamicworld"
        )
    named = {name: by_number[number] for number, name in enumerate(wanted)}
    flat: dict[str, np.ndarray] = {}
    for name, value in named.items():
        layer, _, leaf = name.rpartition("/")
        if name.endswith("conv/bias"):
            continue
        if leaf == "mean":
            bias = named[f"{layer.removesuffix('bn')}conv/bias"]
            if bias.shape != value.shape or {bias.dtype.kind, value.dtype.kind} != {"f"}:
                raise WeightsError(
                    f"'{layer}': a mean of {value.dtype} {value.shape} and a bias of {bias.dtype} "
                    f"{bias.shape}, which would be one; other arrays than Dynamic World's"
                )
            value = value - bias
        if re.search(r"dw\d?/conv/kernel", name) and value.ndim == 4:
            value = value.transpose(0, 1, 3, 2)  # (h, w, channels, 1)
        collection = "batch_stats" if leaf in ("mean", "var") else "params"
        flat[f"{collection}/{name}"] = value
    return unflat(flat), {"percentiles": PERCENTILES}
