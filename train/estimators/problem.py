"""The problem that an estimator is given, and the promise that it makes.

An estimator knows neither the network nor the optimizer, so a new one is one file: a callable frozen dataclass. It
serves any network with layers that have no useful derivative, from Brevitas or not::

    problem = Problem(loss=lambda: criterion(network(x), y), parameters=[layer.weight for layer in quantized])
    estimator(problem, generator, progress=0.9, memory=memory)   # writes .grad
    optimizer.step()                                             # any torch optimizer
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Protocol

import torch

Loss = Callable[[], torch.Tensor]
Memory = dict[str, torch.Tensor]
"""What an estimator remembers between steps, by name; empty at first. It is saved and restored with the training."""


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes that train together; by default this one alone.

    Attributes:
        rank: number of this process, from 0.
        world: number of processes.
        total: adds a tensor up over all processes, in place of an all-reduce; every process gets the same bits.
        shard: the directions are dealt out over the processes instead of each being measured by all of them.
    """

    rank: int = 0
    world: int = 1
    total: Callable[[torch.Tensor], torch.Tensor] = field(default=lambda tensor: tensor)
    shard: bool = False


def _backpropagate(loss: torch.Tensor) -> None:
    loss.backward()


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """One mini-batch, seen by an estimator.

    Attributes:
        loss: evaluates the training loss of the batch (of this process' part of it), a scalar tensor.
        parameters: the parameters to perturb: the quantized weights.
        others: the trainable parameters that are not perturbed; they keep the backpropagated gradient.
        backward: backpropagates a loss into ``.grad`` of all parameters, averaged over the processes.
        steps: returns the quantization step of each of *parameters*, the distance of neighbouring values, a positive
            tensor that broadcasts to it; None: 1.
        extra_passes: a context in which no gradient is recorded and the loss that it yields leaves no trace in the
            network; None: *loss* itself, which then must leave none.
        ranks: the processes that share the work.
    """

    loss: Loss
    parameters: Sequence[torch.Tensor]
    others: Sequence[torch.Tensor] = ()
    backward: Callable[[torch.Tensor], None] = _backpropagate
    steps: Callable[[], Sequence[torch.Tensor]] | None = None
    extra_passes: Callable[[], AbstractContextManager[Loss]] | None = None
    ranks: Ranks = Ranks()

    def step_sizes(self) -> Sequence[torch.Tensor]:
        """Return the quantization step of every perturbed parameter."""
        if self.steps is None:
            return [torch.ones((), dtype=p.dtype, device=p.device) for p in self.parameters]
        return self.steps()

    @contextmanager
    def measuring(self) -> Iterator[Loss]:
        """Yield a loss that may be evaluated again and again; no gradient is recorded."""
        with torch.no_grad():
            if self.extra_passes is None:
                yield self.loss
            else:
                with self.extra_passes() as loss:
                    yield loss


class Estimator(Protocol):
    """Writes an estimate of the gradient into ``.grad`` of every parameter of the network."""

    @property
    def extra_forward_passes(self) -> int:
        """Forward passes per step beyond the training pass (forward and backward)."""
        ...

    def __call__(self, problem: Problem, generator: torch.Generator, progress: float, memory: Memory) -> torch.Tensor:
        """Estimate the gradient and return the loss at the unperturbed parameters, detached.

        *generator* is the only source of randomness, on the device of the parameters and in the same state in every
        process; *progress* runs from 0 to 1 over the estimator's phase; *memory* is this estimator's own. Gradients are
        clear before the call; parameters are unchanged, bit for bit, after it.
        """
        ...
