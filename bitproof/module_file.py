"""A network as its owner has it (a QONNX file, a torch module, a function with a state dict) as a QONNX file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from bitproof.pipeline.artifact import digest_of
from bitproof.pipeline.errors import ConfigError, InputError
from bitproof.pipeline.run_folder import CONFIG

if TYPE_CHECKING:
    from torch import Tensor, nn

    Network: TypeAlias = str | Path | nn.Module

EXAMPLE = "give example=, one input of the network with the batch first, for example torch.zeros(1, 1, 28, 28)"


def is_module(network: object) -> bool:
    """Tell whether *network* is a torch module; torch is not imported for that."""
    return any(kind.__module__.startswith("torch.nn.") and kind.__name__ == "Module" for kind in type(network).__mro__)


def write_module(network: nn.Module, example: Tensor | None, path: Path) -> None:
    """Export a Brevitas module to the QONNX file *path*; the module itself stays as it is, on whatever device.

    Raises:
        ConfigError: there is no example, or it is no tensor with a batch.
        InputError: the module cannot be exported; the message names the layer.
    """
    import copy

    import onnx
    import torch

    from bitproof.export.qonnx import export_network

    if example is None:
        raise ConfigError(f"a {type(network).__name__} is exported by running it: {EXAMPLE}")
    if not isinstance(example, torch.Tensor) or example.ndim < 2 or not len(example):
        found = f"shape {tuple(example.shape)}" if isinstance(example, torch.Tensor) else type(example).__name__
        raise ConfigError(f"example has {found}: {EXAMPLE}")
    try:
        trial = copy.deepcopy(network).cpu().eval()
    except Exception as error:  # a user's module may define how it is copied
        raise InputError(f"the {type(network).__name__} cannot be copied: {error}") from error
    if example.is_meta or example.layout != torch.strided or example.is_complex():
        raise ConfigError(f"example is a {example.layout} {example.dtype} tensor on {example.device}: {EXAMPLE}")
    first = example[:1].detach().to("cpu", torch.float32)
    if not first.isfinite().all():
        raise ConfigError(f"example holds numbers that are not finite: {EXAMPLE}")
    with tempfile.TemporaryDirectory(prefix="bitproof-export-") as scratch:
        model = export_network(trial, first, Path(scratch))
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    onnx.save_model(model, partial)
    partial.replace(path)


def keep_inputs(folder: Path, run: Path, write: Callable[[Path], None]) -> Path:
    """Let *write* fill a new folder in *folder*, and return it under the name of its digest.

    What an earlier run in the folder *run* was made of stays as it is, whatever comes of the new one; older folders go.

    Raises:
        BitproofError: what *write* raises; nothing of the new folder is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder))
    try:
        write(partial)
        final = folder / digest_of(partial)[:16]
        if not final.exists():
            partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        with suppress(OSError):
            folder.rmdir()  # of a first deployment that was refused: it is empty
    config = run / CONFIG
    used = config.read_text() if config.is_file() else ""
    for other in folder.iterdir():
        if other.is_dir() and other != final and other.name not in used:
            shutil.rmtree(other, ignore_errors=True)
    return final


def module_of(spec: str, weights: Path | None) -> nn.Module:
    """Return the module that the function ``FILE.py:function`` gives, with the state dict in the file *weights*.

    Raises:
        InputError: there is no such function, it gives no module, or the weights are not its.
    """
    from torch import nn

    from bitproof.train.user_code import call_user_function
    from bitproof.train.weights import load_weights

    network = call_user_function("MODEL", spec)
    if not isinstance(network, nn.Module):
        raise InputError(f"MODEL = {spec!r} gave {type(network).__name__}; it must return a torch module")
    if weights is not None:
        load_weights(network, weights)
    return network.eval()
