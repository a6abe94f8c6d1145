"""The integer model as an executor: the reference of every comparison."""

from __future__ import annotations

from bitproof.export.integer import load, run, trace
from bitproof.pipeline import Artifact, Codes


class IntegerExecutor:
    """The integer model itself."""

    name = "integer"

    def __init__(self, artifact: Artifact) -> None:
        self.model = load(artifact.path)

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs)."""
        return run(self.model, codes)

    def trace(self, codes: Codes) -> dict[str, Codes]:
        """Run *codes* and return the output of every node, shape (N, *sample)."""
        return trace(self.model, codes)
