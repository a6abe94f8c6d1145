"""The purpose of a network: to name a class, or to give its inputs back; its loss and its score follow from that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bitproof.pipeline.config import ModelConfig
from bitproof.train.device_split import SAMPLES_AT_ONCE, SplitTensors, accuracy_percent, real_outputs
from bitproof.train.frozen import Forward
from bitproof.train.loop import Score, TrainingLoss, cross_entropy


@dataclass(frozen=True, slots=True, eq=False)
class Purpose:
    """The training *loss*, the *score* that stands for the accuracy, and what ``metrics.json`` says of that score."""

    loss: TrainingLoss
    score: Score
    metrics: Mapping[str, str]


def purpose_of(model: ModelConfig) -> Purpose:
    """Return what the network of *model* is for."""
    if model.reconstructs:
        meaning = "percent of the variance of the inputs that the outputs explain, at least 0"
        return Purpose(squared_error, explained_percent, {"accuracy_means": meaning})
    return Purpose(cross_entropy, accuracy_percent, {})


def squared_error(network: Forward, values: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared distance of the outputs of *network* from its inputs *values*; *labels* are not used."""
    del labels
    return nn.functional.mse_loss(real_outputs(network, values), values)


@torch.no_grad()
def explained_percent(network: nn.Module, split: SplitTensors) -> float:
    """Return ``100 * max(0, 1 - error / variance)`` of *split*, in evaluation mode.

    Both are sums of squares over samples and inputs: of outputs minus inputs, and of inputs minus their mean over the
    split. A split that is constant counts as explained only by its equal.
    """
    was_training = network.training
    network.eval()
    error = torch.zeros((), dtype=torch.float64, device=split.codes.device)
    for start in range(0, len(split), SAMPLES_AT_ONCE):
        values = split.values(slice(start, start + SAMPLES_AT_ONCE))
        error += (real_outputs(network, values) - values).double().square().sum()
    network.train(was_training)
    variance = _variance(split)
    if variance == 0:
        return 100.0 if float(error) == 0 else 0.0
    return 100.0 * max(0.0, 1.0 - float(error) / variance)


def _variance(split: SplitTensors) -> float:
    """Return the sum over inputs and samples of the squared distance from the mean of the input."""
    count = len(split)
    sums = split.codes.sum(dim=0, dtype=torch.int64)
    squares = sum(int(part.long().square().sum()) for part in split.codes.split(SAMPLES_AT_ONCE))
    return float(split.scale**2 * (squares - int(sums.square().sum()) / count))
