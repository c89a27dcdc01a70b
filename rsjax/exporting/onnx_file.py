"""ONNX: the traced model, equation by equation, as operators of opset 18.

What depends on weights and constants alone is computed now; sizes left open become operators on
the inputs' shapes. A model computes in float32 here, as few runtimes know bfloat16 on CPU.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import onnx
from onnx import helper, numpy_helper

import rsjax
from rsjax.bundle import Model
from rsjax.errors import ExportError
from rsjax.exporting import graph as graphs
from rsjax.exporting import primitives

OPSET = 18
OUTPUT = "probabilities"
# What JAX writes a symbolic side with, beside floordiv.
SIDES = {"Add": "Add", "Sub": "Sub", "Mult": "Mul", "Pow": "Pow"}
SIDES |= {"max": "Max", "min": "Min", "mod": "Mod"}
Value = Any  # np.ndarray where it is known, else the name of a tensor


def make(model: Model, height: int, width: int, step: int) -> tuple[bytes, dict[str, Any]]:
    """See `rsjax.exporting`."""
    import onnxruntime

    described = {**model.about, "model": {**model.about["model"], "dtype": "float32"}}
    graph = graphs.graph(dataclasses.replace(model, about=described), height, width, step)
    file = _model(graph)
    session = onnxruntime.InferenceSession(_bytes(file), providers=["CPUExecutionProvider"])

    def run(batch: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(session.run([OUTPUT], batch)[0])

    about = {
        **graphs.about(graph.model, "onnx"),
        **graphs.about_entries(graph),
        "opset": OPSET,
        "verified": {
            **graphs.compare(graph, run, "ONNX"),
            "runtime": f"onnxruntime {onnxruntime.__version__}",
        },
    }
    helper.set_model_props(file, {"rsjax": json.dumps(about)})
    return _bytes(file), about


def _bytes(file: onnx.ModelProto) -> bytes:
    try:
        return bytes(file.SerializeToString())
    except ValueError as error:  # of protobuf, above 2 GiB
        raise ExportError(f"ONNX: {error}; the limit is 2 GiB, use stablehlo") from None


def _model(graph: graphs.Graph) -> onnx.ModelProto:
    shapes = graph.shapes()
    with graphs.tracing(graph, "ONNX"):
        closed, out = jax.make_jaxpr(graph.probabilities, return_shape=True)(shapes)
    return assemble(graph.model.about["model"]["name"], sorted(shapes), closed, out)


def assemble(model: str, names: Sequence[str], closed: Any, out: Any) -> onnx.ModelProto:
    """An ONNX file of a jaxpr with one output.

    Args:
        model: the model's name, for messages.
        names: of the inputs.
        closed: the closed jaxpr.
        out: shape and type of the output.

    Raises:
        ExportError: it has a primitive without a rule.
    """
    builder = Builder(model)
    builder.sizes(names, closed.in_avals)
    (result,) = builder.jaxpr(closed.jaxpr, list(map(np.asarray, closed.consts)), names)
    builder.node("Identity", [builder.name(result)], OUTPUT)
    inputs = [_typed(n, a.shape, a.dtype) for n, a in zip(names, closed.in_avals, strict=True)]
    outputs = [_typed(OUTPUT, out.shape, out.dtype)]
    nodes, initializers = builder.needed(OUTPUT)
    proto = helper.make_graph(nodes, "rsjax", inputs, outputs, initializers)
    opset = [helper.make_opsetid("", OPSET)]
    return helper.make_model(
        proto,
        opset_imports=opset,
        producer_name="rsjax",
        producer_version=rsjax.__version__,
        ir_version=helper.find_min_ir_version_for(opset),
    )


def _typed(name: str, shape: Sequence[Any], dtype: Any) -> onnx.ValueInfoProto:
    sides = [side if isinstance(side, int) else str(side) for side in shape]
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(dtype), sides)


class Builder:
    """An ONNX graph under construction.

    Attributes:
        model: the model's name, for messages.
        nodes: the operators so far.
        initializers: the constants so far.
    """

    def __init__(self, model: str):
        self.model = model
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._constants: dict[tuple[Any, ...], str] = {}
        self._sides: dict[str, Value] = {}
        self._count = 0

    def jaxpr(self, jaxpr: Any, consts: Sequence[Value], args: Sequence[Value]) -> list[Value]:
        """The outputs of a jaxpr for these inputs."""
        values = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))

        def read(var: Any) -> Value:
            return np.asarray(var.val, var.aval.dtype) if hasattr(var, "val") else values[var]

        for eqn in jaxpr.eqns:
            outputs = self._equation(eqn, [read(var) for var in eqn.invars])
            values.update(zip(eqn.outvars, outputs, strict=True))
        return [read(var) for var in jaxpr.outvars]

    def _equation(self, eqn: Any, inputs: list[Value]) -> Sequence[Value]:
        name, p = eqn.primitive.name, eqn.params
        if name == "platform_index":
            return [None]
        if name == "cond" and p.get("branches_platforms"):
            branch = p["branches"][p["branches_platforms"].index(None)]  # of every platform
            return self.jaxpr(branch.jaxpr, branch.consts, inputs[1:])
        inner = next((p[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in p), None)
        if inner is not None and name not in ("while", "scan", "cond"):
            closed = inner if hasattr(inner, "consts") else jax.extend.core.ClosedJaxpr(inner, ())
            return self.jaxpr(closed.jaxpr, closed.consts, inputs)
        fixed = all(isinstance(side, int) for var in eqn.outvars for side in var.aval.shape)
        known = fixed and all(isinstance(value, np.ndarray) for value in inputs)
        if known and name in primitives.NUMPY:
            return [np.asarray(primitives.NUMPY[name](*inputs))]
        if known and name not in (*primitives.LAYOUT, "dim_as_value"):
            found = eqn.primitive.bind(*inputs, **p)
            found = found if eqn.primitive.multiple_results else [found]
            return [np.asarray(value) for value in found]
        rule = primitives.rule(name)
        try:
            if rule is None:
                raise ExportError(f"'{name}', which has no rule")
            return [rule(self, eqn, inputs)]
        except ExportError as error:
            shapes = ", ".join(str(var.aval) for var in eqn.invars)
            raise ExportError(
                f"{self.model} to ONNX: cannot express {error} (of {shapes}); use "
                "--format=stablehlo, and please report this"
            ) from None

    def op(self, kind: str, inputs: Sequence[Value], **attributes: Any) -> str:
        """Adds an operator; its output's name."""
        self._count += 1
        output = f"{kind}_{self._count}"
        self.node(kind, [self.name(value) for value in inputs], output, **attributes)
        return output

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> None:
        """Adds an operator with a named output."""
        plain = {k: _plain(v) for k, v in attributes.items()}
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **plain))

    def needed(self, output: str) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
        """The operators and constants that an output depends on."""
        wanted, nodes = {output}, []
        for node in reversed(self.nodes):
            if node.output[0] in wanted:
                wanted.update(node.input)
                nodes.append(node)
        return nodes[::-1], [one for one in self.initializers if one.name in wanted]

    def name(self, value: Value) -> str:
        """The tensor's name; a constant becomes one."""
        if isinstance(value, str):
            return value
        key = (value.dtype.str, value.shape, hashlib.sha256(value.tobytes()).digest())
        if key not in self._constants:
            self._constants[key] = name = f"constant_{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return self._constants[key]

    def cast(self, value: Value, dtype: Any) -> Value:
        """The value in another type."""
        if isinstance(value, np.ndarray):
            return value.astype(dtype)
        return self.op("Cast", [value], to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def transpose(self, value: Value, axes: Sequence[int]) -> Value:
        """The value with its axes in another order."""
        if list(axes) == list(range(len(axes))):
            return value
        if isinstance(value, np.ndarray):
            return value.transpose(axes)
        return self.op("Transpose", [value], perm=axes)

    def reshape(self, value: Value, shape: Sequence[Any]) -> Value:
        """The value in another shape; sides may be symbolic."""
        if isinstance(value, np.ndarray) and all(isinstance(side, int) for side in shape):
            return value.reshape(shape)
        return self.op("Reshape", [value, self.shape(shape)], allowzero=1)

    def expand(self, value: Value, shape: Sequence[Any]) -> Value:
        """The value repeated along sides of 1; sides may be symbolic."""
        if isinstance(value, np.ndarray) and all(isinstance(side, int) for side in shape):
            return np.broadcast_to(value, shape)
        return self.op("Expand", [value, self.shape(shape)])

    def range(self, side: Any) -> Value:
        """0, 1, ... up to a side, int64."""
        if isinstance(side, int):
            return np.arange(side)
        return self.op("Range", [np.array(0, np.int64), self.side(side), np.array(1, np.int64)])

    def slice(
        self,
        value: Value,
        start: Sequence[Any],
        limit: Sequence[Any],
        axes: Sequence[int],
        steps: Sequence[int],
    ) -> Value:
        """A part of the value; limits may be symbolic."""
        if isinstance(value, np.ndarray):
            index = [slice(None)] * value.ndim
            for axis, first, last, step in zip(axes, start, limit, steps, strict=True):
                index[axis] = slice(first, None if step < 0 else last, step)
            return value[tuple(index)]
        if not axes:
            return value
        ends = [self.shape(start), self.shape(limit)]
        return self.op("Slice", [value, *ends, *(np.array(v, np.int64) for v in (axes, steps))])

    def pad(self, value: Value, pads: Sequence[Any], fill: Value = None) -> Value:
        """The value with (before, after) added on each axis; negative ones cut."""
        sides = [before for before, _ in pads] + [after for _, after in pads]
        if all(isinstance(side, (int, np.integer)) and side == 0 for side in sides):
            return value
        return self.op("Pad", [value, self.shape(sides), *([] if fill is None else [fill])])

    def window_pads(
        self, value: Value, pads: Sequence[Any], fill: float, sizes: Sequence[int] = ()
    ) -> tuple[Value, list[int]]:
        """Padding of rows and columns of (B, C, H, W) as attributes, or done before where it must.

        That is where it is symbolic, negative, or no smaller than the window.
        """
        flat = [side[end] for end in (0, 1) for side in pads]
        limits = [*sizes, *sizes] or [2**31] * 4
        if all(
            isinstance(p, (int, np.integer)) and 0 <= p < m
            for p, m in zip(flat, limits, strict=True)
        ):
            return value, [int(p) for p in flat]
        fill_as = np.array(fill, np.float32)
        return self.pad(value, [(0, 0), (0, 0), *pads], fill_as), [0] * 4

    def sizes(self, names: Sequence[str], avals: Sequence[Any]) -> None:
        """Takes down where in the inputs' shapes each symbol is found."""
        for name, aval in zip(names, avals, strict=True):
            for axis, side in enumerate(aval.shape):
                if not isinstance(side, int):
                    self._inputs(name, axis, side)

    def _inputs(self, name: str, axis: int, side: Any) -> None:
        factor, _, symbol = str(side).rpartition("*")
        if symbol in self._sides:
            return
        found = self.op("Gather", [self.op("Shape", [name]), np.array(axis, np.int64)])
        self._sides[symbol] = (
            self.op("Div", [found, np.array(int(factor), np.int64)]) if factor else found
        )

    def side(self, side: Any) -> Value:
        """A side as an int64 scalar: a constant, or operators on the inputs' shapes."""
        if isinstance(side, (int, np.integer)):
            return np.array(side, np.int64)
        text = str(side)
        if text not in self._sides:
            self._sides[text] = self._expression(
                ast.parse(text.replace("^", "**"), mode="eval").body
            )
        return self._sides[text]

    def _expression(self, tree: Any) -> Value:
        """Operators for a side as JAX prints it, e.g. '6*h + -1*floordiv(h, 2)'."""
        if isinstance(tree, ast.Name):
            return self._sides[tree.id]
        if isinstance(tree, ast.Constant):
            return np.array(tree.value, np.int64)
        if isinstance(tree, ast.UnaryOp):
            return self.op("Neg", [self._expression(tree.operand)])
        if isinstance(tree, ast.Call):
            kind, parts = tree.func.id, tree.args  # type: ignore[attr-defined]
        else:
            kind, parts = type(tree.op).__name__, [tree.left, tree.right]
        left, right = (self._expression(part) for part in parts)
        if kind == "floordiv":  # ONNX divides towards zero, its modulo is Python's
            exact = self.op("Sub", [left, self.op("Mod", [left, right])])
            return self.op("Div", [exact, right])
        return self.op(SIDES[kind], [left, right])

    def shape(self, sides: Sequence[Any]) -> Value:
        """Sides as an int64 vector."""
        if all(isinstance(side, (int, np.integer)) for side in sides):
            return np.array(sides, np.int64)
        return self.op("Concat", [self.reshape(self.side(side), (1,)) for side in sides], axis=0)


def _plain(value: Any) -> Any:
    """An attribute as ONNX takes it: no numpy integers, no tuples."""
    if isinstance(value, (str, float)):
        return value
    return int(value) if np.ndim(value) == 0 else [int(v) for v in value]
