"""The writer of the ONNX file: integer products of unpacked fields, then requantization by integers, saturated.

Only standard operators are used (opset 18 and up); which, is in :mod:`bitproof.export.onnx_int8.operations`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx import TensorProto, helper

from bitproof.export.integer import INPUT, IntegerModel, hull, load
from bitproof.export.onnx_int8.context import Context
from bitproof.export.onnx_int8.graph import INT8, GraphWriter, PlainIntegers, Stored, Value, zero_point_of
from bitproof.export.onnx_int8.operations import WRITERS
from bitproof.pipeline import Artifact, Stage, StageContext, StageError
from bitproof.pipeline.progress import Progress, silent

FILE = "model.onnx"
LAYERS = "layers.json"
KIND = "onnx-int8"
OPSET = 21
IR_VERSION = 10


@dataclass(frozen=True)
class WriteOnnxInt8(Stage):
    """Write the integer model as packed-int8 ONNX."""

    name: ClassVar[str] = "onnx-int8"
    consumes: ClassVar[str] = "integer-model"
    produces: ClassVar[str] = KIND
    distributions: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Write ``model.onnx`` and ``layers.json`` (where each layer's integers are, how activations are computed)."""
        model, layers = build(load(source.path), ctx.progress)
        onnx.save_model(model, ctx.workdir / FILE)
        (ctx.workdir / LAYERS).write_text(json.dumps(layers, indent=1, sort_keys=True) + "\n")
        return {}


def build(model: IntegerModel, progress: Progress = silent) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return the ONNX form of *model*, and a description of its layers.

    The graph takes codes ``codes``, shape (N, *shape of a sample): uint8; int8 if they may be negative; uint8 with a
    zero point added if they fit neither. It gives int32 integers (int64 if 32 bits do not hold them), or codes of
    uint8 or int8 if the model ends with an activation whose codes fit, shape (N, *shape of an output); one such
    output for each head of the model.

    Returns:
        The graph, and ``input`` (the zero point that is added to the codes), ``values`` (the tensor of each node, its
        zero point and type) and ``activations`` (layer, source and target tensor, zero point, type of the source, shape
        of a single position, method).

    Raises:
        StageError: a layer has no form in this target; the message names it and what is supported.
    """
    missing = [f"{node.name} ({node.op})" for node in model.nodes if type(node) not in WRITERS]
    if missing:
        raise StageError(f"onnx-int8 has no form for {', '.join(missing)}")
    graph, shapes = GraphWriter(), model.shapes()
    context = Context(graph, {name: value.ranges for name, value in model.values.items()}, shapes)
    source, kind, shift = _input(graph, model)
    values: dict[str, Value] = {INPUT: source}
    for number, (node, sources) in enumerate(model.wired()):
        progress(f"writing {node.name}", number, len(model.nodes))
        if model.heads and node is model.nodes[-1]:  # its outputs stay apart
            continue
        values[node.name] = WRITERS[type(node)](context, node, [(source, values[source]) for source in sources])
    inputs = [helper.make_tensor_value_info("codes", kind, ["N", *model.shape])]
    outputs = _outputs(context, model, values)
    made = helper.make_graph(graph.nodes, "bitproof", inputs, outputs, graph.constants)
    proto = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="bitproof"
    )
    onnx.checker.check_model(proto, full_check=True)
    described = {name: _describe(value) for name, value in values.items() if name != INPUT}
    return proto, {"input": {"zero_point": shift}, "values": described, "activations": context.activations}


def _outputs(context: Context, model: IntegerModel, values: dict[str, Value]) -> list[onnx.ValueInfoProto]:
    """Return the outputs of the file: one, or each head under its own shape, and a name that begins with its own."""
    graph, last = context.graph, model.nodes[-1].name
    if not model.heads:
        tensor, kind = graph.outside(values[last], hull(context.ranges[last]), last)
        return [helper.make_tensor_value_info(tensor, kind, ["N", *context.shapes[last]])]
    outputs = []
    for place, (head, source) in enumerate(zip(model.heads, model.sources(last), strict=True)):
        at = f"head{place}"
        tensor, kind = graph.outside(values[source], hull(context.ranges[source]), at)
        sizes = graph.constant(f"{at}.sizes", np.array([0, *head.shape], dtype=np.int64))
        shaped = graph.operation("Reshape", [tensor, sizes], f"{head.name}.{at}")
        outputs.append(helper.make_tensor_value_info(shaped, kind, ["N", *head.shape]))
    return outputs


def _input(graph: GraphWriter, model: IntegerModel) -> tuple[Value, int, int]:
    """Return the input codes in *graph*, the type that the file takes, and what is added to them outside."""
    allowed = model.allowed_codes
    lowest, highest = allowed[0], allowed[-1]
    if lowest in INT8 and highest in INT8 and lowest < 0:
        wide = PlainIntegers(graph.cast("codes", TensorProto.INT32, "codes.signed"))
        return graph.digits(wide, INT8, "codes")[0], TensorProto.INT8, 0
    zero_point = zero_point_of(lowest, highest)
    return Stored("codes", zero_point), TensorProto.UINT8, zero_point


def _describe(value: Value) -> dict[str, Any]:
    if isinstance(value, PlainIntegers):
        return {"tensor": value.tensor, "zero_point": 0, "type": "int64" if value.wide else "int32"}
    return {"tensor": value.tensor, "zero_point": value.zero_point, "type": "uint8"}
