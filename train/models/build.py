"""Find the function that builds a network: built in, or in a file of the user's."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

from torch import nn

from pipeline import InputError
from pipeline.config import ModelConfig
from train.models.mlp import float_mlp, mlp

Builder = Callable[[ModelConfig, int, int], nn.Module]


def build(model: ModelConfig, inputs: int, classes: int) -> nn.Module:
    """Return the quantized network that *model* asks for, untrained.

    Raises:
        InputError: ``model.name`` names a file or a function that is not there, or it returns no ``nn.Module``.
    """
    builder = mlp if model.name == "mlp" else _from_file(model.name)
    network = builder(model, inputs, classes)
    if not isinstance(network, nn.Module):
        raise InputError(
            f"model.name = {model.name!r} returned {type(network).__name__}; it must return a torch nn.Module"
        )
    return network


def build_float(model: ModelConfig, inputs: int, classes: int) -> nn.Module:
    """Return the float baseline; a model of the user's is compared with a float perceptron of the same widths."""
    return float_mlp(model, inputs, classes)


def _from_file(name: str) -> Builder:
    """Load ``path/to/file.py:function`` by path; nothing is added to ``sys.path``."""
    file, _, function = name.rpartition(":")
    path = Path(file)
    spec = importlib.util.spec_from_file_location(f"bitproof_user_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"model.name = {name!r}: {path.absolute()} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, ImportError) as error:
        raise InputError(f"model.name = {name!r}: {path} cannot be imported: {error}") from error
    builder = getattr(module, function, None)
    if not callable(builder):
        known = ", ".join(key for key, value in vars(module).items() if callable(value) and not key.startswith("_"))
        raise InputError(f"model.name = {name!r}: {path} has no function {function!r}; it has {known or 'none'}")
    return builder  # type: ignore[no-any-return]  # what a user's file holds is known at run time only
