"""Names of what stands beside a network's nodes in its hardware: made of theirs, and never one of theirs.

A user may call a node ``conv0.windows``. So every name that a layer or a tensor gets beyond those of the nodes is asked
for here, where all that are in use are known.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, count


class StreamNames:
    """The names in use, to which each that is given is added."""

    def __init__(self, used: Iterable[str]) -> None:
        """Begin with the names *used*."""
        self._used = set(used)

    def derived(self, name: str, suffix: str) -> str:
        """Return ``name.suffix``, or ``name.suffix.2`` and so on if that is in use."""
        plain = f"{name}.{suffix}"
        found = next(one for one in chain([plain], (f"{plain}.{n}" for n in count(2))) if one not in self._used)
        self._used.add(found)
        return found
