"""Training that expects the faults of a chip: random faults in every pass, and a penalty on accumulators that overflow.

Both act through hooks that are there for one training pass only, so the network itself, its state and its passes
without them stay as they are. The extra passes of a zeroth-order estimator run on a stand-in that has no hooks: these
options go with the plain straight-through estimator, which makes none.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from math import prod
from typing import Any

import brevitas.nn as qnn
import torch
from brevitas.core.quant import BinaryQuant, ClampedBinaryQuant
from torch import Tensor, nn
from torch.nn import functional

from bitproof.pipeline import InputError
from bitproof.pipeline.config import TrainConfig, TrainFaults, TrainWrap
from bitproof.train.extra_passes import statistics_collected
from bitproof.train.frozen import ACTIVATIONS, Forward
from bitproof.train.layers import quantized_weights
from bitproof.train.loop import TrainingLoss, cross_entropy
from bitproof.train.models.parts import Residual

_log = logging.getLogger(__name__)
BEYOND_EVERY_GRID = 1e6
"""A weight of this value saturates in every quantizer: it becomes the largest of its type, whatever the scale."""


@dataclass(frozen=True, slots=True, eq=False)
class RobustLoss:
    """The plain loss of *network* with fresh random faults in every pass, plus the overflow penalty.

    Nothing is injected until the quantizers have collected their statistics, which faults would distort.

    Attributes:
        network: the network without any wrapper around it; its layers are hooked.
        faults: what is injected; None: nothing.
        wrap: the accumulators that are expected; None: wide ones.
        generator: of the faults, on the device of the network; None: torch's own.
        plain: the loss without either.
    """

    network: nn.Module
    faults: TrainFaults | None
    wrap: TrainWrap | None
    generator: torch.Generator | None = None
    plain: TrainingLoss = cross_entropy

    def __call__(self, forward: Forward, values: Tensor, labels: Tensor) -> Tensor:
        """Return the loss of one batch; *forward* is the network, perhaps wrapped for several devices."""
        with ExitStack() as stack:
            if self.faults is not None and statistics_collected(self.network):
                stack.enter_context(injected(self.network, self.faults, self.generator))
            penalties = None if self.wrap is None else stack.enter_context(penalized(self.network, self.wrap))
            loss = self.plain(forward, values, labels)
            return loss if penalties is None else loss + torch.stack(penalties).sum()


def training_loss(network: nn.Module, config: TrainConfig, plain: TrainingLoss = cross_entropy) -> TrainingLoss:
    """Return the loss that *config* asks for: the *plain* one if neither faults nor narrow accumulators are.

    Faults are drawn from torch's own generator, like dropout: its state is part of what a training resumes from.
    """
    if config.faults is None and config.wrap is None:
        return plain
    return RobustLoss(network, config.faults, config.wrap, plain=plain)


def warn_if_hardly_injected(network: nn.Module, config: TrainConfig, samples: int) -> None:
    """Warn before a training on *samples* samples that is too short for its faults: their absence looks like a result.

    *network* is untrained, so that its quantizers have yet to take their scales from their first batches.
    """
    if config.faults is None:
        return
    steps = config.epochs * (samples // min(config.batch_size, samples))
    collecting = [m for m in network.modules() if hasattr(m, "collect_stats_steps") and hasattr(m, "counter")]
    plain = max((module.collect_stats_steps + 1 for module in collecting), default=0)
    if 2 * plain > steps:
        _log.warning(
            "train.faults: faults are injected in %d of %d training steps only. They begin when the quantizers have "
            "taken their scales from the first %d batches: train for more epochs, or with a smaller batch_size",
            max(0, steps - plain),
            steps,
            plain,
        )


@contextmanager
def injected(network: nn.Module, faults: TrainFaults, generator: torch.Generator | None = None) -> Iterator[None]:
    """Let every pass of *network* run on a chip of its own, with stuck weights and shifted neurons.

    A weight is stuck at plus or minus the largest of its type and passes no gradient on. An offset is drawn for every
    channel of every quantizer but the input's, in units of its step; a quantizer that runs twice, as that of a sum's
    branches, has two rows of comparators.
    """

    def stick(_: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        weight, *rest = arguments
        draw = torch.rand(weight.shape, generator=generator, device=weight.device)
        # One number decides both: whether a weight is stuck, and at which end.
        end = torch.where(draw < faults.stuck / 2, BEYOND_EVERY_GRID, -BEYOND_EVERY_GRID)
        return (torch.where(draw < faults.stuck, end.to(weight.dtype), weight), *rest)

    def shift(activation: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        values, *rest = (getattr(argument, "value", argument) for argument in arguments)
        step = _step(activation)
        shape = (1, values.shape[1], *(1,) * (values.ndim - 2))
        offsets = torch.randn(shape, generator=generator, device=values.device, dtype=values.dtype)
        return (values + faults.offset * step * offsets, *rest)

    handles = []
    if faults.stuck:
        handles += [layer.weight_quant.register_forward_pre_hook(stick) for layer in quantized_weights(network)]
    if faults.offset:
        handles += [activation.register_forward_pre_hook(shift) for activation in _thresholded(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _thresholded(network: nn.Module) -> list[nn.Module]:
    """Return the quantizers that become comparators: all but the input's, which is the first QuantIdentity."""
    found = [module for module in network.modules() if isinstance(module, ACTIVATIONS)]
    entry = next((module for module in found if isinstance(module, qnn.QuantIdentity)), None)
    return [module for module in found if module is not entry]


@torch.no_grad()
def _step(activation: nn.Module) -> Tensor:
    """Return the distance of neighbouring outputs; those of a bipolar quantizer are plus and minus its scale."""
    scale: Tensor = activation.act_quant.scale()
    bipolar = isinstance(
        activation.act_quant.fused_activation_quant_proxy.tensor_quant, BinaryQuant | ClampedBinaryQuant
    )
    return 2 * scale if bipolar else scale


@contextmanager
def penalized(network: nn.Module, wrap: TrainWrap) -> Iterator[list[Tensor]]:
    """Yield a list that a pass of *network* fills with one penalty a sum.

    ``penalty * mean(max(0, |accumulator| / 2^(bits - 1) - margin))``: zero as long as every accumulator stays within
    *margin* of what *bits* bits hold. Sums are those of the layers with quantized weights, of the branches of a
    built-in network and, before they are divided, of the codes that a mean is taken of.
    """
    penalties: list[Tensor] = []
    handles = []
    for layer in quantized_weights(network):
        keep, watch = _watch(penalties, wrap)
        handles += [layer.weight_quant.register_forward_hook(keep), layer.register_forward_hook(watch)]

    def watch_branches(residual: nn.Module, _: tuple[Any, ...], outputs: Tensor) -> None:
        penalties.append(_penalty(outputs, residual.quantizer.act_quant.scale(), wrap))

    def watch_mean(_: nn.Module, arguments: tuple[Any, ...], outputs: Any) -> None:  # noqa: ANN401
        codes, means = arguments[0], getattr(outputs, "value", outputs)
        if getattr(codes, "scale", None) is not None:  # of plain reals: no mean of codes
            count = prod(codes.shape[2:]) / prod(means.shape[2:])
            penalties.append(_penalty(means * count, codes.scale, wrap))

    watches = ((Residual, watch_branches), ((nn.AvgPool2d, nn.AdaptiveAvgPool2d), watch_mean))
    for kind, watch_sums in watches:
        modules = (module for module in network.modules() if isinstance(module, kind))
        handles += [module.register_forward_hook(watch_sums) for module in modules]
    try:
        yield penalties
    finally:
        for handle in handles:
            handle.remove()


def _penalty(sums: Tensor, unit: Tensor, wrap: TrainWrap) -> Tensor:
    """Return the penalty on *sums*, real numbers, whose accumulators are worth *unit* each."""
    filled = sums.abs() / (unit * 2.0 ** (wrap.bits - 1))
    return wrap.penalty * functional.relu(filled - wrap.margin).mean()


def _watch(penalties: list[Tensor], wrap: TrainWrap) -> tuple[Callable[..., None], Callable[..., None]]:
    """Return the hooks of one layer: the first keeps the scale of its weights, the second looks at its accumulators."""
    scales: list[Tensor] = []

    def keep(_: nn.Module, arguments: tuple[Any, ...], weights: Any) -> None:  # noqa: ANN401  brevitas is untyped
        del arguments
        scales[:] = [weights.scale]

    def watch(layer: nn.Module, arguments: tuple[Any, ...], outputs: Any) -> None:  # noqa: ANN401
        scale = getattr(arguments[0], "scale", None)
        if scale is None:
            raise InputError(
                f"train.wrap: a {type(layer).__name__} is given plain reals, so its accumulators have no unit; put a "
                "quantized layer with return_quant_tensor=True before it"
            )
        # Scales are not detached: a larger weight scale makes smaller integers, and the penalty is to see that.
        unit = scale * scales[0].reshape(1, -1, *(1,) * (outputs.ndim - 2))
        penalties.append(_penalty(getattr(outputs, "value", outputs), unit, wrap))

    return keep, watch
