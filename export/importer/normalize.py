"""One form for QONNX files of any origin: what is done here is exact, and what has a meaning is never dropped.

A normalized file

* has one input of float values, the batch ``N`` first, and one output; every constant is an initializer; several
  outputs are flattened and joined (:mod:`bitproof.export.importer.join_heads`);
* has no Constant, Identity or inference-time Dropout node, no Cast between floats, no node without effect;
* has the operations of QONNX in one domain, ``qonnx.custom_op.general``, with Quant for IntQuant, and standard
  operations in the form of opset 20 or later: axes, pads and bounds are inputs;
* is channels-first: channels-last operations stand between two Transposes;
* computes no shape while it runs: a Reshape has a constant shape with the batch left open;
* has explicit pads if the sizes are known, and no Transpose or Reshape between weights and their quantizer.

Names of types that FINN notes beside tensors are dropped: they describe values and do not change them.

What has no such form stays as it is: the lowering lists it with everything else that it does not support.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bitproof.export.importer.domains import unify_domains
from bitproof.export.importer.graph import WorkingGraph
from bitproof.export.importer.join_heads import note_heads
from bitproof.export.importer.read import drop_dead, read
from bitproof.export.importer.resolve import Walk
from bitproof.export.importer.shapes import BATCH, Shape
from bitproof.export.importer.signatures import require_well_formed
from bitproof.pipeline import InputError

IR_VERSION = 10
MAX_NODES = 2_500
"""Once constants and shapes are worked out; ResNet-152 has about 1,200."""


def normalize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the normalized form of *model*, which is not edited; equal models give equal bytes.

    Raises:
        InputError: the model is malformed, or holds something that cannot be represented; the message names it.
    """
    own = onnx.ModelProto()
    own.CopyFrom(model)
    graph = read(own)
    unify_domains(graph)
    walk = Walk(graph)
    walk.run()
    drop_dead(graph)
    if len(graph.nodes) > MAX_NODES:
        raise InputError(
            f"the network has {len(graph.nodes)} nodes once its constants and shapes are worked out; at most "
            f"{MAX_NODES} are run: the time of qonnx, by which the file is run, grows with the square of their number"
        )
    require_well_formed(graph)
    if not any(graph.input.name in node.input for node in graph.nodes):
        raise InputError(f"the output {graph.output.name!r} does not depend on the input")
    written = _write(graph, walk.shapes)
    note_heads(written, graph, walk.shapes, walk.aliases)
    return written


def _write(graph: WorkingGraph, shapes: dict[str, Shape]) -> onnx.ModelProto:
    used = dict.fromkeys(name for node in graph.nodes for name in node.input if name in graph.constants)
    for node in graph.nodes:
        node.doc_string = ""
        del node.metadata_props[:]
        # the order of attributes has no meaning
        attributes = sorted(node.attribute, key=lambda attribute: attribute.name)
        del node.attribute[:]
        node.attribute.extend(attributes)
        for attribute in node.attribute:
            attribute.doc_string = ""
    source = [size if isinstance(size, int) else BATCH for size in shapes[graph.input.name]]
    inner = helper.make_graph(
        graph.nodes,
        "network",
        [helper.make_tensor_value_info(graph.input.name, TensorProto.FLOAT, source)],
        [_output(graph, shapes)],
        [
            numpy_helper.from_array(
                np.ascontiguousarray(graph.constants[name]).reshape(graph.constants[name].shape), name
            )
            for name in used
        ],
    )
    domains = {"", *(node.domain for node in graph.nodes)}
    opsets = [helper.make_opsetid(domain, graph.opsets.get(domain, 1)) for domain in sorted(domains)]
    return helper.make_model(inner, opset_imports=opsets, ir_version=IR_VERSION, producer_name="bitproof")


def _output(graph: WorkingGraph, shapes: dict[str, Shape]) -> onnx.ValueInfoProto:
    """Return the output with its inferred shape, or with the file's, its first axis left open."""
    kind = graph.output.type.tensor_type
    declared = [d.dim_value if d.dim_value > 0 else None for d in kind.shape.dim]
    shape = shapes.get(graph.output.name)
    sizes = list(shape) if shape is not None else [BATCH, *declared[1:]] if declared else None
    elem_type = kind.elem_type or TensorProto.FLOAT
    return helper.make_tensor_value_info(graph.output.name, elem_type, sizes)
