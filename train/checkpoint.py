"""The trained network in a file: its configuration and its state, readable without running code of the file's."""

from __future__ import annotations

import math
import pickle
import struct
from pathlib import Path

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from bitproof.pipeline import Artifact, InputError
from bitproof.pipeline.config import ModelConfig
from bitproof.train.models import build

FILE = "checkpoint.pt"
FORMAT = 1
READING_ERRORS = (
    *(OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError, struct.error),
    *(LookupError, AssertionError, TypeError, AttributeError),
)
"""What ``torch.load`` raises on files that are damaged; found by mutating them."""


def save_checkpoint(network: nn.Module, model: ModelConfig, shape: tuple[int, ...], classes: int, folder: Path) -> None:
    """Write ``checkpoint.pt``; the same network gives the same bytes. *shape* is that of one sample."""
    content = {
        "format": FORMAT,
        "model": model.model_dump(mode="json"),
        "inputs": math.prod(shape),
        "shape": list(shape),
        "classes": classes,
        "state": {key: value.detach().cpu().clone() for key, value in network.state_dict().items()},
    }
    torch.save(content, folder / FILE)


def load_network(artifact: Artifact) -> tuple[nn.Module, int]:
    """Return the trained network of *artifact* in evaluation mode, on the CPU, and its number of inputs.

    Raises:
        InputError: the file is damaged, of another format, or does not fit the architecture that it names.
    """
    path = artifact.path / FILE
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except READING_ERRORS as error:
        raise InputError(f"{path} is not a checkpoint: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else type(content).__name__
        raise InputError(f"{path} has format {found!r}; this version reads format {FORMAT}. Train again")
    try:
        model = ModelConfig.model_validate(content["model"])
        inputs, classes, state = int(content["inputs"]), int(content["classes"]), dict(content["state"])
        shape = tuple(int(size) for size in content.get("shape", [inputs]))  # older files know flat inputs only
    except (KeyError, TypeError, ValueError, ValidationError) as error:
        raise InputError(f"{path} is not a checkpoint: {error}") from error
    for key, value in state.items():
        if not isinstance(value, Tensor) or not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: {key} is not a tensor of finite numbers; train again")
    if math.prod(shape) != inputs:
        raise InputError(f"{path}: a sample of shape {shape} has not {inputs} inputs; train again")
    network = build(model, inputs, classes, shape)
    try:
        network.load_state_dict(state)
    except (RuntimeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} does not fit the model that it names ({model}): {error}") from error
    network.eval()
    return network, inputs
