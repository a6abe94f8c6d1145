"""What a packed-int8 file says of itself in its metadata, compared with its tensors: a damaged file is refused.

It may say what no file of bitproof would: that is found when the file is opened, not by a wrong code later.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

Coding = tuple[Fraction, Fraction, Fraction, Fraction]
"""What a code stands for: ``(scale * code + offset) * sqrt(root) + shift``."""

METADATA, FORMAT = "bitproof", 1
PIXELS, CODES, CLASSES, INDICES = "pixels", "codes", "classes", ".indices"
"""Tensors of a file: images, input codes, classes; what the name of one ends with that holds indices."""
INTEGERS = ("uint8", "int8", "int32", "int64")
"""Types of the outputs."""
MAX_CODE = 1 << 40
FRACTION = re.compile(r"-?[0-9]{1,4000}(/[1-9][0-9]{0,3999})?")
PIXEL = re.compile(r"high-bits|[1-9][0-9]{0,8}(/[1-9][0-9]{0,8})?")
JSON_NAMES = {str: "text", int: "a whole number", bool: "true or false", list: "a list", type(None): "null"}


@dataclass(frozen=True, slots=True)
class Input:
    """What a file takes.

    Attributes:
        tensor: its name.
        shape: of one sample.
        kind: of its integers.
        codes: those that the network takes.
        zero_point: what is added to them in the tensor.
        scale: of one, as float32.
        pixels: the tensor holds 8-bit images.
        rounds: a real input becomes the nearest code.
    """

    tensor: str
    shape: tuple[int, ...]
    kind: type[np.int8] | type[np.uint8]
    codes: range
    zero_point: int
    scale: np.float32
    pixels: bool
    rounds: bool


@dataclass(frozen=True, slots=True)
class Outputs:
    """What a file gives.

    Attributes:
        tensors: of its integers, by name.
        heads: the names of several outputs; empty for one.
        classes: it gives those, too.
        indices: the integers are places of the largest, not numbers.
        codings: one for each integer.
    """

    tensors: tuple[str, ...]
    heads: tuple[str, ...]
    classes: bool
    indices: bool
    codings: tuple[Coding, ...]


def described(session: Any, path: str) -> tuple[Input, Outputs, list[NDArray[np.float64]]]:
    """Return what the file at *path*, loaded as *session*, says of itself, compared with its tensors.

    The third are slope and intercept of the real number of each output, and the magnitude of the intercept's terms.

    Raises:
        ValueError: nothing, or something else than this version reads.
    """
    try:
        text = session.get_modelmeta().custom_metadata_map.get(METADATA)
        if text is not None:
            held = json.loads(text)
            found = _member(held, "format", int)
            if found != FORMAT:
                raise ValueError(f"format {found}; this version reads {FORMAT}")
            outputs = _outputs(session, held)
            return _input(session, _member(held, "input")), outputs, _reals(outputs.codings)
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path} has metadata that bitproof did not write: {error}; write it again by the target onnx-int8"
        ) from error
    raise ValueError(f"{path} has no metadata of bitproof; write it again by the target onnx-int8")


def _member(held: object, key: str, *kinds: type) -> Any:
    """Return the member *key* of the JSON object *held*, which is of one of the *kinds*, if they are given."""
    if not isinstance(held, dict) or key not in held:
        raise ValueError(f"it has no {key}")
    value = held[key]
    if kinds and type(value) not in kinds:
        raise ValueError(f"{key} = {value!r:.100}; expected {' or '.join(JSON_NAMES[kind] for kind in kinds)}")
    return value


def _input(session: Any, said: object) -> Input:
    """Return what *session* takes, as *said* describes it."""
    node, *more = session.get_inputs()
    tensor, pixels = _member(said, "tensor", str), _member(said, "pixels", str, type(None))
    if pixels is not None and PIXEL.fullmatch(pixels) is None:
        raise ValueError(f"pixels = {pixels!r:.100}; expected null, high-bits or a fraction such as 1/255")
    if more or tensor != node.name or tensor != (CODES if pixels is None else PIXELS):
        raise ValueError(
            f"input.tensor = {tensor!r:.100} with pixels = {json.dumps(pixels)}; the file takes {node.name!r:.100}"
        )
    kinds: dict[str, type[np.int8] | type[np.uint8]] = {"tensor(uint8)": np.uint8}
    if pixels is None:
        kinds["tensor(int8)"] = np.int8
    if node.type not in kinds:
        raise ValueError(f"{tensor} is a {node.type}; expected {' or '.join(kinds)}")
    kind = kinds[node.type]
    codes, zero_point = _codes(said, kind)
    rounds, scale = _member(said, "rounds", bool), _member(said, "scale", str)
    with np.errstate(over="ignore"):
        real = np.float32(_float(_fraction(scale)))
    if not 0 < real < np.inf:
        raise ValueError(f"scale = {scale!r:.100}; expected a fraction that is positive and finite in float32")
    return Input(tensor, _sizes(node), kind, codes, zero_point, real, pixels is not None, rounds)


def _codes(said: object, kind: type[np.int8] | type[np.uint8]) -> tuple[range, int]:
    """Return the codes that *said* names, and what is added to them in a tensor of *kind*.

    The writer moves codes only if they do not fit as they are, and the least to 0 then; so any other number is wrong.
    """
    ends = _member(said, "codes", list)
    if len(ends) != 3 or any(type(number) is not int or abs(number) > MAX_CODE for number in ends):
        raise ValueError(f"codes = {ends!r:.100}; expected start, stop and step, whole numbers")
    start, stop, step = ends
    if step < 1 or start >= stop:
        raise ValueError(f"codes = {ends!r:.100}; expected a start below the stop, and a positive step")
    codes, zero_point, limits = range(start, stop, step), _member(said, "zero_point", int), np.iinfo(kind)
    fits = limits.min <= codes[0] and codes[-1] <= limits.max
    needed = 0 if fits or kind is np.int8 else -codes[0]
    if codes[0] + needed < limits.min or codes[-1] + needed > limits.max:
        raise ValueError(f"codes {codes[0]}..{codes[-1]} do not fit {kind.__name__}, which the file takes")
    if zero_point != needed:
        raise ValueError(
            f"zero_point = {zero_point!r:.100}; codes {codes[0]}..{codes[-1]} have {needed} in {kind.__name__}"
        )
    return codes, zero_point


def _outputs(session: Any, held: object) -> Outputs:
    """Return what *session* gives, as *held* describes it."""
    made = [node for node in session.get_outputs() if node.name != CLASSES]
    said = _member(held, "outputs", list)
    tensors = [_member(each, "tensor", str) for each in said]
    if not made or tensors != [node.name for node in made]:
        raise ValueError(f"outputs = {tensors!r:.100}; the file gives {[node.name for node in made]!r:.100}")
    heads = [_member(each, "name", str) for each in said if len(said) > 1 or "name" in each]
    for node in made:
        if node.type not in [f"tensor({kind})" for kind in INTEGERS]:
            raise ValueError(f"{node.name} is a {node.type}; expected one of {', '.join(INTEGERS)}")
    count = sum(math.prod(_sizes(node)) for node in made)
    answers = _member(held, "answers")
    indices = len(tensors) == 1 and tensors[0].endswith(INDICES)
    if answers != ("indices" if indices else "numbers"):
        raise ValueError(f"answers = {answers!r:.100}; the outputs are {'indices' if indices else 'numbers'}")
    codings = [_coding(each) for each in _member(held, "codings", list)]
    if not codings or count % len(codings):
        raise ValueError(f"{len(codings)} codings; expected one for all {count} outputs, or for each channel of them")
    each = tuple(coding for coding in codings for _ in range(count // len(codings)))
    return Outputs(tuple(tensors), tuple(heads), len(made) < len(session.get_outputs()), indices, each)


def _sizes(node: Any) -> tuple[int, ...]:
    """Return the shape of one sample of the tensor *node*, which is the same for all."""
    sizes = tuple(node.shape[1:])
    if not sizes or not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise ValueError(f"{node.name} has the shape {node.shape!r:.100}; expected N, and sizes of one sample")
    return sizes


def _coding(numbers: object) -> Coding:
    if not isinstance(numbers, list) or len(numbers) != 4:
        raise ValueError(f"a coding {numbers!r:.100}; expected scale, offset, root and shift")
    scale, offset, root, shift = map(_fraction, numbers)
    if root < 1:
        raise ValueError(f"a coding with the root {numbers[2]!r:.100}; expected at least 1")
    return scale, offset, root, shift


def _reals(codings: Sequence[Coding]) -> list[NDArray[np.float64]]:
    """Return slope, intercept, and the sum of the magnitudes of the intercept's terms, of each of *codings*.

    Raises:
        ValueError: float64 does not hold the real number of every int64.
    """
    scales, offsets, squares, shifts = np.array([[_float(number) for number in coding] for coding in codings]).T
    with np.errstate(over="ignore", invalid="ignore"):
        roots = np.sqrt(squares)
        slopes, intercepts = scales * roots, offsets * roots + shifts
        magnitudes = np.abs(offsets * roots) + np.abs(shifts)
        largest = np.abs(slopes) * 2.0**64 + magnitudes
    if not np.isfinite(largest).all():
        wrong = int(np.flatnonzero(~np.isfinite(largest))[0])
        raise ValueError(f"the coding of output {wrong} makes numbers of it that float64 does not hold")
    return [slopes, intercepts, magnitudes]


def _float(number: Fraction) -> float:
    """Return *number*, rounded; infinity for what no float64 holds."""
    try:
        return float(number)
    except OverflowError:
        return math.inf


def _fraction(text: object) -> Fraction:
    """Return the number *text*, ``p`` or ``p/q``: no exponent, which may ask for any memory.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(text, str) or FRACTION.fullmatch(text) is None:
        raise ValueError(f"{text!r:.100} is not a fraction such as 1/3")
    return Fraction(text)
