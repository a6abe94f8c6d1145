"""The fully connected autoencoder of MLPerf Tiny (Koizumi et al., DCASE 2020 task 2) for anomalies in sound.

Four linear layers of 128, one of 8, four of 128, and the output layer, a plain matrix product that gives the inputs
back: how badly it does so tells an anomaly. The reference has 640 inputs.
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn

from bitproof.train.models.parts import Parts, scaled

HIDDEN = (128, 128, 128, 128, 8, 128, 128, 128, 128)


def autoencoder(parts: Parts, width: float, inputs: int) -> nn.Module:
    """Return the network, values of shape (N, inputs) in [0, 1) to values of the same shape.

    *width* multiplies the number of units of every hidden layer.
    """
    widths = (inputs, *(scaled(count, width) for count in HIDDEN))
    layers = [layer for inputs, outputs in pairwise(widths) for layer in parts.linear(inputs, outputs)]
    return nn.Sequential(*parts.entry(), *layers, parts.output(widths[-1], widths[0]))
