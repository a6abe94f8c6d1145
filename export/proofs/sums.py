"""The protocol of an executor that can prove its sums: where they are not exact by their type alone."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from bitproof.export.integer import IntegerModel
from bitproof.pipeline.ledger import ProofEntry


@runtime_checkable
class ProvesSums(Protocol):
    """An executor whose sums of products may round, wrap or saturate, unless something rules that out."""

    def prove_sums(self, model: IntegerModel) -> list[ProofEntry]:
        """Say of each product of *model* why its sums are what they should be, from what the artifact itself holds."""
        ...
