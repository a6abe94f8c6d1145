"""Channels that give one code whatever comes in: true of the network, and seldom what was wanted, so a warning."""

from __future__ import annotations

from collections.abc import Iterator

from bitproof.export.integer import INPUT, Conv, IntegerModel, MatMul, Node, Ranges, Threshold
from bitproof.pipeline.ledger import ProofEntry

NAMED = 16
"""Channels that a message names."""


def warn_of_constants(model: IntegerModel, tensors: dict[str, str]) -> list[ProofEntry]:
    """Return an entry for each layer of *model* with channels that are constant though what it takes is not.

    Args:
        model: the integer model.
        tensors: what a layer is called in the file, if that is known.
    """
    ranges = _ranges_of(model)
    entries = [
        _warning(name, channels, len(ranges[name]), tensors.get(name)) for name, channels in constant_channels(model)
    ]
    if entries and len(_constant(ranges[model.nodes[-1].name])) == len(ranges[model.nodes[-1].name]):
        entries.append(
            _entry(model.nodes[-1].name, "every output is constant: the network gives one answer whatever comes in", 1)
        )
    return entries


def constant_channels(model: IntegerModel) -> Iterator[tuple[str, list[int]]]:
    """Yield each layer that computes with its constant channels, if it has any and is given what is not constant."""
    ranges = _ranges_of(model)
    for node, sources in model.wired():
        channels = _constant(ranges[node.name]) if isinstance(node, MatMul | Conv | Threshold) else []
        varying = any(len(_constant(ranges[source])) < len(ranges[source]) for source in sources)
        if channels and varying and not _inherited(node, sources[0], ranges):
            yield node.name, channels


def _ranges_of(model: IntegerModel) -> dict[str, Ranges]:
    return {name: value.ranges for name, value in model.values.items()}


def _inherited(node: Node, source: str, ranges: dict[str, Ranges]) -> bool:
    """Tell whether an activation's constant channels are those that it is given."""
    if not isinstance(node, Threshold) or source == INPUT:
        return False
    return _constant(ranges[node.name]) == _constant(ranges[source])


def _constant(ranges: Ranges) -> list[int]:
    return [channel for channel, interval in enumerate(ranges) if interval.low == interval.high]


def _warning(layer: str, channels: list[int], of: int, tensor: str | None) -> ProofEntry:
    called = "" if tensor is None else f" ({tensor} in the file)"
    more = f" and {len(channels) - NAMED} more" if len(channels) > NAMED else ""
    which = "all" if len(channels) == of else f"{len(channels)} of the"
    named = ", ".join(map(str, channels[:NAMED])) + more
    return _entry(layer, f"{which} {of} channels{called} give one code whatever comes in: {named}", len(channels))


def _entry(layer: str, claim: str, cases: int) -> ProofEntry:
    return ProofEntry(
        layer=layer,
        claim=claim,
        method="interval arithmetic in unbounded integers, per channel, from the real weights and thresholds",
        cases=cases,
        holds=True,
        warning=True,
    )
