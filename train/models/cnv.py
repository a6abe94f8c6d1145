"""CNV, the VGG-like network of FINN (Umuroglu et al., FINN, 2017) for images of 32 x 32.

Six convolutions of 3 x 3 without padding, two by two of 64, 128 and 256 channels, with maxima of 2 x 2 behind the first
two pairs; then two linear layers of 512 and the output layer.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from bitproof.train.models.parts import Parts, require_image, scaled

CHANNELS = (64, 64, 128, 128, 256, 256)
POOLED_BEHIND = (1, 3)
HIDDEN = (512, 512)
LEAST = 32
"""Rows and columns of the smallest image of which something is left behind the last convolution."""


def cnv(parts: Parts, width: float, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return the network for images of *shape* (channels, height, width), 32 x 32 or more, flat (N, inputs).

    *width* multiplies all numbers of channels and of hidden units.

    Raises:
        InputError: the data set has no images, or they are too small.
    """
    channels, rows, columns = require_image("cnv", shape, LEAST)
    widths = (channels, *(scaled(count, width) for count in CHANNELS))
    layers: list[nn.Module] = []
    for number, (inputs, outputs) in enumerate(pairwise(widths)):
        layers += [*parts.convolution(inputs, outputs, 3), parts.activation()]
        rows, columns = rows - 2, columns - 2
        if number in POOLED_BEHIND:
            layers.append(nn.MaxPool2d(2))
            rows, columns = rows // 2, columns // 2
    hidden = (widths[-1] * rows * columns, *(scaled(count, width) for count in HIDDEN))
    classifier = [layer for inputs, outputs in pairwise(hidden) for layer in parts.linear(inputs, outputs)]
    output = parts.output(hidden[-1], classes)
    return nn.Sequential(nn.Unflatten(1, shape), *parts.entry(), *layers, nn.Flatten(), *classifier, output)
