"""The integer model on disk: ``model.json`` (structure) and one ``.npy`` file per tensor, no pickle."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from fractions import Fraction
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer.ir import Coding, Head, IntegerModel, Wiring, chain_wiring
from bitproof.export.integer.ops import OPERATIONS, Node, Window
from bitproof.export.integer.types import IntegerType
from bitproof.pipeline import Codes, InputError

KIND = "integer-model"
FORMAT = 2
MAX_BYTES = 1 << 30
MAX_TYPE_BITS = 64
"""Of a type: no integer of a model is wider."""
DAMAGED = (
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    EOFError,
    MemoryError,
    RecursionError,
    SyntaxError,
    TokenError,
)
"""What reading a file raises that is not the one that was written."""
SIZES = ("kernel", "strides", "begin", "end", "dilations")


def save(model: IntegerModel, folder: Path) -> None:
    """Write *model* into the existing *folder*; the bytes depend on the model alone."""
    description = {
        "format": FORMAT,
        "name": model.name,
        "input": _type_to_json(model.input),
        "input_scale": str(model.input_scale),
        "input_codes": [model.allowed_codes.start, model.allowed_codes.stop, model.allowed_codes.step],
        "shape": list(model.shape),
        "output_scale": str(model.output_scale),
        "output_codings": [_coding_to_json(coding) for coding in model.output_codings],
        **({"heads": [[head.name, list(head.shape)] for head in model.heads]} if model.heads else {}),
        **({} if model.rounds_input else {"rounds_input": False}),
        "nodes": [{**_node_to_json(node, folder), "takes": list(sources)} for node, sources in model.wired()],
    }
    (folder / "model.json").write_text(json.dumps(description, indent=1, sort_keys=True) + "\n")


def load(folder: Path) -> IntegerModel:
    """Read the model that :func:`save` wrote into *folder*.

    Raises:
        InputError: a file is missing, too large or malformed, or the model is inconsistent.
    """
    try:
        description = json.loads((folder / "model.json").read_text())
        if description["format"] != FORMAT:
            raise InputError(f"{folder} has integer-model format {description['format']}; this version reads {FORMAT}")
        wiring: Wiring = tuple(tuple(map(str, entry["takes"])) for entry in description["nodes"])
        nodes = tuple(_node_from_json(entry, folder) for entry in description["nodes"])
        return IntegerModel(
            name=str(description["name"]),
            input=_type_from_json(description["input"]),
            input_scale=rational(description["input_scale"]),
            shape=_sizes(description["shape"]),
            nodes=nodes,
            output_scale=rational(description["output_scale"]),
            wiring=None if wiring == chain_wiring(nodes) else wiring,
            input_codes=range(*_sizes(description["input_codes"])),
            output_codings=tuple(_coding_from_json(entry) for entry in description["output_codings"]),
            heads=tuple(Head(str(name), _sizes(shape)) for name, shape in description.get("heads", ())),
            rounds_input=bool(description.get("rounds_input", True)),
        )
    except DAMAGED as error:
        raise InputError(f"{folder} does not hold an integer model: {error}") from error


def rational(text: object) -> Fraction:
    """Return the number that ``str`` made of a fraction: ``p`` or ``p/q``, no exponent, which may ask for any memory.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(text, str) or re.fullmatch(r"-?[0-9]+(/[0-9]+)?", text) is None:
        raise ValueError(f"{text!r:.100} is not a fraction such as 1/3")
    return Fraction(text)


def _coding_to_json(coding: Coding) -> list[str]:
    """Return [scale, offset], followed by [root, shift] if there is a square root."""
    numbers = [coding.scale, coding.offset, *([] if coding.root == 1 else [coding.root, coding.shift])]
    return [str(number) for number in numbers]


def _coding_from_json(entry: list[object]) -> Coding:
    scale, offset, root, shift = (rational(number) for number in (*entry, *("1", "0")[len(entry) - 2 :]))
    if root.denominator != 1:
        raise ValueError(f"{root} is not a whole number, whose square root an output coding holds")
    return Coding(scale, offset, root.numerator, shift)


def _type_to_json(kind: IntegerType) -> dict[str, Any]:
    return {"bits": kind.bits, "signed": kind.signed}


def _type_from_json(entry: Mapping[str, Any]) -> IntegerType:
    bits = int(entry["bits"])
    if bits > MAX_TYPE_BITS:
        raise ValueError(f"an integer type has at most {MAX_TYPE_BITS} bits, not {bits}")
    return IntegerType(bits, bool(entry["signed"]))


def _sizes(entry: list[Any]) -> tuple[int, ...]:
    return tuple(int(size) for size in entry)


def _mask(entry: Mapping[str, Any]) -> NDArray[np.bool_]:
    channels = int(entry["channels"])
    if not 0 <= channels <= MAX_BYTES:
        raise ValueError(f"{channels} channels; 0 to {MAX_BYTES} are read")
    mask = np.zeros(channels, dtype=np.bool_)
    mask[entry["true"]] = True
    return mask


DECODERS: Mapping[str, Callable[[Any], Any]] = {
    "int": int,
    "Shape": _sizes,
    "IntegerType": _type_from_json,
    "NDArray[np.bool_]": _mask,
    "Window": lambda entry: Window(*(_sizes(entry[name]) for name in SIZES)),
}
"""How a field of a node is read, by the name of its type; tensors (``Codes``) are files."""


def _value_to_json(value: object) -> object:
    if isinstance(value, IntegerType):
        return _type_to_json(value)
    if isinstance(value, Window):
        return {name: list(getattr(value, name)) for name in SIZES}
    if isinstance(value, np.ndarray):
        return {"channels": len(value), "true": np.flatnonzero(value).tolist()}
    return list(value) if isinstance(value, tuple) else value


def _node_to_json(node: Node, folder: Path) -> dict[str, Any]:
    entry: dict[str, Any] = {"op": node.op, "name": node.name}
    for field in fields(node):
        if field.name == "name":
            continue
        value = getattr(node, field.name)
        if field.type == "Codes":
            np.save(folder / f"{node.name}.{field.name}.npy", value, allow_pickle=False)
        else:
            entry[field.name] = _value_to_json(value)
    return entry


def _node_from_json(entry: Mapping[str, Any], folder: Path) -> Node:
    name, op = str(entry["name"]), str(entry["op"])
    if not name.replace("_", "").isalnum():
        raise InputError(f"node name {name!r} in {folder} is not an identifier")
    if op not in OPERATIONS:
        raise InputError(f"unknown operation {op!r} in {folder}; known: {', '.join(OPERATIONS)}")
    arguments = {
        field.name: _tensor(folder / f"{name}.{field.name}.npy")
        if field.type == "Codes"
        else DECODERS[str(field.type)](entry[field.name])
        for field in fields(OPERATIONS[op])
        if field.name != "name"
    }
    return OPERATIONS[op](name, **arguments)


def _tensor(path: Path) -> Codes:
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    with path.open("rb") as file:
        tensor: Codes = np.lib.format.read_array(file, allow_pickle=False)
    return tensor
