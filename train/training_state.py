"""The state of a training: all that its next step depends on, as one object that can be saved and put back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from bitproof.train.devices import gathered
from bitproof.train.estimators import Memory

Entry = dict[str, float | str]
"""How one epoch went: ``epoch``, ``train_loss``, ``validation_accuracy`` in percent, ``lr``, ``estimator``, ..."""
Content = dict[str, object]
"""Tensors, numbers, strings and containers of them: what torch reads back without running code."""


@dataclass(slots=True, eq=False)
class TrainingState:
    """The state between two steps; the loop changes it in place.

    Attributes:
        network: the network in training.
        optimizer: its optimizer.
        scheduler: the learning rate's schedule.
        generators: every random generator of the loop, by purpose.
        step: number of steps done.
        order: the samples in the order of this epoch, shape (N,).
        losses: the training loss of every step of this epoch.
        history: the epochs done.
        best: the weights of the epoch that did best on the validation split, as a state dictionary.
        memory: what the estimator remembers.
        guided_steps: steps whose estimator measured losses.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    scheduler: torch.optim.lr_scheduler.LRScheduler
    generators: Mapping[str, torch.Generator]
    step: int = 0
    order: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))
    losses: list[Tensor] = field(default_factory=list)
    history: list[Entry] = field(default_factory=list)
    best: dict[str, Tensor] = field(default_factory=dict)
    memory: Memory = field(default_factory=dict)
    guided_steps: int = 0

    @property
    def accuracies(self) -> list[float]:
        """Validation accuracy of every epoch done, in percent."""
        return [float(entry["validation_accuracy"]) for entry in self.history]

    @property
    def epochs_without_gain(self) -> int:
        """Epochs since the one that first had the best validation accuracy so far."""
        accuracies = self.accuracies
        return len(accuracies) - 1 - accuracies.index(max(accuracies)) if accuracies else 0

    def begin_epoch(self, samples: int, device: torch.device) -> None:
        """Shuffle *samples* samples and forget the losses of the last epoch."""
        self.order = torch.randperm(samples, generator=self.generators["shuffling"]).to(device)
        self.losses = []

    def is_finite(self) -> bool:
        """Tell whether every parameter and buffer of the network is finite."""
        return all(bool(tensor.isfinite().all()) for tensor in _tensors(self.network).values())

    def content(self, fabric: Fabric) -> Content:
        """Return a picture of the state; called by all processes together, for each has random streams of its own."""
        return {
            "tensors": {name: tensor.detach() for name, tensor in _tensors(self.network).items()},
            "attributes": {name: _attributes(module) for name, module in self.network.named_modules()},
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "streams": [gathered(fabric, stream).cpu() for stream in _streams(fabric)],
            "losses": list(self.losses),
            **{name: getattr(self, name) for name in _PLAIN},
        }

    def restore(self, content: Mapping[str, Any], fabric: Fabric) -> None:
        """Put the state of *content* back, bit for bit.

        Raises:
            KeyError, TypeError, ValueError, RuntimeError, AttributeError: it is not of this network and optimizer.
        """
        with torch.no_grad():
            for name, tensor in _tensors(self.network).items():
                saved = content["tensors"][name]
                if saved.shape != tensor.shape:
                    raise ValueError(f"{name} has shape {tuple(saved.shape)}, not {tuple(tensor.shape)}")
                tensor.copy_(saved)
        for name, module in self.network.named_modules():
            for key in _attributes(module):
                setattr(module, key, content["attributes"][name][key])
        self.optimizer.load_state_dict(content["optimizer"])
        self.scheduler.load_state_dict(content["scheduler"])
        for name, generator in self.generators.items():
            generator.set_state(content["generators"][name])
        # torch reads a stream from the start of its memory, whatever part of it a tensor is
        cpu, *cuda = (stream[fabric.global_rank].clone() for stream in content["streams"])
        torch.set_rng_state(cpu)
        for stream in cuda:
            torch.cuda.set_rng_state(stream, fabric.device)
        for name in _PLAIN:
            setattr(self, name, content[name])
        self.order = self.order.to(fabric.device)
        self.losses = [loss.to(fabric.device) for loss in content["losses"]]
        self.memory = {name: tensor.to(fabric.device) for name, tensor in self.memory.items()}


_PLAIN = ("step", "order", "history", "best", "memory", "guided_steps")


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    """Return every parameter and buffer; a state dictionary leaves out those that Brevitas has no use for yet."""
    return {**dict(network.named_parameters()), **dict(network.named_buffers())}


def _attributes(module: nn.Module) -> dict[str, float | None]:
    """Return the numbers and switches that *module* keeps in Python, such as Brevitas' counters."""
    return {key: value for key, value in vars(module).items() if value is None or isinstance(value, int | float)}


def _streams(fabric: Fabric) -> list[Tensor]:
    """Return the states of torch's own generators, the CPU's first, as bytes."""
    cuda = [torch.cuda.get_rng_state(fabric.device)] if fabric.device.type == "cuda" else []
    return [torch.get_rng_state(), *cuda]
