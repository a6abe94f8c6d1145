"""Small networks and data sets to train in tests; importable by the processes that a test starts."""

from __future__ import annotations

from dataclasses import replace

import brevitas.nn as qnn
import torch
from brevitas.quant import Uint8ActPerTensorFixedPoint
from torch import Tensor, nn

from bitproof.train.device_split import DatasetTensors, SplitTensors
from bitproof.train.frozen import Forward
from bitproof.train.loop import Task, cross_entropy
from bitproof.train.quantizers import InputQuantizer, weight_quantizer

INPUTS, CLASSES, STATISTICS_STEPS = 12, 4, 5
WEIGHTS = weight_quantizer(2, "power-of-two", "tensor")


def made_up_dataset(samples: int = 96, seed: int = 0) -> DatasetTensors:
    """Return random codes whose label is the largest of four random linear functions of them."""
    generator = torch.Generator().manual_seed(seed)
    rule = torch.randn(INPUTS, CLASSES, generator=generator)

    def split(size: int) -> SplitTensors:
        codes = torch.randint(0, 256, (size, INPUTS), generator=generator, dtype=torch.uint8)
        return SplitTensors(codes, ((codes.float() - 127.5) @ rule).argmax(dim=1), 2.0**-8)

    return DatasetTensors(split(samples), split(32), split(32), INPUTS, (INPUTS,), CLASSES)


def quantized_network(*, norm: bool = True, dropout: float = 0.25) -> nn.Module:
    """Return a network with weights of 2 bits whose activations collect their statistics for a few steps only."""
    layers = [
        qnn.QuantIdentity(act_quant=InputQuantizer, return_quant_tensor=True),
        qnn.QuantLinear(INPUTS, 8, bias=False, weight_quant=WEIGHTS),
        *([nn.BatchNorm1d(8)] if norm else []),
        *([nn.Dropout(dropout)] if dropout else []),
        qnn.QuantReLU(act_quant=Uint8ActPerTensorFixedPoint, bit_width=4, return_quant_tensor=True),
        qnn.QuantLinear(8, CLASSES, bias=False, weight_quant=WEIGHTS),
    ]
    network = nn.Sequential(*layers)
    for module in network.modules():
        if hasattr(module, "collect_stats_steps"):
            module.collect_stats_steps = STATISTICS_STEPS
    return network


def quantized_task(*, seed: int = 0, norm: bool = True, dropout: float = 0.25) -> Task:
    """Return such a network on such data, its weights drawn by *seed*."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = quantized_network(norm=norm, dropout=dropout)
    weights = [module for module in network if isinstance(module, qnn.QuantLinear)]
    return Task("quantized", network, made_up_dataset(), weights)


def moved(task: Task, device: torch.device) -> Task:
    """Return *task* with its data on *device*; the network follows when it is trained."""

    def on_device(split: SplitTensors) -> SplitTensors:
        return replace(split, codes=split.codes.to(device), labels=split.labels.to(device))

    whole = task.dataset
    train, validation, test = map(on_device, (whole.train, whole.validation, whole.test))
    return replace(task, dataset=replace(whole, train=train, validation=validation, test=test))


def ready_task(*, seed: int = 0) -> Task:
    """Return a task without batch norm and dropout, whose quantizers have collected their statistics and are frozen.

    All its scales are powers of two, so that the outputs of a sample do not depend on the batch that it is in.
    """
    task = quantized_task(seed=seed, norm=False, dropout=0.0)
    for _ in range(STATISTICS_STEPS + 2):
        task.network(task.dataset.train.values(slice(None)))
    for name, parameter in task.network.named_parameters():
        parameter.requires_grad_(name.endswith(".weight"))
    return task


class CutError(Exception):
    """Stands for whatever ends a process between two steps or within one."""


class CutLoss:
    """A loss that counts the training passes it sees, and raises in number *step*, from 0; None: never."""

    def __init__(self, step: int | None) -> None:
        self._cut = step
        self.steps = 0

    def __call__(self, forward: Forward, values: Tensor, labels: Tensor) -> Tensor:
        """Return the cross entropy."""
        if torch.is_grad_enabled():
            if self.steps == self._cut:
                forward(values)  # the pass has left its traces already
                raise CutError
            self.steps += 1
        return cross_entropy(forward, values, labels)
