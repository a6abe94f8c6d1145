"""The writer of the ONNX file: the steps of the program, each as one operator if that is proven, else node by node.

See :mod:`bitproof.export.onnx_int8.fused` and :mod:`bitproof.export.onnx_int8.operations`. Opset and version of the
format are the oldest that have all operators, so that onnxruntime 1.17 and later read the file.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
from onnx import TensorProto, helper

from bitproof.export.integer import INPUT, IntegerModel, MaxPool, Node, hull, load
from bitproof.export.onnx_int8.context import Construction, Context
from bitproof.export.onnx_int8.costs import Costs, read_table, shipped_table
from bitproof.export.onnx_int8.ends import METADATA, Ends, describe_ends, write_classes, write_input
from bitproof.export.onnx_int8.fused import fused
from bitproof.export.onnx_int8.graph import CONTRIB, GraphWriter, PlainIntegers, Value
from bitproof.export.onnx_int8.operations import WRITERS, require_pads
from bitproof.export.program.schedule import schedule
from bitproof.export.program.step import Step
from bitproof.pipeline import Artifact, Stage, StageContext, StageError
from bitproof.pipeline.progress import Progress, silent

FILE = "model.onnx"
LAYERS = "layers.json"
KIND = "onnx-int8"
OPSET = 18
IR_VERSION = 8
NATIVE_SINCE: Mapping[int, tuple[int, int]] = {TensorProto.UINT4: (21, 10), TensorProto.UINT2: (25, 13)}
"""Opset and version of the format that have a type of weights."""
PLAIN = Ends()


@dataclass(frozen=True)
class WriteOnnxInt8(Stage):
    """Write the integer model as packed-int8 ONNX.

    Attributes:
        construction: which operators may be used.
        native_weights: weights of 2 and 4 bits are stored in the types that newer versions of ONNX have for them.
        pixels: what the file takes, see :class:`bitproof.export.onnx_int8.ends.Ends`.
        classes: it gives classes, too.
        table_sha256: of the table of times among the inputs of the run; None: the shipped one.
    """

    construction: Construction = "fastest"
    native_weights: bool = False
    pixels: str | None = None
    classes: bool = False
    table_sha256: str | None = None

    name: ClassVar[str] = "onnx-int8"
    consumes: ClassVar[str] = "integer-model"
    produces: ClassVar[str] = KIND
    distributions: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime")

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Write ``model.onnx`` and ``layers.json`` (where each layer's integers are, how activations are computed)."""
        digest, ends = self.table_sha256, Ends(self.pixels, self.classes)
        table = shipped_table() if digest is None else read_table(ctx.input_file(digest), digest)
        model, layers = build(
            load(source.path),
            ctx.progress,
            self.construction,
            table,
            native_weights=self.native_weights,
            ends=ends,
        )
        layers["times"] = f"{'the shipped' if digest is None else 'a'} table of {table.about}"
        onnx.save_model(model, ctx.workdir / FILE)
        (ctx.workdir / LAYERS).write_text(json.dumps(layers, indent=1, sort_keys=True) + "\n")
        return {}


def build(
    model: IntegerModel,
    progress: Progress = silent,
    construction: Construction = "fastest",
    costs: Costs | None = None,
    *,
    native_weights: bool = False,
    ends: Ends = PLAIN,
) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Return the ONNX form of *model*, and a description of its layers.

    The graph takes codes ``codes``, shape (N, *shape of a sample): uint8; int8 if they may be negative; uint8 with a
    zero point added if they fit neither; or images ``pixels``, if *ends* says so. It gives int32 integers (int64 if 32
    bits do not hold them), or codes of uint8 or int8 if the model ends with an activation whose codes fit, shape
    (N, *shape of an output); one such output for each head of the model.

    Args:
        model: the integer model.
        progress: is told how far the writing is.
        construction: which operators may be used.
        costs: decide between constructions that are proven; None: the shipped table.
        native_weights: weights of 2 and 4 bits are stored in types of ONNX that onnxruntime reads since 1.18 and 1.25.
        ends: what the file takes and gives beside codes.

    Returns:
        The graph, and ``input`` (the zero point that is added to the codes), ``values`` (the tensor of each node, its
        zero point and type; of one that no tensor holds the ``nodes`` that would give it) and ``activations`` (layer,
        target tensor, zero point, shape of a single position, method, estimated time of product and activation, and
        what its construction needs to be run alone).

    Raises:
        StageError: a layer has no form in this target; the message names it and what is supported.
    """
    _require_forms(model, ends)
    graph, known = GraphWriter(native_weights=native_weights), model.values
    ranges, sums = ({name: getattr(value, what) for name, value in known.items()} for what in ("ranges", "sums"))
    context = Context(graph, ranges, model.shapes(), sums, costs or shipped_table(), construction)
    source, taken, shift = write_input(graph, model, ends)
    values = _Values(context, model, {INPUT: source})
    program = schedule(model)
    for number, step in enumerate(program.steps):
        progress(f"writing {step.name}", number, len(program.steps))
        if model.heads and step.main is model.nodes[-1]:  # its outputs stay apart
            continue
        values.write(step)
    outputs = _outputs(context, model, values)
    if ends.classes:
        outputs.append(write_classes(graph, model, outputs[0].name))
    proto = _proto(graph, taken, outputs)
    helper.set_model_props(proto, {METADATA: describe_ends(model, ends, shift, proto)})
    onnx.checker.check_model(proto, full_check=True)
    described = {name: _describe(value) for name, value in values.held.items()} | context.hidden
    shown = {node.name: described[node.name] for node in model.nodes if node.name in described}
    for entry in context.activations:
        entry["time_ps"] = context.times_ps.get(entry["layer"])
    return proto, {"input": {"zero_point": shift}, "values": shown, "activations": context.activations}


def _require_forms(model: IntegerModel, ends: Ends) -> None:
    """Check what can be told of *model* before anything is written.

    Raises:
        StageError: a node, or the classes of *ends*, have no form.
    """
    missing = [f"{node.name} ({node.op})" for node in model.nodes if type(node) not in WRITERS]
    if missing:
        raise StageError(f"onnx-int8 has no form for {', '.join(missing)}")
    if model.heads and ends.classes:
        names = ", ".join(head.name for head in model.heads)
        raise StageError(f"onnx-int8: a network with several outputs ({names}) has no class; leave classes out")
    for node in model.nodes_of(MaxPool):
        require_pads(node)


@dataclass
class _Values:
    """The values of *model* that the graph holds so far."""

    context: Context
    model: IntegerModel
    held: dict[str, Value]

    def write(self, step: Step) -> None:
        """Write *step* as one operator, or its nodes one by one."""
        for node in [node for nodes in step.before for node in nodes]:
            self._write_node(node)
        inputs = [(name, self[name]) for name in self.model.sources(step.main.name)]
        made = fused(self.context, step, inputs)
        if made is not None:
            self.held[step.makes] = made
            return
        for node in step.covers:
            if node.name not in self.held:
                self._write_node(node)

    def __getitem__(self, name: str) -> Value:
        """Return the value *name*, written now if it only shows another in another shape."""
        missing = []
        while name not in self.held:
            missing.append(self.model.node(name))
            name = self.model.sources(name)[0]
        for node in reversed(missing):
            self._write_node(node)
        return self.held[missing[0].name if missing else name]

    def _write_node(self, node: Node) -> None:
        inputs = [(source, self[source]) for source in self.model.sources(node.name)]
        self.held[node.name] = WRITERS[type(node)](self.context, node, inputs)


def _outputs(context: Context, model: IntegerModel, values: _Values) -> list[onnx.ValueInfoProto]:
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


def _proto(graph: GraphWriter, taken: onnx.ValueInfoProto, outputs: list[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """Return the file, in the oldest opset that has its operators and types."""
    made = helper.make_graph(graph.nodes, "bitproof", [taken], outputs, graph.constants)
    opset, version = max([(OPSET, IR_VERSION), *(NATIVE_SINCE.get(each.data_type, (0, 0)) for each in graph.constants)])
    domains = {"": opset, **({CONTRIB: 1} if any(node.domain == CONTRIB for node in graph.nodes) else {})}
    return helper.make_model(
        made,
        opset_imports=[helper.make_opsetid(domain, number) for domain, number in domains.items()],
        ir_version=version,
        producer_name="bitproof",
    )


def _describe(value: Value) -> dict[str, Any]:
    if isinstance(value, PlainIntegers):
        return {"tensor": value.tensor, "zero_point": 0, "type": "int64" if value.wide else "int32"}
    return {"tensor": value.tensor, "zero_point": value.zero_point, "type": "uint8"}
