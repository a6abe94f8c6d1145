"""The devices of a training: Lightning Fabric on one or several.

Several devices are several processes. They are started from a function, not by running the command line again: a stage
has already made its folders when it gets here.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from torch.multiprocessing import ProcessExitedException

from bitproof.pipeline import BitproofError, ConfigError, InputError, StageError
from bitproof.pipeline.config import TrainConfig
from bitproof.pipeline.toolchain import cpu_count
from bitproof.train.estimators import Ranks

UNUSED_PARAMETER = "Expected to have finished reduction in the prior iteration"
"""How torch begins to say that a parameter got no gradient."""


def make_fabric(config: TrainConfig) -> Fabric:
    """Return Lightning Fabric on the devices that *config* asks for; ``auto`` is CUDA if there is one.

    On the CPU a device is a process; they talk over gloo, CUDA devices over NCCL. Gradients are averaged by
    DistributedDataParallel, which also gives every process the buffers of the first one before each training pass.
    Batch norm normalizes by the part of the batch that its process sees; its running statistics are the first one's.

    Raises:
        ConfigError: CUDA is asked for and not there, or has fewer devices than asked for.
    """
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if config.device == "cuda" and not found:
        raise ConfigError("train.device = 'cuda', but there is no CUDA device here; use 'auto' or 'cpu'")
    on_cuda = found > 0 and config.device != "cpu"
    if on_cuda and config.devices > found:
        raise ConfigError(
            f"train.devices = {config.devices}, but there are {found} CUDA devices here; "
            f"use at most {found}, or train.device = 'cpu'"
        )
    torch.set_num_threads(threads_of(config))
    return Fabric(
        accelerator="cuda" if on_cuda else "cpu",
        devices=config.devices,
        strategy=DDPStrategy(start_method="spawn") if config.devices > 1 else "auto",
        precision="bf16-mixed" if config.precision == "bf16-mixed" else "32-true",
    )


def launch(config: TrainConfig, work: Callable[[Fabric], None]) -> None:
    """Do *work*: here for one device, else in a process a device, for which it is a ``partial`` that can be pickled.

    An error of this project that the processes raise is raised here.

    Raises:
        ConfigError: the devices are not there.
        StageError: a process was killed.
    """
    fabric = make_fabric(config)
    if config.devices == 1:
        work(fabric)
        return
    try:
        failure = fabric.launch(_carry_out, work, config, warnings.filters)
    except ProcessExitedException as error:
        raise StageError(
            f"one of the {config.devices} training processes was killed ({error}); is the memory full? "
            "Run again to resume from the last saved state"
        ) from error
    if failure is not None:
        kind, message = failure
        raise kind(message)


def _carry_out(
    fabric: Fabric, work: Callable[[Fabric], None], config: TrainConfig, filters: Sequence[tuple[object, ...]]
) -> tuple[type[BitproofError], str] | None:
    """Do *work* in a process of its own, with the warning filters of the first, and return its error."""
    warnings.resetwarnings()
    warnings.filters.extend(filters)  # type: ignore[attr-defined]  # typed as immutable
    torch.set_num_threads(threads_of(config))
    try:
        work(fabric)
    except BitproofError as error:
        return type(error), str(error)
    except RuntimeError as error:
        if UNUSED_PARAMETER not in str(error):
            raise
        return InputError, (
            f"train.devices = {config.devices}: a parameter of the network has no effect on the loss, so that its "
            "gradient cannot be averaged; remove it, or set its requires_grad to False"
        )
    return None


def threads_of(config: TrainConfig) -> int:
    """Return the threads of one process: baseline and quantized network train side by side, on all their devices."""
    return max(1, cpu_count() // (2 * config.devices))


def ranks_of(fabric: Fabric, *, shard: bool) -> Ranks:
    """Return the processes of *fabric*, as estimators see them."""
    if fabric.world_size == 1:
        return Ranks()
    return Ranks(fabric.global_rank, fabric.world_size, partial(_total, fabric), shard)


@torch.no_grad()
def _total(fabric: Fabric, tensor: torch.Tensor) -> torch.Tensor:
    """Add *tensor* up over the processes, in place and in the order of their numbers: the same bits everywhere."""
    total: torch.Tensor = tensor.copy_(gathered(fabric, tensor).sum(dim=0))
    return total


def gathered(fabric: Fabric, tensor: torch.Tensor) -> torch.Tensor:
    """Return the *tensor* of every process, on the training device, shape (processes, *shape of one)."""
    own = tensor.detach().to(fabric.device).contiguous()
    if fabric.world_size == 1:
        return own[None]
    parts = [torch.empty_like(own) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(parts, own)
    return torch.stack(parts)
