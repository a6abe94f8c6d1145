"""Forward passes that leave no trace in the network: no buffer, counter, statistic or mode is different afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@contextmanager
def extra_passes(network: nn.Module) -> Iterator[None]:
    """Evaluate the training loss again and again without side effects.

    The network is in evaluation mode, so the run-time statistics of quantizers do not advance and dropout is off; batch
    norm alone keeps normalizing by the batch, as in the training pass, with momentum 0. All buffers are restored from
    copies, because batch norm counts its batches whatever the momentum. The generators of torch are restored, too.
    """
    modes = [(module, module.training) for module in network.modules()]
    norms = [module for module in network.modules() if isinstance(module, _NORMS)]
    momenta = [norm.momentum for norm in norms]
    buffers = [(buffer, buffer.clone()) for buffer in network.buffers()]
    generator_state = torch.get_rng_state()
    network.eval()
    for norm in norms:
        norm.training = True
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
        torch.set_rng_state(generator_state)


def statistics_collected(network: nn.Module) -> bool:
    """Tell whether every quantizer that learns its scale from its first batches has done so.

    Until then a pass in evaluation mode would see other scales than a training pass.
    """
    collecting = [m for m in network.modules() if hasattr(m, "collect_stats_steps") and hasattr(m, "counter")]
    return all(module.counter > module.collect_stats_steps for module in collecting)
