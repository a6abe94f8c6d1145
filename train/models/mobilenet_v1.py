"""MobileNetV1 (Howard et al., 2017) at a quarter of its width, as MLPerf Tiny has it for Visual Wake Words.

A convolution of 3 x 3 with stride 2, then thirteen blocks, each a depthwise convolution of 3 x 3 and one of 1 x 1; the
mean over height and width; the output layer. The reference has images of 96 x 96 and two classes.

The reference's convolutions with stride 2 pad images of even size below and right only; these pad by 1 on all sides,
which gives the same sizes.
"""

from __future__ import annotations

from torch import nn

from bitproof.train.models.ds_cnn import separable
from bitproof.train.models.parts import Parts, require_image, scaled

FIRST = 32
BLOCKS = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1)),
    *((512, 2), (512, 1), (512, 1), (512, 1), (512, 1), (512, 1), (1024, 2), (1024, 1)),
)
"""Channels and stride of each block, at width 1."""


def mobilenet_v1(parts: Parts, width: float, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return the network for images of *shape* (channels, height, width), flat (N, inputs).

    *width* multiplies all numbers of channels; that of MLPerf Tiny is 0.25.

    Raises:
        InputError: the data set has no images.
    """
    inputs, _, _ = require_image("mobilenet-v1", shape)
    channels = scaled(FIRST, width)
    layers = [*parts.entry(), *parts.convolution(inputs, channels, 3, stride=2, padding=1), parts.activation()]
    for count, stride in BLOCKS:
        layers += separable(parts, channels, scaled(count, width), stride)
        channels = scaled(count, width)
    return nn.Sequential(nn.Unflatten(1, shape), *layers, *parts.average(), parts.output(channels, classes))
