"""The findings of lint on a QONNX file: what cannot be lowered, how wide its integers are, what floats decide."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bitproof.export.integer import (
    EXACT_FLOAT32,
    IntegerModel,
    IntegerType,
    Interval,
    Ranges,
    Threshold,
    hull,
)
from bitproof.export.integer.types import Sums
from bitproof.export.lowering import Lowered, TooLargeError, lower_graph
from bitproof.export.proofs import order_dependent, prove_lowering
from bitproof.export.qonnx import load_qonnx
from bitproof.pipeline import InputError
from bitproof.pipeline.ledger import ProofEntry, warnings_of

NAMED = 8
COMPUTING = ("matmul", "conv", "threshold")
"""Operations of which a constant channel is worth a word; elsewhere it follows from one of these."""


@dataclass(frozen=True, slots=True)
class LayerReport:
    """One node of the integer model.

    Attributes:
        name: the node's name.
        op: its operation.
        shape: of one output sample.
        reachable: hull of its integers.
        kind: the narrowest type that holds them all; of sums a signed one.
        levels: thresholds of a channel; 0 if it is no activation.
        dead: channels that give one code whatever comes in.
        skipped: pairs of neighbouring thresholds that coincide, so that the code between them never occurs.
        order_dependent: channels with accumulators that float32 sums may decide either way, and how many.
        sums_round: partial sums may exceed 2^24, so that float32 rounds them.
    """

    name: str
    op: str
    shape: tuple[int, ...]
    reachable: Interval
    kind: IntegerType
    levels: int
    dead: tuple[int, ...]
    skipped: int
    order_dependent: Mapping[int, int]
    sums_round: bool

    def as_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "name": self.name,
            "op": self.op,
            "shape": list(self.shape),
            "low": self.reachable.low,
            "high": self.reachable.high,
            "type": str(self.kind),
            "bits": self.kind.bits,
            "levels": self.levels,
            "dead_channels": list(self.dead),
            "skipped_codes": self.skipped,
            "order_dependent": {str(channel): count for channel, count in self.order_dependent.items()},
            "sums_round": self.sums_round,
        }


@dataclass(frozen=True, slots=True)
class LintReport:
    """What is known of one file.

    Attributes:
        name: the network's name.
        model: the integer model; None: the file cannot be lowered.
        unsupported: each node that cannot be lowered and why.
        layers: the nodes of the integer model, in execution order.
        proofs: what was proven of it.
        advice: what to do about it, one sentence each.
    """

    name: str
    model: IntegerModel | None
    unsupported: tuple[str, ...]
    layers: tuple[LayerReport, ...]
    proofs: tuple[ProofEntry, ...]
    advice: tuple[str, ...]

    def as_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "name": self.name,
            "unsupported": list(self.unsupported),
            "layers": [layer.as_json() for layer in self.layers],
            "proofs": len(self.proofs),
            "warnings": warnings_of(self.proofs),
            "failing_proofs": [proof.model_dump(mode="json") for proof in self.proofs if not proof.holds],
            "advice": list(self.advice),
        }


def examine_file(path: Path, name: str, *, configured: bool = False, most_effort: int | None = None) -> LintReport:
    """Lower the QONNX file at *path*, whose network is called *name*, prove what can be proven, and report.

    Args:
        path: a QONNX file, normalized.
        name: that of the network.
        configured: the network is that of a configuration, whose owner can change scales and training.
        most_effort: units of exact arithmetic that may be spent; None: as many as an import may.

    Raises:
        InputError: it is not a readable ONNX file.
        TooLargeError: it takes more than *most_effort*.
    """
    file = load_qonnx(path)
    try:
        lowered = lower_graph(file, path, name, most_effort)
    except InputError as error:
        if most_effort is not None and isinstance(error.__cause__, TooLargeError):
            raise error.__cause__ from error
        refused, hints = _refusals(error)
        return LintReport(name, None, refused, (), (), hints)
    layers = _layers(lowered)
    proofs = tuple(prove_lowering(lowered))
    return LintReport(name, lowered.model, (), layers, proofs, _advice(layers, proofs, lowered, configured=configured))


def _refusals(error: InputError) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return one line for each node that was refused, which are indented below a headline, and what is said of all."""
    headline, *lines = str(error).splitlines()
    nodes = tuple(line.strip() for line in lines if line.startswith(" "))
    return nodes or (headline, *lines), tuple(line for line in lines if nodes and not line.startswith(" "))


def _layers(lowered: Lowered) -> tuple[LayerReport, ...]:
    model = lowered.model
    reports = []
    for node, sources in model.wired():
        value, given = model.values[node.name], model.values[sources[0]]
        is_activation = isinstance(node, Threshold)
        reports.append(
            LayerReport(
                name=node.name,
                op=node.op,
                shape=value.shape,
                reachable=hull(value.ranges),
                kind=value.type,
                levels=node.levels if isinstance(node, Threshold) else 0,
                dead=tuple(c for c, i in enumerate(value.ranges) if i.low == i.high and node.op in COMPUTING),
                skipped=_skipped(node, given.ranges) if isinstance(node, Threshold) else 0,
                order_dependent=_order(lowered, node.name, given.ranges, given.sums) if is_activation else {},
                sums_round=node.adds and max(value.sums.magnitudes) > EXACT_FLOAT32,
            )
        )
    return tuple(reports)


def _skipped(node: Threshold, reachable: Ranges) -> int:
    lows = np.array([interval.low for interval in reachable])[:, None]
    highs = np.array([interval.high for interval in reachable])[:, None]
    upper, lower = node.thresholds[:, 1:], node.thresholds[:, :-1]
    return int(((upper == lower) & (lower > lows) & (upper <= highs)).sum())


def _order(lowered: Lowered, name: str, reachable: Ranges, sums: Sums) -> dict[int, int]:
    activations = lowered.activations[name]
    if any(activation.chain.floats is None for activation in activations):
        return {}
    counts = order_dependent(activations, reachable, sums.magnitudes, (sums.terms,) * len(activations))
    return {channel: count for channel, count in enumerate(counts) if count}


def _advice(
    layers: Sequence[LayerReport], proofs: Sequence[ProofEntry], lowered: Lowered, *, configured: bool
) -> tuple[str, ...]:
    advice = []
    advice_on_scales = ". model.scale: power-of-two and train.nudge: true avoid them" if configured else ""
    for layer in layers:
        if layer.order_dependent:
            named = [f"{channel} ({count})" for channel, count in layer.order_dependent.items()]
            advice.append(
                f"{layer.name}: float32 may decide {sum(layer.order_dependent.values())} accumulators either way, in "
                f"the channels {_listed(named)}: there torch and qonnx may differ, which a run counts as explained. "
                f"The integer model and every target are exact{advice_on_scales}"
            )
        if layer.sums_round:
            advice.append(
                f"{layer.name}: partial sums may exceed 2^24, so that float32 rounds them: no float executor is exact "
                "here. Fewer inputs, or fewer bits in weights or activations, avoid it"
            )
        if layer.dead:
            named = list(map(str, layer.dead))
            advice.append(
                f"{layer.name}: {len(layer.dead)} of {layer.shape[0]} channels give one code whatever comes in: "
                f"{_listed(named)}. They can be left out"
            )
        if layer.skipped:
            advice.append(
                f"{layer.name}: {layer.skipped} codes never occur, since the thresholds around them coincide: fewer "
                "bits may do"
            )
    for tensor, count, unequal in lowered.unequal_weights:
        if unequal:
            advice.append(
                f"{tensor}: {unequal} of {count} codes are what float32 division gives, as in the training; exact "
                "division would round them the other way"
            )
    advice += [f"{proof.layer}: this does not hold: {proof.claim}" for proof in proofs if not proof.holds]
    return tuple(dict.fromkeys(advice))


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
