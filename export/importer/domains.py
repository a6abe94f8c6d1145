"""One domain for the operations of QONNX, whatever the tool that wrote the file called it."""

from __future__ import annotations

import onnx

from bitproof.export.importer.graph import CHANNELS_LAST, GENERAL, WorkingGraph, refusal

SYNONYMS = ("onnx.brevitas", "finn.custom_op.general", "finn", "qonnx")
"""Domains that older versions of Brevitas, FINN and qonnx wrote their operations under."""

OPERATIONS = frozenset(
    {
        "BipolarQuant",
        "FloatQuant",
        "Im2Col",
        "IntQuant",
        "MaxPoolNHWC",
        "MultiThreshold",
        "Quant",
        "QuantAvgPool2d",
        "Trunc",
        "XnorPopcountMatMul",
    }
)
"""What :data:`GENERAL` holds; no standard operation has one of these names."""

VERSIONED = "Trunc"
"""The one operation whose meaning depends on the version of its domain (qonnx 1.0: 1 and 2)."""


def unify_domains(graph: WorkingGraph) -> None:
    """Put every operation of QONNX into :data:`GENERAL`, and call IntQuant by its other name, Quant.

    Raises:
        InputError: two nodes of the versioned operation come from domains of different versions.
    """
    truncations: dict[int, onnx.NodeProto] = {}
    found = {1}
    for node in graph.nodes:
        if node.domain == "ai.onnx":
            node.domain = ""
        if node.op_type not in OPERATIONS or node.domain not in (*SYNONYMS, GENERAL, ""):
            continue
        # qonnx takes version 1 if the file does not import the domain
        version = graph.opsets.get(node.domain, 1) if node.domain else 1
        found.add(version)
        if node.op_type == VERSIONED:
            truncations[version] = node
        node.domain = GENERAL
        if node.op_type == "IntQuant":
            node.op_type = "Quant"
    if len(truncations) > 1:
        raise refusal(
            next(iter(truncations.values())),
            f"the file mixes versions {sorted(truncations)} of this operation; save it with one",
        )
    for domain in SYNONYMS:
        graph.opsets.pop(domain, None)
    graph.opsets[GENERAL] = next(iter(truncations), max(found))


def is_general(node: onnx.NodeProto, *operations: str) -> bool:
    """Tell whether *node* is one of the QONNX *operations*."""
    return node.domain == GENERAL and node.op_type in operations


def is_standard(node: onnx.NodeProto, *operations: str) -> bool:
    """Tell whether *node* is one of the standard *operations*."""
    return node.domain == "" and node.op_type in operations


def is_channels_last(node: onnx.NodeProto, *operations: str) -> bool:
    """Tell whether *node* is one of the channels-last *operations*."""
    return node.domain == CHANNELS_LAST and node.op_type in operations
