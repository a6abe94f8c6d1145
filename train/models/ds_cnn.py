"""DS-CNN of MLPerf Tiny (Zhang et al., Hello Edge: Keyword Spotting on Microcontrollers, 2017) for spoken words.

A convolution of 10 x 4 with 64 channels and stride 2; four blocks, each a depthwise convolution of 3 x 3 and one of
1 x 1; the mean over time and bands; the output layer. The reference has 49 frames of 10 bands; other sizes work, too.

The first convolution is padded as in the reference, whose "same" padding has one row more below than above if the
sum is odd: an explicit ``nn.ZeroPad2d``. The exporter turns it into the ``pads`` of the Conv behind it.
"""

from __future__ import annotations

from torch import nn

from bitproof.train.models.parts import Parts, require_image, scaled

CHANNELS = 64
BLOCKS = 4
KERNEL = (10, 4)
STRIDE = 2


def ds_cnn(parts: Parts, width: float, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Return the network for spectrograms of *shape* (channels, frames, bands), flat (N, inputs).

    *width* multiplies the number of channels.

    Raises:
        InputError: the data set has no such shape.
    """
    inputs, frames, bands = require_image("ds-cnn", shape)
    channels = scaled(CHANNELS, width)
    padding = nn.ZeroPad2d((*same_padding(bands, KERNEL[1], STRIDE), *same_padding(frames, KERNEL[0], STRIDE)))
    layers = [*parts.entry(), padding, *parts.convolution(inputs, channels, KERNEL, stride=STRIDE), parts.activation()]
    for _ in range(BLOCKS):
        layers += separable(parts, channels, channels)
    return nn.Sequential(nn.Unflatten(1, shape), *layers, *parts.average(), parts.output(channels, classes))


def separable(parts: Parts, inputs: int, outputs: int, stride: int = 1) -> list[nn.Module]:
    """Return a depthwise convolution of 3 x 3, padded by 1, and one of 1 x 1, each with its activation."""
    depthwise = [*parts.convolution(inputs, inputs, 3, stride=stride, padding=1, groups=inputs), parts.activation()]
    return [*depthwise, *parts.convolution(inputs, outputs, 1), parts.activation()]


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the zeros before and behind *size* places that give ceil(size / stride) outputs, TensorFlow's "same".

    >>> same_padding(49, 10, 2)
    (4, 5)
    """
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2
