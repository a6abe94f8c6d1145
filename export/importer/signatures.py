"""The signatures of known operations: inputs, attributes, their types. The lowering can rely on what is checked here.

Standard operations are held against the schemas that onnx ships, those of QONNX against what qonnx itself asks for. An
operation that is not known here is left to the lowering, which refuses it by name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx
from onnx import AttributeProto

from bitproof.export.importer.domains import is_general
from bitproof.export.importer.graph import Array, WorkingGraph, operations, refusal
from bitproof.export.importer.shapes import BROADCAST, CHANGES_SHAPE, REDUCTIONS, SAME_SHAPE

KNOWN = (SAME_SHAPE | BROADCAST | REDUCTIONS | CHANGES_SHAPE) - operations("QuantAvgPool2d Quant MultiThreshold Trunc")
INT, FLOAT, STRING = AttributeProto.INT, AttributeProto.FLOAT, AttributeProto.STRING
WORDS: Mapping[int, str] = {INT: "an integer", FLOAT: "a number", STRING: "a word"}


@dataclass(frozen=True, slots=True)
class Signature:
    """What a QONNX operation takes.

    Attributes:
        inputs: how many inputs it may have.
        required: attributes that have to be there, with their types.
        optional: attributes that may be.
        scalars: inputs that hold one number for the whole tensor.
    """

    inputs: tuple[int, ...]
    required: Mapping[str, int]
    optional: Mapping[str, int]
    scalars: tuple[int, ...] = ()


SIGNATURES: Mapping[str, Signature] = {
    "Quant": Signature((4,), {"signed": INT, "narrow": INT}, {"rounding_mode": STRING}, (3,)),
    "BipolarQuant": Signature((2,), {}, {}),
    "Trunc": Signature((5, 6), {"rounding_mode": STRING}, {"signed": INT, "narrow": INT}),
    "MultiThreshold": Signature(
        (2,), {"out_dtype": STRING}, {"out_scale": FLOAT, "out_bias": FLOAT, "data_layout": STRING}
    ),
    "QuantAvgPool2d": Signature(
        (1,), dict.fromkeys(("stride", "kernel", "ibits", "obits", "signed"), INT), {"data_layout": STRING}
    ),
}


def require_well_formed(graph: WorkingGraph) -> None:
    """Check every node of *graph*.

    Raises:
        InputError: a node is not what its operation asks for; the message names it and what is wrong.
    """
    context = onnx.checker.C.CheckerContext()
    context.ir_version = onnx.IR_VERSION
    context.opset_imports = {"": graph.opsets[""]}
    for node in graph.nodes:
        for attribute in node.attribute:
            if attribute.type == FLOAT and not math.isfinite(attribute.f):
                raise refusal(node, f"attribute {attribute.name!r} is {attribute.f}; a finite number is expected")
        if is_general(node, *SIGNATURES):
            _require_signature(node, SIGNATURES[node.op_type], graph.constants)
        elif not node.domain and node.op_type in KNOWN:
            try:
                onnx.checker.check_node(node, context)
            except onnx.checker.ValidationError as error:
                reason = str(error).splitlines()[0]
                raise refusal(node, f"is not what ONNX asks for: {reason}") from error


def _require_signature(node: onnx.NodeProto, signature: Signature, constants: Mapping[str, Array]) -> None:
    if len(node.input) not in signature.inputs or not all(node.input) or len(node.output) != 1:
        wanted = " or ".join(map(str, signature.inputs))
        raise refusal(node, f"has {len(node.input)} inputs and {len(node.output)} outputs; {wanted} and 1 are expected")
    given = {attribute.name: attribute for attribute in node.attribute}
    missing = [name for name in signature.required if name not in given]
    if missing:
        raise refusal(node, f"has no attribute {missing[0]!r}")
    for name, kind in {**signature.required, **signature.optional}.items():
        attribute = given.get(name)
        if attribute is not None and (attribute.type != kind or not attribute.s.isascii()):
            raise refusal(node, f"attribute {name!r} is not {WORDS[kind]}")
    for index, name in enumerate(node.input):
        value = constants.get(name)
        if value is not None and (not value.size or (index in signature.scalars and value.size != 1)):
            raise refusal(node, f"input {index} ({name!r}) holds {value.size} numbers; one is expected")
