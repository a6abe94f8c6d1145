"""Where training runs: Lightning Fabric on one device or several, and the random streams of a stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric import Fabric

from pipeline import ConfigError
from pipeline.config import TrainConfig
from pipeline.toolchain import cpu_count


def make_fabric(config: TrainConfig) -> Fabric:
    """Return Lightning Fabric on the device that *config* asks for; ``auto`` is CUDA where there is one.

    Raises:
        ConfigError: CUDA is asked for and not there.
    """
    has_cuda = torch.cuda.is_available()
    if config.device == "cuda" and not has_cuda:
        raise ConfigError("train.device = 'cuda', but there is no CUDA device here; use 'auto' or 'cpu'")
    torch.set_num_threads(max(1, cpu_count() // 2))  # baseline and quantized network train side by side
    accelerator = "cuda" if has_cuda and config.device != "cpu" else "cpu"
    precision = "bf16-mixed" if config.precision == "bf16-mixed" else "32-true"
    return Fabric(accelerator=accelerator, devices=config.devices, precision=precision)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's own generator, which initializes layers and drives dropout, and put its state back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
