"""One mini-batch of a quantized network as an estimator sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from bitproof.train.estimators import Problem, Ranks
from bitproof.train.extra_passes import ExtraPasses
from bitproof.train.frozen import Forward


class NetworkProblem:
    """Makes the problem of each batch; what does not change between batches is found out once.

    Args:
        network: the bare network, not wrapped for several devices.
        perturbed: its layers with quantized weights; only these weights are perturbed.
        backward: backpropagates a loss.
        ranks: the processes that train together.
        compiled: compile the extra passes, see :class:`bitproof.train.frozen.FrozenForward`.
    """

    def __init__(
        self,
        network: nn.Module,
        perturbed: Sequence[nn.Module],
        backward: Callable[[Tensor], None],
        ranks: Ranks = Ranks(),  # noqa: B008  frozen
        *,
        compiled: bool = False,
    ) -> None:
        self._parameters = [layer.weight for layer in perturbed]
        chosen = {id(parameter) for parameter in self._parameters}
        self._others = [p for p in network.parameters() if p.requires_grad and id(p) not in chosen]
        self._passes = ExtraPasses(network, compiled=compiled)
        self._perturbed = perturbed
        self._backward = backward
        self._ranks = ranks

    def of(self, loss: Callable[[], Tensor], loss_with: Callable[[Forward], Tensor]) -> Problem:
        """Return the problem of one batch; make it directly before its training pass.

        Args:
            loss: the training loss, with every effect that a training pass has.
            loss_with: the same loss from a stand-in for the network that has no effects.
        """
        return Problem(
            loss=loss,
            parameters=self._parameters,
            others=self._others,
            backward=self._backward,
            steps=partial(self._passes.weight_steps, self._perturbed),
            extra_passes=partial(self._passes.measuring, loss_with, self._passes.stream()),
            ranks=self._ranks,
        )
