"""The builder of the network that a configuration names: a built-in one, or a function in a user's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from bitproof.pipeline import InputError
from bitproof.pipeline.config import FIXED_SHAPES, ModelConfig
from bitproof.pipeline.user_files import file_of, where_raised
from bitproof.train.models.autoencoder import autoencoder
from bitproof.train.models.cnn import cnn, float_cnn
from bitproof.train.models.cnv import cnv
from bitproof.train.models.ds_cnn import ds_cnn
from bitproof.train.models.mlp import float_mlp, mlp
from bitproof.train.models.mobilenet_v1 import mobilenet_v1
from bitproof.train.models.parts import FloatParts, Parts, QuantizedParts
from bitproof.train.models.resnet8 import resnet8
from bitproof.train.user_code import call_user_function

CLASSIFIERS: Mapping[str, Callable[[Parts, float, tuple[int, ...], int], nn.Module]] = {
    "cnv": cnv,
    "resnet8": resnet8,
    "ds-cnn": ds_cnn,
    "mobilenet-v1": mobilenet_v1,
}


def build(model: ModelConfig, inputs: int, classes: int, shape: tuple[int, ...] | None = None) -> nn.Module:
    """Return the quantized network that *model* asks for, untrained.

    It takes values of shape (N, inputs) and returns logits of shape (N, classes), an ``autoencoder`` values of shape
    (N, inputs); *shape* is that of one sample, ``(inputs,)`` if it is not given. A user's function is called as
    ``function(model, inputs, classes)``.

    Raises:
        InputError: ``model.name`` names a file or a function that is not there, or it returns no ``nn.Module``; or the
            network needs images and *shape* is not that of one.
    """
    if model.name == "mlp":
        return mlp(model, inputs, classes)
    if model.name == "cnn":
        return cnn(model, shape or (inputs,), classes)
    if model.name in FIXED_SHAPES:
        return _of_fixed_shape(model, QuantizedParts(model), inputs, classes, shape)
    network = call_user_function("model.name", model.name, model, inputs, classes)
    if not isinstance(network, nn.Module):
        raise InputError(
            f"model.name = {model.name!r} returned {type(network).__name__}; it must return a torch nn.Module"
        )
    return network


def build_float(model: ModelConfig, inputs: int, classes: int, shape: tuple[int, ...] | None = None) -> nn.Module:
    """Return the float baseline; a user's model is compared with a float perceptron of the same widths.

    Raises:
        InputError: the network needs images and *shape* is not that of one.
    """
    if model.name == "cnn":
        return float_cnn(model, shape or (inputs,), classes)
    if model.name in FIXED_SHAPES:
        return _of_fixed_shape(model, FloatParts(model), inputs, classes, shape)
    return float_mlp(model, inputs, classes)


def _of_fixed_shape(
    model: ModelConfig, parts: Parts, inputs: int, classes: int, shape: tuple[int, ...] | None
) -> nn.Module:
    if model.name == "autoencoder":
        return autoencoder(parts, model.width_factor, inputs)
    return CLASSIFIERS[model.name](parts, model.width_factor, shape or (inputs,), classes)


def require_logits(name: str, network: Callable[[Tensor], object], inputs: int, classes: int) -> None:
    """Run a user's *network* once, so that what is wrong with it is said before training.

    Raises:
        InputError: it raises, or does not give a tensor of shape (N, *classes*) for one of shape (N, *inputs*).
    """
    try:
        with torch.no_grad():
            outputs = network(torch.zeros(2, inputs))
    except (Exception, SystemExit) as error:
        file = file_of(name)
        folder = None if file is None else file.parent
        raise InputError(f"model.name = {name!r}: its forward pass raised {where_raised(error, folder)}") from error
    shape = tuple(getattr(outputs, "shape", ()))
    if shape != (2, classes):
        raise InputError(
            f"model.name = {name!r} gave {type(outputs).__name__} of shape {shape} for values of shape (2, {inputs}); "
            f"it must give logits of shape (2, {classes})"
        )
