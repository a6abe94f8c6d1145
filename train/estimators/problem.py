"""What an estimator is given, and what it promises.

An estimator knows neither the network nor the optimizer, so a new one is one file: a callable frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One mini-batch, seen by an estimator.

    Attributes:
        loss: evaluates the training loss of the batch, a scalar tensor.
        backward: backpropagates a loss and accumulates into ``.grad`` of all parameters.
        parameters: the parameters to perturb: the quantized weights.
        steps: returns the quantization step of each of them, one positive number a tensor; called only where needed.
        extra_passes: a context in which *loss* leaves no trace in the network and no gradient is recorded.
    """

    loss: Callable[[], torch.Tensor]
    backward: Callable[[torch.Tensor], None]
    parameters: Sequence[torch.Tensor]
    steps: Callable[[], Sequence[float]]
    extra_passes: Callable[[], AbstractContextManager[None]]


class Estimator(Protocol):
    """Writes an estimate of the gradient into ``.grad`` of every parameter of the network."""

    @property
    def extra_forward_passes(self) -> int:
        """Forward passes a step beyond the training pass."""
        ...

    def __call__(self, problem: Problem, generator: torch.Generator, progress: float) -> torch.Tensor:
        """Estimate the gradient and return the loss at the unperturbed parameters, detached.

        *generator* is the only source of randomness, on the device of the parameters; *progress* runs from 0 to 1 over
        the estimator's phase. Gradients are clear before the call; parameters are unchanged after it.
        """
        ...
