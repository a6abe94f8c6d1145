"""The ends of a packed-int8 file: what it takes, what it gives, and the metadata that says so.

A file takes codes. With *pixels* it takes 8-bit images, and makes codes of them by a table of 256 entries. It gives
integers, and with *classes* the class that they name, too. What the integers stand for is written into the metadata of
the file, where :func:`bitproof.onnx_session` reads it.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import onnx
from onnx import TensorProto, helper

from bitproof.export.integer import Coding, IntegerModel, Interval, TopK, hull
from bitproof.export.onnx_int8.graph import INT8, GraphWriter, PlainIntegers, Stored, Value, is_wide, zero_point_of
from bitproof.pipeline import Codes, StageError

CODES, PIXELS, CLASSES = "codes", "pixels", "classes"
"""Tensors of a file: input codes, images, and the classes that it gives."""
HIGH_BITS = "high-bits"
"""Pixels keep as many of their high bits as a code has, as the data sets of :command:`bitproof run` do."""
METADATA, FORMAT = "bitproof", 1


@dataclass(frozen=True, slots=True)
class Ends:
    """What a file takes and gives beside codes.

    Attributes:
        pixels: what the 256 values of a pixel stand for: a fraction, the real value of one, such as ``1/255``, or
            :data:`HIGH_BITS`. None: the file takes codes.
        classes: it gives classes, too.
    """

    pixels: str | None = None
    classes: bool = False

    def __post_init__(self) -> None:
        if self.pixels not in (None, HIGH_BITS):
            worth_of(str(self.pixels))


def worth_of(pixels: str) -> Fraction:
    """Return the real value of one of *pixels*.

    Raises:
        ValueError: it is not a positive fraction.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,8})(?:/([1-9][0-9]{0,8}))?", pixels)
    if match is None:
        raise ValueError(
            f"pixels = {pixels!r:.100} is no positive fraction: give what one of 0..255 is worth, for example 1/255, "
            f"or {HIGH_BITS}"
        )
    return Fraction(int(match[1]), int(match[2] or 1))


def codes_of_pixels(model: IntegerModel, pixels: str) -> Codes:
    """Return the input code of *model* for each of the 256 values of a pixel.

    Of a fraction: the code nearest to ``pixel * fraction / input_scale``, of two the even one, saturated.

    Raises:
        StageError: the input codes of *model* are not made so.
    """
    allowed = model.allowed_codes
    if pixels == HIGH_BITS:
        bits = len(allowed).bit_length() - 1
        if allowed != range(1 << bits) or bits > 8:
            raise StageError(f"onnx-int8: pixels = {HIGH_BITS} needs input codes 0..2^n - 1, not {_said(allowed)}")
        return np.arange(256, dtype=np.int64) >> (8 - bits)
    if allowed.step != 1:
        raise StageError(
            f"onnx-int8: pixels = {pixels} are rounded to the nearest code, but the input codes are {_said(allowed)}, "
            "which a comparison makes (BipolarQuant: 1 of every pixel, since none is negative): leave pixels out, and "
            "give those codes"
        )
    if not model.rounds_input:
        raise StageError(
            f"onnx-int8: pixels = {pixels} are rounded to the nearest code, but the network calculates with its input "
            "before it quantizes it, or rounds otherwise: declare its pixels when it is imported, by --input uint8*"
            f"{pixels}; the codes are pixels then"
        )
    ratio = worth_of(pixels) / model.input_scale
    return np.array([min(max(round(pixel * ratio), allowed[0]), allowed[-1]) for pixel in range(256)], dtype=np.int64)


def _said(allowed: range) -> str:
    return f"{allowed[0]}..{allowed[-1]}" + (f" in steps of {allowed.step}" if allowed.step != 1 else "")


def write_input(graph: GraphWriter, model: IntegerModel, ends: Ends) -> tuple[Value, onnx.ValueInfoProto, int]:
    """Return the input codes in *graph*, what the file takes, and what is added to codes outside.

    Raises:
        StageError: the pixels of *ends* do not become input codes of *model*.
    """
    allowed = model.allowed_codes
    lowest, highest = allowed[0], allowed[-1]
    shape = ["N", *model.shape]
    if ends.pixels is not None:
        zero_point = zero_point_of(lowest, highest)
        table = codes_of_pixels(model, ends.pixels) + zero_point
        if np.array_equal(table, np.arange(256)):
            graph.operation("Identity", [PIXELS], CODES)
        else:
            held = graph.constant(f"{PIXELS}.codes", table.astype(np.uint8))
            graph.operation("Gather", [held, graph.cast(PIXELS, TensorProto.INT32, f"{PIXELS}.wide")], CODES)
        taken = helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, shape)
        return Stored(CODES, zero_point), taken, zero_point
    if lowest in INT8 and highest in INT8 and lowest < 0:
        wide = PlainIntegers(graph.cast(CODES, TensorProto.INT32, f"{CODES}.signed"))
        taken = helper.make_tensor_value_info(CODES, TensorProto.INT8, shape)
        return graph.digits(wide, INT8, CODES)[0], taken, 0
    zero_point = zero_point_of(lowest, highest)
    return Stored(CODES, zero_point), helper.make_tensor_value_info(CODES, TensorProto.UINT8, shape), zero_point


def write_classes(graph: GraphWriter, model: IntegerModel, tensor: str) -> onnx.ValueInfoProto:
    """Write the class that the integers in *tensor*, shape (N, *output), name, as ``classify`` does; shape (N,).

    Raises:
        StageError: no operator compares what the integers stand for.
    """
    made = helper.make_tensor_value_info(CLASSES, TensorProto.INT64, ["N"])
    codings = model.output_codings or (Coding(model.output_scale),)
    row = graph.constant(f"{CLASSES}.row", np.array([0, -1], dtype=np.int64))
    reach = hull(model.values[model.nodes[-1].name].ranges)
    wide = is_wide(Interval(reach.low - 1, reach.high + 1))
    cast = graph.cast(tensor, TensorProto.INT64 if wide else TensorProto.INT32, f"{CLASSES}.integers")
    flat = graph.operation("Reshape", [cast, row], f"{CLASSES}.flat")
    if isinstance(model.nodes[-1], TopK):
        first = graph.operation("Gather", [flat, graph.integer(0)], f"{CLASSES}.first", axis=1)
        graph.cast(first, TensorProto.INT64, CLASSES)
    elif model.outputs == 1:
        outermost = least_positive(codings[0], reach.low, reach.high)
        op, at = ("Less", outermost + 1) if codings[0].slope.sign() < 0 else ("GreaterOrEqual", outermost)
        met = graph.operation(op, [flat, graph.integer(at, wide=wide)], f"{CLASSES}.positive")
        line = graph.constant(f"{CLASSES}.line", np.array([-1], dtype=np.int64))
        graph.operation("Reshape", [graph.cast(met, TensorProto.INT64, f"{CLASSES}.column"), line], CLASSES)
    elif len(set(codings)) == 1 and codings[0].scale > 0:
        graph.operation("ArgMax", [flat], CLASSES, axis=1, keepdims=0)
    else:
        raise StageError(
            "onnx-int8: the outputs have scales or biases of their own, so that the largest integer is not the class; "
            "leave classes out: bitproof.onnx_session compares them exactly"
        )
    return made


def least_positive(coding: Coding, low: int, high: int) -> int:
    """Return the outermost code in *low*..*high* whose real number is positive: the least of a rising *coding*.

    Of a falling one the largest; the code behind the end if none is.
    """
    rises = coding.slope.sign() >= 0

    def is_positive(code: int) -> bool:
        return (coding.slope * code + coding.intercept).sign() > 0

    first, last = (low, high + 1) if rises else (low - 1, high)
    while first < last:  # the least positive of rising numbers, the largest of falling ones
        middle = (first + last + (0 if rises else 1)) // 2
        if is_positive(middle):
            first, last = (first, middle) if rises else (middle, last)
        else:
            first, last = (middle + 1, last) if rises else (first, middle - 1)
    return first


def describe_ends(model: IntegerModel, ends: Ends, shift: int, proto: onnx.ModelProto) -> str:
    """Return the metadata of the file *proto* of *model*; *shift* is added to codes outside."""
    allowed = model.allowed_codes
    codings = model.output_codings or (Coding(model.output_scale),)
    last = model.nodes[-1]
    outputs = [
        {"tensor": output.name, **({"name": head.name} if head else {})}
        for output, head in zip(
            (output for output in proto.graph.output if output.name != CLASSES), model.heads or (None,), strict=True
        )
    ]
    taken = {
        "tensor": proto.graph.input[0].name,
        "codes": [allowed.start, allowed.stop, allowed.step],
        "scale": str(model.input_scale),
        "zero_point": shift,
        "pixels": ends.pixels,
        "rounds": model.rounds_input,
    }
    described = {
        "format": FORMAT,
        "network": model.name,
        "input": taken,
        "outputs": outputs,
        "codings": [[str(number) for number in (c.scale, c.offset, Fraction(c.root), c.shift)] for c in codings],
        "answers": "indices" if isinstance(last, TopK) else "numbers",
    }
    return json.dumps(described, sort_keys=True, separators=(",", ":"))
