"""Write the ONNX file: integer products of unpacked fields, then requantization by integers, saturated.

Only standard operators are used (opset 18 and up); which, is in :mod:`export.onnx_int8.operations`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import onnx
from onnx import helper

from export.integer import INPUT, IntegerModel, load, propagate
from export.onnx_int8.context import Context
from export.onnx_int8.graph import Graph, Sums, Value, code_type
from export.onnx_int8.operations import WRITERS
from pipeline import Artifact, Stage, StageContext, StageError
from pipeline.progress import Progress, silent

FILE = "model.onnx"
LAYERS = "layers.json"
KIND = "onnx-int8"
OPSET = 21
IR_VERSION = 10


@dataclass(frozen=True)
class WriteOnnxInt8(Stage):
    """Write the integer model as packed-int8 ONNX."""

    name: ClassVar[str] = "onnx-int8"
    consumes: ClassVar[str | None] = "integer-model"
    produces: ClassVar[str] = KIND
    distributions: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def run(self, source: Artifact | None, ctx: StageContext) -> Mapping[str, str]:
        """Write ``model.onnx`` and ``layers.json`` (where each layer's integers are, how activations are computed)."""
        assert source is not None, "this stage consumes an integer model"
        model, layers = build(load(source.path), ctx.progress)
        onnx.save_model(model, ctx.workdir / FILE)
        (ctx.workdir / LAYERS).write_text(json.dumps(layers, indent=1, sort_keys=True) + "\n")
        return {}


def build(model: IntegerModel, progress: Progress = silent) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return the ONNX form of *model*, and a description of its layers.

    The graph takes codes ``codes``, shape (N, *shape of a sample), uint8 or, where they may be negative, int8. It gives
    int32 integers, or codes of such a type where the model ends with an activation, shape (N, *shape of an output).

    Returns:
        The graph, and ``values`` (the tensor of each node, its zero point, whether it is int32) and ``activations``
        (layer, source and target tensor, zero point, shape of a single position, method).

    Raises:
        StageError: a layer has no form in this target; the message names it and what is supported.
    """
    missing = [f"{node.name} ({node.op})" for node in model.nodes if type(node) not in WRITERS]
    if missing:
        raise StageError(f"onnx-int8 has no form for {', '.join(missing)} of {model.name!r}")
    allowed = model.allowed_codes
    kind = code_type(allowed[0], allowed[-1])
    if kind is None:
        raise StageError(f"onnx-int8: input codes are {allowed[0]}..{allowed[-1]}; supported: 0..255 and -128..127")
    graph, shapes = Graph(), model.shapes()
    context = Context(graph, propagate(model), shapes)
    values: dict[str, Value] = {INPUT: graph.read_input("codes", allowed[0])}
    for number, (node, sources) in enumerate(model.wired()):
        progress(f"writing {node.name}", number, len(model.nodes))
        values[node.name] = WRITERS[type(node)](context, node, [(source, values[source]) for source in sources])
    last = model.nodes[-1].name
    tensor, last_type = graph.outside(values[last], last)
    inputs = [helper.make_tensor_value_info("codes", kind, ["N", *model.shape])]
    outputs = [helper.make_tensor_value_info(tensor, last_type, ["N", *shapes[last]])]
    made = helper.make_graph(graph.nodes, "bitproof", inputs, outputs, graph.constants)
    proto = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION, producer_name="bitproof"
    )
    onnx.checker.check_model(proto, full_check=True)
    described = {node.name: _describe(values[node.name]) for node in model.nodes}
    return proto, {"values": described, "activations": context.activations}


def _describe(value: Value) -> dict[str, Any]:
    if isinstance(value, Sums):
        return {"tensor": value.tensor, "zero_point": 0, "int32": True}
    return {"tensor": value.tensor, "zero_point": value.zero_point, "int32": False}
