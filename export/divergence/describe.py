"""A divergence in numbers: both operands, both accumulators, both codes, the thresholds around."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bitproof.export.divergence.cause import Finding
from bitproof.export.divergence.locate import Evidence
from bitproof.export.integer import Conv, IntegerModel, MatMul, Product, Threshold
from bitproof.pipeline import Codes

SHOWN_INPUTS = 64


@dataclass(frozen=True, slots=True)
class Divergence:
    """Where two executors first diverge, and why.

    Attributes:
        layer: name of the node of the integer model.
        op: its operation.
        channel: first channel that differs.
        position: first position within it; empty for vectors.
        sample: first sample.
        differing: how many codes of the layer differ, of all that were compared in the same pass.
        of: how many there are.
        channels: how many channels differ.
        inputs: the codes that go into the accumulator, if they are few.
        inputs_agree: both executors are known to see these inputs.
        expected: the integer model's number at this place.
        actual: the other's.
        accumulators: both accumulators, if the layer has them.
        codes: both codes of the activation, if there is one.
        below: the largest threshold that the expected accumulator meets.
        above: the smallest one that it does not.
        finding: the cause.
    """

    layer: str
    op: str
    channel: int
    position: tuple[int, ...]
    sample: int
    differing: int
    of: int
    channels: int
    inputs: tuple[int, ...] | None
    inputs_agree: bool
    expected: int
    actual: int
    accumulators: tuple[int, int] | None
    codes: tuple[int, int] | None
    below: int | None
    above: int | None
    finding: Finding

    def as_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "layer": self.layer,
            "op": self.op,
            "channel": self.channel,
            "position": list(self.position),
            "sample": self.sample,
            "differing": self.differing,
            "of": self.of,
            "channels": self.channels,
            "inputs": None if self.inputs is None else list(self.inputs),
            "inputs_agree": self.inputs_agree,
            "expected": self.expected,
            "actual": self.actual,
            "accumulators": None if self.accumulators is None else list(self.accumulators),
            "codes": None if self.codes is None else list(self.codes),
            "threshold_below": self.below,
            "threshold_above": self.above,
            "cause": str(self.finding.cause),
            "detail": self.finding.detail,
            "facts": self.finding.facts,
        }

    def lines(self) -> list[str]:
        """Return the same for a reader."""
        where = f", position {self.position}" if self.position else ""
        lines = [
            f"first divergence: layer {self.layer} ({self.op}), channel {self.channel}{where}, sample {self.sample}",
            f"  {self.differing} of {self.of} codes of the layer differ, in {self.channels} channels",
        ]
        if self.inputs is not None:
            both = "both" if self.inputs_agree else "the integer model; the other's cannot be seen"
            lines.append(f"  inputs ({both}): {' '.join(map(str, self.inputs))}")
        if self.accumulators is not None:
            lines.append(f"  accumulator: expected {self.accumulators[0]}, actual {self.accumulators[1]}")
        if self.codes is not None:
            lines.append(f"  code: expected {self.codes[0]}, actual {self.codes[1]}")
        if self.accumulators is None and self.codes is None:
            lines.append(f"  expected {self.expected}, actual {self.actual}")
        if self.below is not None or self.above is not None:
            shown = ["none" if t is None else str(t) for t in (self.below, self.above)]
            lines.append(f"  thresholds around: met {shown[0]}, next {shown[1]}")
        return [*lines, f"  cause: {self.finding.cause}: {self.finding.detail}"]


def describe(model: IntegerModel, evidence: Evidence, finding: Finding) -> Divergence:
    """Return what *evidence* and *finding* say, in numbers."""
    node, site = evidence.node, evidence.first
    expected, actual = evidence.at(evidence.expected), evidence.at(evidence.actual)
    activation, accumulators, codes = None, None, None
    if isinstance(node, Threshold):
        activation = node
        same = evidence.at(evidence.sources[0])
        accumulators = (same, same) if evidence.inputs_agree else None
        codes = (expected, actual)
    else:
        accumulators = (expected, actual) if isinstance(node, Product) else None
        activation = next((n for n, s in model.wired() if isinstance(n, Threshold) and s == (node.name,)), None)
        if activation is not None:
            codes = (_code(activation, site.channel, expected), _code(activation, site.channel, actual))
    below, above = None, None
    if activation is not None:
        reference = evidence.at(evidence.sources[0]) if isinstance(node, Threshold) else expected
        row = activation.thresholds[site.channel]
        met = int((row <= reference).sum())
        below = int(row[met - 1]) if met else None
        above = int(row[met]) if met < len(row) else None
    differs = evidence.expected != evidence.actual
    return Divergence(
        layer=node.name,
        op=node.op,
        channel=site.channel,
        position=site.position,
        sample=evidence.offset + site.sample,
        differing=int(differs.sum()),
        of=int(differs.size),
        channels=int(np.moveaxis(differs, 1, 0).reshape(differs.shape[1], -1).any(axis=1).sum()),
        inputs=_operands(evidence),
        inputs_agree=evidence.inputs_agree,
        expected=expected,
        actual=actual,
        accumulators=accumulators,
        codes=codes,
        below=below,
        above=above,
        finding=finding,
    )


def _code(node: Threshold, channel: int, accumulator: int) -> int:
    return node.lowest + node.step * int((node.thresholds[channel] <= accumulator).sum())


def _operands(evidence: Evidence) -> tuple[int, ...] | None:
    """Return the input codes of the first accumulator that differs, if there are few."""
    node, site = evidence.node, evidence.first
    codes: Codes
    if isinstance(node, MatMul):
        codes = evidence.sources[0][site.sample]
    elif isinstance(node, Conv):
        members = node.weights.shape[1]
        start = site.channel // (node.outputs // node.groups) * members
        source = evidence.sources[0][[site.sample], start : start + members]
        padded = node.window.pad(source, 0)[0]
        spans = zip(site.position, node.window.strides, node.window.kernel, node.window.dilations, strict=True)
        cuts = [slice(p * s, p * s + (k - 1) * d + 1, d) for p, s, k, d in spans]
        codes = padded[(slice(None), *cuts)].reshape(-1)
    elif isinstance(node, Threshold) or any(s.shape != evidence.expected.shape for s in evidence.sources):
        return None
    else:
        codes = np.array([evidence.at(source) for source in evidence.sources])
    return tuple(codes.tolist()) if codes.size <= SHOWN_INPUTS else None
