"""Small instances of the networks whose shape is given, initialized so that every part of them is used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import cycle, islice

import torch
from torch import Tensor, nn

from bitproof.pipeline.config import FIXED_SHAPES, ModelConfig
from bitproof.train.models import build

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


@dataclass(frozen=True, slots=True)
class Instance:
    """A network for samples of *shape*."""

    model: ModelConfig
    shape: tuple[int, ...]
    classes: int

    @property
    def inputs(self) -> int:
        return math.prod(self.shape)

    @property
    def outputs(self) -> int:
        return self.inputs if self.model.reconstructs else self.classes

    def build(self) -> nn.Module:
        return build(self.model, self.inputs, self.classes, self.shape)


REFERENCE_SHAPES = {
    "cnv": ((3, 32, 32), 10),
    "resnet8": ((3, 32, 32), 10),
    "ds-cnn": ((1, 49, 10), 12),
    "mobilenet-v1": ((3, 96, 96), 2),
    "autoencoder": ((640,), 2),
}
SMALL = {
    "cnv": ((3, 32, 32), 10, 0.0625),
    "resnet8": ((3, 8, 8), 3, 0.25),
    "ds-cnn": ((1, 13, 6), 3, 0.0625),
    "mobilenet-v1": ((3, 16, 16), 2, 0.0625),
    "autoencoder": ((24,), 2, 0.0625),
}
FREE_SHAPES: dict[str, tuple[tuple[int, ...], int, dict[str, object]]] = {
    "mlp": ((64,), 10, {"hidden": (16, 16)}),
    "cnn": ((1, 8, 8), 10, {"channels": (4, 6), "hidden": (12,)}),
}


def full_size(name: str, **options: object) -> Instance:
    """Return the network of the reference."""
    shape, classes = REFERENCE_SHAPES[name]
    return Instance(ModelConfig.model_validate({"name": name, **options}), shape, classes)


def small(name: str, **options: object) -> Instance:
    """Return the network with a few channels a layer, for small samples."""
    if name in FREE_SHAPES:
        shape, classes, widths = FREE_SHAPES[name]
        return Instance(ModelConfig.model_validate({"name": name, **widths, **options}), shape, classes)
    shape, classes, width = SMALL[name]
    return Instance(ModelConfig.model_validate({"name": name, "width": width, **options}), shape, classes)


def mixed_bits(name: str) -> dict[str, object]:
    """Return bit widths that differ from layer to layer; activations of 1 bit would leave nothing of a few channels."""
    weighted, activations, _ = FIXED_SHAPES[name]
    return {
        "weight_bits": list(islice(cycle([8, 1, 4, 2, 3, 5, 7, 6]), weighted)),
        "act_bits": list(islice(cycle([4, 3, 8, 2, 7, 5, 6]), activations)),
    }


def initialized(instance: Instance, seed: int = 0) -> nn.Module:
    """Return a network in evaluation mode: scales from statistics, batch norm of both signs, other than its batch's."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = instance.build()
        norms = [module for module in network.modules() if isinstance(module, NORMS)]
        for norm in norms:
            norm.momentum = 0.5
            nn.init.normal_(norm.bias, 0, 0.3)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            with torch.no_grad():
                norm.weight[::5] *= -1
        for module in network.modules():
            if hasattr(module, "collect_stats_steps"):
                module.collect_stats_steps = 4
        for step in range(8):
            network(random_values(instance, 16, seed=step + 2))
        with torch.no_grad():
            for norm in norms:
                norm.running_mean += 0.1 * torch.randn_like(norm.running_mean) * norm.running_var.sqrt()
                norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.8, 1.25)
    return network.eval()


def random_values(instance: Instance, count: int, seed: int = 1) -> Tensor:
    """Return input codes as reals, shape (count, inputs)."""
    codes = torch.randint(0, 256, (count, instance.inputs), generator=torch.Generator().manual_seed(seed))
    return codes.float() / 256
