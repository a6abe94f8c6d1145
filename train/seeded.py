"""The random stream of a stage: torch's own, seeded, and put back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's own generator, which initializes layers and drives dropout, and put its state back afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
