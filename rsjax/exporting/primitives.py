"""JAX's primitives in ONNX operators: one function each, by name.

Each takes the graph under construction, the equation and its inputs, and returns its outputs. A
value is a numpy array where it is known now, else the name of a tensor. Convolutions and pooling
are NCHW in ONNX: their transposes are left to the runtime, which moves and cancels them.
"""

from __future__ import annotations

import functools
import string
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rsjax.errors import ExportError

if TYPE_CHECKING:
    from rsjax.exporting.onnx_file import Builder

Value = Any  # np.ndarray | str
Rule = Callable[["Builder", Any, Sequence[Value]], Value]

UNARY = {
    "abs": "Abs",
    "ceil": "Ceil",
    "copy": "Identity",
    "copy_p": "Identity",
    "erf": "Erf",
    "exp": "Exp",
    "floor": "Floor",
    "log": "Log",
    "logistic": "Sigmoid",
    "neg": "Neg",
    "not": "Not",
    "optimization_barrier": "Identity",
    "sign": "Sign",
    "sqrt": "Sqrt",
    "stop_gradient": "Identity",
    "tanh": "Tanh",
}
BINARY = {
    "add": "Add",
    "add_any": "Add",
    "and": "And",
    "div": "Div",
    "min": "Min",
    "mul": "Mul",
    "or": "Or",
    "pow": "Pow",
    "xor": "Xor",
}
COMPARE = {
    "eq": "Equal",
    "ge": "GreaterOrEqual",
    "gt": "Greater",
    "le": "LessOrEqual",
    "lt": "Less",
}
REDUCE = {"reduce_max": "ReduceMax", "reduce_min": "ReduceMin", "reduce_sum": "ReduceSum"}

# Of known values by numpy, in microseconds; JAX would compile each of them.
NUMPY: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "eq": np.equal,
    "ge": np.greater_equal,
    "gt": np.greater,
    "le": np.less_equal,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sub": np.subtract,
}
# Rules that keep known values known.
LAYOUT = ("broadcast_in_dim", "convert_element_type", "expand_dims", "iota", "reshape", "rev",
          "slice", "squeeze", "transpose")  # fmt: skip


def rule(name: str) -> Rule | None:
    """The function for a primitive, if there is one."""
    if name in UNARY:
        return lambda b, e, x: b.op(UNARY[name], x)
    if name in BINARY:
        return lambda b, e, x: b.op(BINARY[name], x)
    if name in COMPARE:
        return lambda b, e, x: _compare(b, COMPARE[name], e, x)
    if name in REDUCE:
        return lambda b, e, x: b.op(
            REDUCE[name], [x[0], np.array(e.params["axes"], np.int64)], keepdims=0
        )
    found: Rule | None = globals().get(f"_{name}")
    return found


def _compare(b: Builder, op: str, eqn: Any, x: Sequence[Value]) -> Value:
    dtype = eqn.invars[0].aval.dtype
    if dtype.kind in "iu" and dtype.itemsize < 4:  # runtimes compare only the wider ones
        x = [b.cast(value, np.int32) for value in x]
    return b.op(op, x)


def _max(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    if (
        isinstance(x[1], np.ndarray)
        and x[1].dtype.kind == "f"
        and not x[1].any()
        and x[1].size == 1
    ):
        return b.op("Relu", x[:1])
    return b.op("Max", x)


def _sub(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    if isinstance(x[1], np.ndarray) and x[1].dtype.kind == "f":
        return b.op("Add", [x[0], -x[1]])  # runtimes put it into the convolution before
    return b.op("Sub", x)


def _ne(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    return b.op("Not", [_compare(b, "Equal", eqn, x)])


def _rsqrt(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    return b.op("Reciprocal", [b.op("Sqrt", x)])


def _square(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    return b.op("Mul", [x[0], x[0]])


def _integer_pow(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    return b.op("Pow", [x[0], np.array(eqn.params["y"], eqn.invars[0].aval.dtype)])


def _rem(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    return b.op("Mod", x, fmod=1)


def _clamp(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    low, value, high = x
    return b.op("Min", [b.op("Max", [value, low]), high])


def _select_n(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    if len(x) != 3 or eqn.invars[0].aval.dtype != bool:
        raise ExportError("select_n of more than two cases")
    return b.op("Where", [x[0], x[2], x[1]])


def _convert_element_type(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    return b.cast(x[0], eqn.outvars[0].aval.dtype)


def _reshape(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    return b.reshape(x[0], eqn.outvars[0].aval.shape)


_squeeze = _expand_dims = _reshape


def _transpose(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    return b.transpose(x[0], eqn.params["permutation"])


def _broadcast_in_dim(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    shape, at = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    own = eqn.invars[0].aval.shape
    ones = [1] * len(shape)
    for axis, side in zip(at, own, strict=True):
        ones[axis] = side
    value = b.reshape(x[0], ones) if tuple(ones) != tuple(own) else x[0]
    return value if tuple(ones) == tuple(shape) else b.expand(value, shape)


def _concatenate(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    axis = eqn.params["dimension"]
    parts = [v for v, var in zip(x, eqn.invars, strict=True) if var.aval.shape[axis] != 0]
    return parts[0] if len(parts) == 1 else b.op("Concat", parts, axis=axis)


def _stack(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    axis = eqn.params["axis"]
    shape = list(eqn.outvars[0].aval.shape)
    shape[axis] = 1
    return b.op("Concat", [b.reshape(value, shape) for value in x], axis=axis)


def _dim_as_value(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    return b.cast(b.side(eqn.params["dim"]), eqn.outvars[0].aval.dtype)


def _iota(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    shape, axis = eqn.params["shape"], eqn.params["dimension"]
    ones = [shape[axis] if i == axis else 1 for i in range(len(shape))]
    count = b.cast(b.range(shape[axis]), eqn.params["dtype"])
    value = b.reshape(count, ones)
    return value if tuple(ones) == tuple(shape) else b.expand(value, shape)


def _slice(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    start, limit = eqn.params["start_indices"], eqn.params["limit_indices"]
    strides = eqn.params["strides"] or [1] * len(start)
    axes = [
        i
        for i, side in enumerate(eqn.invars[0].aval.shape)
        if (start[i], limit[i], strides[i]) != (0, side, 1)
    ]
    first, last, step = ([v[i] for i in axes] for v in (start, limit, strides))
    return b.slice(x[0], first, last, axes, step)


def _rev(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    axes = list(eqn.params["dimensions"])
    count = len(axes)
    return b.slice(x[0], [-1] * count, [-(2**31)] * count, axes, [-1] * count)


def _dynamic_slice(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    starts, sizes = x[1:], eqn.params["slice_sizes"]
    sides = eqn.invars[0].aval.shape
    if any(isinstance(start, str) for start in starts):
        raise ExportError("dynamic_slice from a place that is computed")
    axes = [i for i, (size, side) in enumerate(zip(sizes, sides, strict=True)) if size != side]
    at = [int(np.clip(starts[i], 0, sides[i] - sizes[i])) for i in axes]
    limits = [start + sizes[i] for start, i in zip(at, axes, strict=True)]
    return b.slice(x[0], at, limits, axes, [1] * len(axes))


def _pad(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    config = eqn.params["padding_config"]
    if any(inner for _, _, inner in config):
        raise ExportError("pad between the elements")
    return b.pad(x[0], [(low, high) for low, high, _ in config], x[1])


def _gather(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    numbers = eqn.params["dimension_numbers"]
    sides, sizes = eqn.invars[0].aval.shape, eqn.params["slice_sizes"]
    axes, indices = numbers.start_index_map, eqn.invars[1].aval.shape
    if len(indices) == 1 and len(numbers.offset_dims) == len(sides):  # a slice, of open sides
        start = b.cast(x[1], np.int64)
        limit = b.op("Add", [start, b.shape([sizes[i] for i in axes])])
        return b.op("Slice", [x[0], start, limit, np.array(axes, np.int64)])
    axis, *more = axes
    whole = [side for i, side in enumerate(sides) if i != axis]
    simple = (
        not more
        and tuple(numbers.collapsed_slice_dims) == (axis,)
        and [size for i, size in enumerate(sizes) if i != axis] == whole
        and not numbers.operand_batching_dims
        and tuple(numbers.offset_dims)
        == (*range(axis), *range(axis + len(indices) - 1, len(sides) + len(indices) - 2))
    )
    if not simple:
        raise ExportError("gather along more than one axis")
    return b.op("Gather", [x[0], b.reshape(x[1], indices[:-1])], axis=axis)


def _argmax(b: Builder, eqn: Any, x: Sequence[Value], op: str = "ArgMax") -> Value:
    (axis,) = eqn.params["axes"]
    return b.cast(b.op(op, x, axis=axis, keepdims=0), eqn.params["index_dtype"])


_argmin = functools.partial(_argmax, op="ArgMin")


def _dot_general(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    ((left, right), (left_batch, right_batch)) = eqn.params["dimension_numbers"]
    ranks = [len(v.aval.shape) for v in eqn.invars]
    shape = eqn.outvars[0].aval.shape
    known = not isinstance(x[1], str)
    if not left_batch and tuple(left) == (ranks[0] - 1,) and (known or ranks[1] == 2):
        kept = [i for i in range(ranks[1]) if i not in right]
        matrix = b.transpose(x[1], [*right, *kept])
        if ranks[1] != 2:
            matrix = matrix.reshape(matrix.shape[0], -1)
        value = b.op("MatMul", [x[0], matrix])
        if len(kept) != 1:
            value = b.reshape(value, shape)
    else:
        letters = iter(string.ascii_letters)
        names: list[list[str]] = [[""] * rank for rank in ranks]
        for pairs in ((left_batch, right_batch), (left, right)):
            for i, j in zip(*pairs, strict=True):
                names[0][i] = names[1][j] = next(letters)
        shared = [names[0][i] for i in left_batch]
        for side in names:
            side[:] = [name or next(letters) for name in side]
        summed = {names[0][i] for i in left}
        rest = [n for side in names for n in side if n not in summed and n not in shared]
        equation = f"{''.join(names[0])},{''.join(names[1])}->{''.join([*shared, *rest])}"
        value = b.op("Einsum", x, equation=equation)
    wanted = eqn.outvars[0].aval.dtype
    return value if eqn.invars[0].aval.dtype == wanted else b.cast(value, wanted)


def _conv_general_dilated(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    p = eqn.params
    numbers = p["dimension_numbers"]
    if p["batch_group_count"] != 1:
        raise ExportError("conv_general_dilated with groups of the batch")
    image = b.transpose(x[0], numbers.lhs_spec)  # (B, C, H, W)
    kernel = b.transpose(x[1], numbers.rhs_spec)  # (D, C, kh, kw)
    sides = [eqn.invars[1].aval.shape[axis] for axis in numbers.rhs_spec[2:]]
    dilations, strides, pads = p["rhs_dilation"], p["window_strides"], p["padding"]
    attributes = {"dilations": dilations, "group": p["feature_group_count"], "kernel_shape": sides}
    if any(step != 1 for step in p["lhs_dilation"]):
        # Zeros between the pixels: the transposed convolution of the kernel turned round.
        if p["feature_group_count"] != 1 or any(step != 1 for step in strides):
            raise ExportError("conv_general_dilated with lhs_dilation and groups or strides")
        kernel = b.transpose(kernel, (1, 0, 2, 3))
        kernel = b.slice(kernel, [-1, -1], [-(2**31)] * 2, [2, 3], [-1, -1])
        edges = [dilations[i] * (sides[i] - 1) for i in (0, 1)]
        cut = [[edges[i] - pads[i][side] for i in (0, 1)] for side in (0, 1)]
        # A negative cut adds zeros, which only pad does.
        value = b.op("ConvTranspose", [image, kernel], **attributes, strides=p["lhs_dilation"],
                     pads=[max(c, 0) for part in cut for c in part])  # fmt: skip
        value = b.pad(value, [(0, 0), (0, 0), *((max(-a, 0), max(-c, 0)) for a, c in
                                                zip(*cut, strict=True))])  # fmt: skip
    else:
        image, sides_now = b.window_pads(image, pads, 0.0)
        value = b.op("Conv", [image, kernel], **attributes, strides=strides, pads=sides_now)
    value = b.transpose(value, [int(i) for i in np.argsort(numbers.out_spec)])
    wanted = eqn.outvars[0].aval.dtype
    return value if eqn.invars[0].aval.dtype == wanted else b.cast(value, wanted)


def _window(b: Builder, eqn: Any, x: Sequence[Value], op: str, fill: float, **extra: int) -> Value:
    """A pooling over rows and columns of (B, H, W, C)."""
    p = eqn.params
    sizes, strides, pads = p["window_dimensions"], p["window_strides"], p["padding"]
    dilations = (*p["base_dilation"], *p["window_dilation"])
    outer = [(s, t, *q) for s, t, q in zip(sizes, strides, pads, strict=True)]
    if len(sizes) != 4 or set(dilations) != {1} or {outer[0], outer[3]} != {(1, 1, 0, 0)}:
        raise ExportError(f"{eqn.primitive.name} over other axes than rows and columns")
    image = b.transpose(x[0], (0, 3, 1, 2))
    image, sides = b.window_pads(image, pads[1:3], fill, sizes[1:3])
    value = b.op(op, [image], kernel_shape=sizes[1:3], strides=strides[1:3], pads=sides, **extra)
    return b.transpose(value, (0, 2, 3, 1))


def _reduce_window_max(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    return _window(b, eqn, x, "MaxPool", -np.inf)


def _reduce_window_sum(b: Builder, eqn: Any, x: Sequence[Value]) -> Value:
    mean = _window(b, eqn, x, "AveragePool", 0.0, count_include_pad=1)
    count = np.prod(eqn.params["window_dimensions"])
    return b.op("Mul", [mean, np.array(count, eqn.outvars[0].aval.dtype)])
