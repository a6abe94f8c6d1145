"""The origins of an integer model's nodes: the tensors of the QONNX file that they equal; ``origins.json``."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitproof.export.integer import DAMAGED, rational
from bitproof.export.lowering.builder import Origin
from bitproof.export.lowering.graph import Span
from bitproof.export.lowering.lower import Lowered
from bitproof.pipeline import InputError

ORIGINS = "origins.json"


@dataclass(frozen=True, slots=True)
class Origins:
    """What an executor of the QONNX file needs to know about the integer model made from it.

    Attributes:
        input: the tensor that holds the input codes, times the input scale.
        output: the tensor that the output codes stand for.
        nodes: for each node that equals a tensor of the file, which.
        spans: for each activation the part of the file that it stands for.
        dropped: names and operations of nodes at the end that were left out.
    """

    input: str
    output: str
    nodes: dict[str, Origin]
    spans: dict[str, Span]
    dropped: tuple[tuple[str, str], ...]


def origins_of(lowered: Lowered) -> Origins:
    """Return the origins of a model that was just lowered."""
    return Origins(lowered.input, lowered.output, lowered.origins, lowered.spans, lowered.dropped)


def save_origins(lowered: Lowered, folder: Path) -> None:
    """Write ``origins.json`` into the existing *folder*."""
    content = {
        "input": lowered.input,
        "output": lowered.output,
        "dropped": [list(pair) for pair in lowered.dropped],
        "spans": {name: [span.source, span.target] for name, span in lowered.spans.items()},
        "nodes": {name: _to_json(origin) for name, origin in lowered.origins.items()},
    }
    (folder / ORIGINS).write_text(json.dumps(content, indent=1, sort_keys=True) + "\n")


def load_origins(folder: Path) -> Origins:
    """Read what :func:`save_origins` wrote.

    Raises:
        InputError: the file is missing or malformed.
    """
    path = folder / ORIGINS
    try:
        content = json.loads(path.read_text())
        return Origins(
            input=str(content["input"]),
            output=str(content["output"]),
            nodes={str(name): _from_json(entry) for name, entry in content["nodes"].items()},
            spans={str(name): Span(str(s), str(t)) for name, (s, t) in content["spans"].items()},
            dropped=tuple((str(name), str(op)) for name, op in content["dropped"]),
        )
    except DAMAGED as error:
        raise InputError(f"{path} is damaged: {error}; run 'bitproof run' again") from error


def _to_json(origin: Origin) -> dict[str, Any]:
    return {
        "tensor": origin.tensor,
        "axes": list(origin.axes),
        "scales": [str(scale) for scale in origin.scales],
        "offsets": [str(offset) for offset in origin.offsets],
    }


def _from_json(entry: dict[str, Any]) -> Origin:
    return Origin(
        str(entry["tensor"]),
        tuple(int(axis) for axis in entry["axes"]),
        tuple(rational(scale) for scale in entry["scales"]),
        tuple(rational(offset) for offset in entry["offsets"]),
    )
