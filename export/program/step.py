"""One step of a program: what a target does in one go, for several nodes of the integer model at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bitproof.export.integer import MaxPool, Node, Pad, Threshold
from bitproof.pipeline import Codes

Kind = Literal["multiply", "pool", "join", "move", "requantize", "select"]
"""What a step is by its main node: a product; a pool; a sum or a concatenation; codes that change their places;
thresholds or a rescaling alone; the indices of the largest."""


@dataclass(frozen=True, slots=True, eq=False)
class Step:
    """A main node with what is done to its inputs before, and to its output after it, without storing anything between.

    Attributes:
        kind: what its main node is.
        takes: names of the values that it reads.
        makes: name of the value that it writes: that of the last node that it covers.
        before: for each of *takes* the nodes that it passes first: padding of a convolution, rescaling of a branch,
            another order of what a matrix product takes.
        main: the node that gives the step its kind.
        after: nodes that the output of *main* passes, in the order in which they are carried out: a bias, a max pool,
            thresholds.
        covers: the nodes that it carries out, in the order of the model, among them shapes that come to nothing.
    """

    kind: Kind
    takes: tuple[str, ...]
    makes: str
    before: tuple[tuple[Node, ...], ...]
    main: Node
    after: tuple[Node, ...]
    covers: tuple[Node, ...]

    @property
    def name(self) -> str:
        """That of its main node."""
        return self.main.name

    @property
    def carried_out(self) -> tuple[Node, ...]:
        """The nodes that change or move a code: *covers* without those that come to nothing."""
        return *(node for nodes in self.before for node in nodes), self.main, *self.after

    @property
    def thresholds(self) -> Threshold | None:
        """The thresholds that it ends with; None: its output is of accumulators, or of codes as they were."""
        found = [node for node in (self.main, *self.after) if isinstance(node, Threshold)]
        return found[0] if found else None

    @property
    def max_pool(self) -> MaxPool | None:
        """The max pool that it carries out on accumulators, before its thresholds."""
        return next((node for node in self.after if isinstance(node, MaxPool)), None)

    @property
    def padding(self) -> Pad | None:
        """The padding of its first input."""
        return next((node for node in self.before[0] if isinstance(node, Pad)), None)

    def run(self, *codes: Codes) -> Codes:
        """Return what it writes, shape (N, *shape), for what it reads; exact."""
        given = []
        for value, nodes in zip(codes, self.before, strict=True):
            for node in nodes:
                value = node.apply(value)  # noqa: PLW2901  it passes one after the other
            given.append(value)
        made = self.main.apply(*given)
        for node in self.after:
            made = node.apply(made)
        return made
