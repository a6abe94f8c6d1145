"""The ends of a packed-int8 file run alone: all pixels, and outputs whose class an operator could mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto, helper

from bitproof.export.integer import Coding, IntegerModel, classify
from bitproof.export.onnx_int8.alone import Run
from bitproof.export.onnx_int8.ends import CLASSES, CODES, METADATA, PIXELS, codes_of_pixels, least_positive
from bitproof.export.subgraph import cut
from bitproof.pipeline import Codes
from bitproof.pipeline.ledger import ProofEntry

NAME = "onnx-int8"
MOST_PAIRS = 1 << 12
"""Of outputs that are compared; a network of more than 90 classes has more."""


def pixel_table(proto: onnx.ModelProto, run: Run) -> Codes | None:
    """Return the stored code of *proto* for each of the 256 values of a pixel, by *run*; None: it takes codes."""
    if proto.graph.input[0].name != PIXELS:
        return None
    front = cut(proto, PIXELS, CODES, source_type=TensorProto.UINT8, target_type=TensorProto.UINT8, shape=())
    return run(front, {PIXELS: np.arange(256, dtype=np.uint8)}).astype(np.int64)


def behind_pixels(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return *proto* from its codes on: what is left if codes are given instead of pixels."""
    behind = onnx.ModelProto()
    behind.CopyFrom(proto)
    if proto.graph.input[0].name != PIXELS:
        return behind
    kept = [node for node in behind.graph.node if node.output[0] not in (CODES, f"{PIXELS}.wide")]
    del behind.graph.node[:]
    behind.graph.node.extend(kept)
    behind.graph.input[0].name = CODES
    return behind


def prove_ends(model: IntegerModel, proto: onnx.ModelProto, run: Run) -> Iterator[ProofEntry]:
    """Yield the proofs of the pixels that *proto* takes and of the classes that it gives."""
    table = pixel_table(proto, run)
    if table is not None:
        described = json.loads({entry.key: entry.value for entry in proto.metadata_props}[METADATA])["input"]
        expected = codes_of_pixels(model, described["pixels"]) + int(described["zero_point"])
        wrong = np.flatnonzero(table != expected)
        yield ProofEntry(
            layer="input",
            claim=f"every pixel becomes its code (pixels: {described['pixels']})",
            method="all 256 run through the file's own operators",
            cases=256,
            holds=not len(wrong),
            actual=NAME,
            first=None if not len(wrong) else {"pixel": int(wrong[0]), "actual": int(table[wrong[0]])},
            failing=len(wrong),
        )
    if any(output.name == CLASSES for output in proto.graph.output):
        yield _classes_proof(model, proto, run)


def _classes_proof(model: IntegerModel, proto: onnx.ModelProto, run: Run) -> ProofEntry:
    """Prove that the operators of the classes agree with ``classify`` where it matters: at ties and at the ends."""
    rows = _telling_rows(model)
    output = proto.graph.output[0]
    kind = output.type.tensor_type.elem_type
    sizes = [int(size.dim_value) for size in output.type.tensor_type.shape.dim[1:]]
    part = cut(proto, output.name, CLASSES, source_type=kind, target_type=TensorProto.INT64, shape=sizes)
    del part.graph.output[0].type.tensor_type.shape.dim[1:]
    given = rows.reshape(len(rows), *sizes).astype(helper.tensor_dtype_to_np_dtype(kind))
    made, expected = run(part, {output.name: given}).reshape(-1), classify(model, rows)
    wrong = np.flatnonzero(made != expected) if made.shape == expected.shape else np.zeros(1, dtype=np.int64)
    first = None
    if len(wrong):
        first = {"row": int(wrong[0]), "expected": int(expected[wrong[0]]), "actual": int(made[wrong[0]])}
    return ProofEntry(
        layer=model.nodes[-1].name,
        claim="the class is that of the integers: of equal ones the first",
        method="the file's own operators on every pair of outputs, equal and one apart, at both ends of their range",
        cases=len(rows),
        holds=not len(wrong),
        actual=NAME,
        first=first,
        failing=len(wrong),
    )


def _telling_rows(model: IntegerModel) -> Codes:
    """Return outputs, shape (N, outputs), whose class an operator could mistake."""
    ranges = model.values[model.nodes[-1].name].ranges
    repeats = model.outputs // len(ranges)
    lows, highs = (np.repeat([getattr(reach, end) for reach in ranges], repeats) for end in ("low", "high"))
    rows = [lows, highs]
    if model.outputs == 1:
        middle = least_positive((model.output_codings or (Coding(model.output_scale),))[0], int(lows[0]), int(highs[0]))
        around = np.arange(middle - 2, middle + 3)
        rows += [np.array([code]) for code in around[(around >= lows[0]) & (around <= highs[0])]]
    pairs = [(one, two) for one in range(model.outputs) for two in range(one + 1, model.outputs)][:MOST_PAIRS]
    for one, two in pairs:
        top = min(int(highs[one]), int(highs[two]))
        for first, second in ((top, top), (top, top - 1), (top - 1, top)):
            row = lows.copy()
            row[one], row[two] = max(first, int(lows[one])), max(second, int(lows[two]))
            rows.append(row)
    return np.array(rows, dtype=np.int64)
