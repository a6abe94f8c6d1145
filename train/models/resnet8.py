"""ResNet-8 of MLPerf Tiny (Banbury et al., MLPerf Tiny Benchmark, 2021) for CIFAR-10.

A convolution of 3 x 3 with 16 channels; three stacks of 16, 32 and 64 channels, each two convolutions of 3 x 3 beside a
shortcut; the mean over height and width; the output layer. The second and third stack halve height and width, and their
shortcut is a convolution of 1 x 1 with stride 2.

Three differences from the reference: its convolutions with stride 2 pad images of even size below and right only, these
pad by 1 on all sides, which gives the same sizes; the shortcut convolutions have batch norm instead of a bias; the
second convolution of a stack and its shortcut are quantized before the sum.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from bitproof.train.models.parts import Parts, require_image, scaled

CHANNELS = (16, 16, 32, 64)


def resnet8(parts: Parts, width: float, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return the network for images of *shape* (channels, height, width), flat (N, inputs).

    *width* multiplies all numbers of channels.

    Raises:
        InputError: the data set has no images.
    """
    channels, _, _ = require_image("resnet8", shape)
    widths = [scaled(count, width) for count in CHANNELS]
    layers = [*parts.entry(), *parts.convolution(channels, widths[0], 3, padding=1), parts.activation()]
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += _stack(parts, inputs, outputs, stride=1 if number == 0 else 2)
    output = [*parts.average(), parts.output(widths[-1], classes)]
    return nn.Sequential(nn.Unflatten(1, shape), *layers, *output)


def _stack(parts: Parts, inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    branch = [
        *parts.convolution(inputs, outputs, 3, stride=stride, padding=1),
        parts.activation(),
        *parts.convolution(outputs, outputs, 3, padding=1),
    ]
    shortcut = [] if stride == 1 else parts.convolution(inputs, outputs, 1, stride=stride)
    return [parts.residual(branch, shortcut), parts.activation()]
