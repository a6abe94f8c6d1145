"""A convolutional network in the manner of LeNet (LeCun et al., 1998), quantized and in float, the layers the same.

Convolutions of 3 x 3 that keep height and width, each with batch norm and activation; between them maxima of 2 x 2;
then the layers of the perceptron. It begins by giving the flat input its shape, so that all that feed it feed
(N, inputs).
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from bitproof.pipeline.config import ModelConfig
from bitproof.train.models.blocks import (
    float_classifier,
    quantized_classifier,
    quantized_convolution,
    quantized_input,
)
from bitproof.train.models.parts import require_image


def cnn(model: ModelConfig, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return the quantized network for images of *shape* (channels, height, width).

    It takes values of shape (N, channels * height * width) in [0, 1) and returns logits of shape (N, classes).

    Raises:
        InputError: the data set has no images.
    """
    channels = _channels(model, shape)
    blocks = [
        quantized_convolution(model, number, inputs, outputs)
        for number, (inputs, outputs) in enumerate(pairwise(channels))
    ]
    layers, features = _pooled(blocks, shape, channels[-1])
    classifier = quantized_classifier(model, features, classes)
    return nn.Sequential(nn.Unflatten(1, shape), quantized_input(model), *layers, nn.Flatten(), *classifier)


def float_cnn(model: ModelConfig, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return the same network in float, the baseline that the quantized one is compared with.

    Raises:
        InputError: the data set has no images.
    """
    channels = _channels(model, shape)
    blocks: list[list[nn.Module]] = [
        [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
        for inputs, outputs in pairwise(channels)
    ]
    layers, features = _pooled(blocks, shape, channels[-1])
    return nn.Sequential(nn.Unflatten(1, shape), *layers, nn.Flatten(), *float_classifier(model, features, classes))


def _channels(model: ModelConfig, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (require_image(model.name, shape)[0], *model.channels)


def _pooled(blocks: list[list[nn.Module]], shape: tuple[int, ...], channels: int) -> tuple[list[nn.Module], int]:
    """Return *blocks* with a maximum of 2 x 2 between any two, and the number of features behind the last.

    An odd last row or column is left out of the maximum; an image of one row or column is no longer halved.
    """
    _, height, width = shape
    layers = list(blocks[0])
    for block in blocks[1:]:
        if min(height, width) > 1:
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        layers += block
    return layers, channels * height * width
