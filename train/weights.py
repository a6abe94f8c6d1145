"""A state dict that exists already, put into a user's network: read without running code of the file."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from bitproof.pipeline import InputError
from bitproof.train.checkpoint import READING_ERRORS

MAX_BYTES = 1 << 32
NAMED = 5
"""So many keys are named in a message."""


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the state dict in the file *path*, as ``torch.save(network.state_dict(), path)`` wrote it, into *network*.

    Raises:
        InputError: it is missing, too large, no state dict of finite numbers, or not one of this network; the message
            names the keys that are missing, unexpected, or of another shape.
    """
    try:
        size = path.stat().st_size if path.is_file() else 0
        if not 0 < size <= MAX_BYTES:
            what = f"has {size} bytes" if path.is_file() else "is not a file"
            raise InputError(f"{path} {what}; a state dict of 1 to {MAX_BYTES} bytes is read")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except READING_ERRORS as error:
        raise InputError(
            f"{path} is not a state dict: {error}. Write it by torch.save(network.state_dict(), PATH); a whole module "
            "is not read, since reading one runs code of the file"
        ) from error
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise InputError(f"{path} holds {type(content).__name__}; a state dict maps names to tensors")
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    others = [key for key in content if key not in tensors]
    if others:
        raise InputError(
            f"{path} holds {_named(others)}, which is no tensor; if the state dict is one entry of a checkpoint, save "
            "that entry alone"
        )
    odd = [key for key, value in tensors.items() if not _is_plain(value)]
    if odd:
        raise InputError(
            f"{path}: {_named(odd)} is not a dense tensor of real numbers or integers that are all in the file (it is "
            "sparse, nested, quantized, complex, without data, or one number spread out); save its plain values"
        )
    infinite = [key for key, value in tensors.items() if value.is_floating_point() and not value.isfinite().all()]
    if infinite:
        raise InputError(f"{path}: {_named(infinite)} holds numbers that are not finite; train again")
    expected = network.state_dict()
    problems = [
        f"{key} has the shape {tuple(tensors[key].shape)}, the network {tuple(value.shape)}"
        for key, value in expected.items()
        if key in tensors and tensors[key].shape != value.shape
    ]
    if not problems:  # brevitas takes keys that its layers do not have yet: scales that a training found
        found = network.load_state_dict(tensors, strict=False)
        for what, keys in (("missing", found.missing_keys), ("unexpected", found.unexpected_keys)):
            problems += [f"{what}: {_named(keys)}"] if keys else []
    if problems:
        raise InputError(f"{path} is not a state dict of this network:\n  " + "\n  ".join(problems))


def _is_plain(value: Tensor) -> bool:
    """Tell whether *value* is dense, real and not quantized, and has as many numbers as it says."""
    if value.layout != torch.strided or value.is_nested or value.is_quantized or value.is_meta or value.is_complex():
        return False
    needed: int = value.numel() * value.element_size()
    return needed <= int(value.untyped_storage().nbytes())


def _named(keys: list[str]) -> str:
    more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
    return ", ".join(keys[:NAMED]) + more
