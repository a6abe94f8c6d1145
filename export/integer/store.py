"""The integer model on disk: ``model.json`` (structure) and one ``.npy`` file a tensor, no pickle."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from export.integer.ir import Bias, IntegerModel, IntegerType, MatMul, Node, Threshold
from pipeline import Codes, InputError

KIND = "integer-model"
FORMAT = 1
MAX_BYTES = 1 << 30


def save(model: IntegerModel, folder: Path) -> None:
    """Write *model* into the existing *folder*; the bytes depend on the model alone."""
    description = {
        "format": FORMAT,
        "name": model.name,
        "input": _type_to_json(model.input),
        "input_scale": str(model.input_scale),
        "inputs": model.inputs,
        "output_scale": str(model.output_scale),
        "nodes": [_node_to_json(node) for node in model.nodes],
    }
    for node in model.nodes:
        np.save(folder / f"{node.name}.npy", _tensor(node), allow_pickle=False)
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
        return IntegerModel(
            name=str(description["name"]),
            input=_type_from_json(description["input"]),
            input_scale=Fraction(description["input_scale"]),
            inputs=int(description["inputs"]),
            nodes=tuple(_node_from_json(entry, folder) for entry in description["nodes"]),
            output_scale=Fraction(description["output_scale"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder} does not hold an integer model: {error}") from error


def _type_to_json(kind: IntegerType) -> dict[str, Any]:
    return {"bits": kind.bits, "signed": kind.signed}


def _type_from_json(entry: dict[str, Any]) -> IntegerType:
    return IntegerType(int(entry["bits"]), bool(entry["signed"]))


def _tensor(node: Node) -> Codes:
    if isinstance(node, MatMul):
        return node.weights
    return node.offsets if isinstance(node, Bias) else node.thresholds


def _node_to_json(node: Node) -> dict[str, Any]:
    if isinstance(node, MatMul):
        return {"op": "matmul", "name": node.name, "type": _type_to_json(node.weight_type)}
    if isinstance(node, Bias):
        return {"op": "bias", "name": node.name}
    return {
        "op": "threshold",
        "name": node.name,
        "type": _type_to_json(node.output),
        "lowest": node.lowest,
        "flipped": np.flatnonzero(node.flipped).tolist(),
    }


def _node_from_json(entry: dict[str, Any], folder: Path) -> Node:
    name = str(entry["name"])
    if not name.replace("_", "").isalnum():
        raise InputError(f"node name {name!r} in {folder} is not an identifier")
    path = folder / f"{name}.npy"
    if path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} has {path.stat().st_size} bytes; at most {MAX_BYTES} are read")
    tensor = np.load(path, allow_pickle=False)
    if entry["op"] == "bias":
        return Bias(name, tensor)
    kind = _type_from_json(entry["type"])
    if entry["op"] == "matmul":
        return MatMul(name, tensor, kind)
    if entry["op"] == "threshold":
        flipped = np.zeros(len(tensor), dtype=np.bool_)
        flipped[entry["flipped"]] = True
        return Threshold(name, tensor, kind, int(entry["lowest"]), flipped)
    raise InputError(f"unknown operation {entry['op']!r} in {folder}; known: matmul, threshold, bias")
