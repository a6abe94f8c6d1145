"""Forward passes that leave no trace in the network: no buffer, counter, statistic or mode is different afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from bitproof.train.estimators import Loss
from bitproof.train.frozen import Forward, FrozenForward, weight_step

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


class ExtraPasses:
    """Evaluates the training loss of *network* again and again without side effects.

    A ``Sequential`` of known layers runs by :class:`bitproof.train.frozen.FrozenForward`. Any other network runs
    itself, in evaluation mode, so that the run-time statistics of quantizers do not advance; batch norm keeps
    normalizing by the batch, as in the training pass, with momentum 0, and all buffers are restored from copies. In
    both, dropout draws the mask that it drew in the training pass, and torch's random stream continues as if there had
    been no extra pass.
    """

    def __init__(self, network: nn.Module, *, compiled: bool = False) -> None:
        self._network = network
        self._drops = any(isinstance(module, DROPOUTS) and module.p > 0 for module in network.modules())
        self._measuring = False
        try:
            self._frozen: FrozenForward | None = FrozenForward(network, compiled=compiled)
        except TypeError:
            self._frozen = None

    @property
    def fast(self) -> bool:
        """The network's layers are all known, so that the fast forward pass serves it."""
        return self._frozen is not None

    def stream(self) -> Tensor | None:
        """Return the state of torch's random stream, to be taken before the training pass; None without dropout."""
        return _state(self._network) if self._drops else None

    @contextmanager
    def measuring(self, loss_with: Callable[[Forward], Tensor], stream: Tensor | None) -> Iterator[Loss]:
        """Yield ``loss_with(forward)`` as a loss to be called without gradients; *forward* stands for the network.

        *stream* is what :meth:`stream` returned before the training pass.
        """
        if stream is None:
            with self._forward(cached=True) as forward:
                yield partial(loss_with, forward)
            return
        after = _state(self._network)
        try:
            with self._forward(cached=False) as forward:
                yield partial(_with_stream, self._network, stream, partial(loss_with, forward))
        finally:
            _set_state(self._network, after)

    @contextmanager
    def _forward(self, *, cached: bool) -> Iterator[Forward]:
        if self._frozen is None:
            with traceless(self._network):
                yield self._network
        else:
            self._frozen.freeze()
            self._measuring = True
            try:
                yield self._frozen.for_one_batch() if cached else self._frozen
            finally:
                self._measuring = False

    def weight_steps(self, layers: Sequence[nn.Module]) -> list[Tensor]:
        """Return the quantization step of the weights of each of *layers*."""
        if self._frozen is not None and self._measuring:
            known = self._frozen.weight_steps()
            return [known[id(layer)] for layer in layers]
        return [weight_step(layer) for layer in layers]


def _with_stream(network: nn.Module, stream: Tensor, loss: Loss) -> Tensor:
    """Return the loss with the dropout masks that *stream* draws."""
    _set_state(network, stream)
    return loss()


@contextmanager
def traceless(network: nn.Module) -> Iterator[None]:
    """Put *network* into the mode of an extra pass, and everything that a pass changes back afterwards."""
    modes = [(module, module.training) for module in network.modules()]
    norms = [module for module in network.modules() if isinstance(module, NORMS)]
    dropouts = [module for module in network.modules() if isinstance(module, DROPOUTS) and module.training]
    batch_norms = [norm for norm in norms if norm.training]
    momenta = [norm.momentum for norm in norms]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    network.eval()
    for module in (*batch_norms, *dropouts):
        module.training = True
    for norm in batch_norms:
        norm.momentum = 0.0
    try:
        with torch.no_grad():
            yield
    finally:
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, training in modes:
            module.training = training


def statistics_collected(network: nn.Module) -> bool:
    """Tell whether every quantizer that learns its scale from its first batches has done so.

    Until then a pass in evaluation mode would see other scales than a training pass.
    """
    collecting = [m for m in network.modules() if hasattr(m, "collect_stats_steps") and hasattr(m, "counter")]
    return all(module.counter > module.collect_stats_steps for module in collecting)


def _device(network: nn.Module) -> torch.device:
    return next(network.parameters()).device


def _state(network: nn.Module) -> Tensor:
    """Return the state of the random stream that dropout of *network* draws from."""
    device = _device(network)
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def _set_state(network: nn.Module, state: Tensor) -> None:
    device = _device(network)
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
