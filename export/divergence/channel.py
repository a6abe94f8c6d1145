"""One channel of an activation that gives other codes: what is seen of it, without repeats."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bitproof.export.divergence.locate import Evidence
from bitproof.export.integer import Activation, Threshold

MAX_EXACT = 1024
"""At most so many accumulators of a channel are decided exactly; those at fault come first."""
Triples = list[tuple[int, int, int]]
"""An accumulator, the model's code and the other's; without repeats, ascending."""


@dataclass(frozen=True, slots=True, eq=False)
class DivergingChannel:
    """One channel, called *number*, that differs; *first* is the accumulator of its first code at fault."""

    node: Threshold
    number: int
    first: int
    triples: Triples
    activation: Activation | None

    @property
    def differing(self) -> Triples:
        """Where the codes differ."""
        return [t for t in self.triples if t[1] != t[2]]

    @property
    def decided(self) -> Triples:
        """What is decided exactly: the first code at fault, the others, then equal ones; at most MAX_EXACT."""
        return sorted(self.triples, key=lambda t: (t[0] != self.first, t[1] == t[2]))[:MAX_EXACT]

    @property
    def by_one_level(self) -> bool:
        """They differ by one level at most."""
        return all(abs(expected - actual) == self.node.step for _, expected, actual in self.differing)

    @property
    def is_function(self) -> bool:
        """The other executor gives one code for each accumulator."""
        return len({accumulator for accumulator, _, _ in self.triples}) == len(self.triples)


Channels = list[DivergingChannel]


def channel_of(
    evidence: Evidence, node: Threshold, number: int, activations: Sequence[Activation] | None
) -> DivergingChannel:
    """Return what is seen of channel *number* of *node*; *activations* are the exact ones of all channels."""
    values = (evidence.sources[0], evidence.expected, evidence.actual)
    columns = np.stack([np.moveaxis(v, 0, -1)[number].reshape(-1) for v in values], axis=1)
    first = int(columns[int((columns[:, 1] != columns[:, 2]).argmax()), 0])
    triples: Triples = [(int(a), int(b), int(c)) for a, b, c in np.unique(columns, axis=0).tolist()]
    return DivergingChannel(node, number, first, triples, None if activations is None else activations[number])
