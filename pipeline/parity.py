"""Bit-exact comparison of two executors. There is no tolerance, by design."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.errors import GateError
from bitproof.pipeline.executor import Codes, Executor
from bitproof.pipeline.vectors import Vectors


def outputs_sha256(codes: Codes) -> str:
    """Return the SHA-256 of *codes*, shape (samples, outputs), as little-endian int64 in C order."""
    return sha256_of_bytes(np.ascontiguousarray(codes, dtype="<i8").tobytes())


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The first differing code.

    Attributes:
        sample: index of the sample within the vectors.
        output: index of the output (the class, for a classifier).
        expected: the integer model's code.
        actual: the other executor's code.
    """

    sample: int
    output: int
    expected: int
    actual: int


@dataclass(frozen=True, slots=True)
class Unexplained:
    """The first code of a float reference that the rounding errors of floats do not explain.

    Attributes:
        layer: name of the node of the integer model.
        sample: index of the sample within the vectors.
        channel: channel of the layer.
        position: within the channel; empty for vectors.
        accumulator: the exact one, of the codes that the reference itself gave before the layer.
        expected: the exact code.
        actual: the reference's code.
    """

    layer: str
    sample: int
    channel: int
    position: tuple[int, ...]
    accumulator: int
    expected: int
    actual: int

    def __str__(self) -> str:
        where = f", position {self.position}" if self.position else ""
        return (
            f"layer {self.layer}, sample {self.sample}, channel {self.channel}{where}: accumulator {self.accumulator} "
            f"gives code {self.expected}, got {self.actual}"
        )


@dataclass(frozen=True, slots=True)
class ParityReport:
    """What was compared and what came out; counts are in codes, not samples.

    Only of a float reference differences may be *explained*: by the rounding errors of floats, layer by layer from the
    input (:mod:`bitproof.export.float_reference`). *explained_layers* counts those of every layer, *unexplained* is the
    first that is not explained, in whatever layer.
    """

    expected: str
    actual: str
    origin: str
    samples: int
    compared: int
    differing: int
    first: Mismatch | None
    outputs_sha256: str
    explained: int = 0
    explained_layers: Mapping[str, int] = field(default_factory=dict)
    unexplained: Unexplained | None = None

    @property
    def ok(self) -> bool:
        """Every code was equal or its difference is explained, and there was at least one."""
        return self.compared > 0 and self.differing == self.explained and self.unexplained is None

    def summary(self) -> str:
        """Say in one line what was compared, and the first code that differs."""
        head = f"{self.actual} against {self.expected} on {self.origin}"
        if self.compared == 0:
            return f"{head}: nothing was compared"
        if self.first is None and self.unexplained is None:
            return f"{head}: {self.compared} codes, all equal"
        if self.first is None:
            return (
                f"{head}: {self.compared} codes equal, but a layer before them is not; unexplained: {self.unexplained}"
            )
        at = self.first
        differ = f"{self.differing} of {self.compared} codes differ"
        if self.ok:
            return f"{head}: {differ}, each explained by a float rounding error at a boundary"
        if self.explained:
            differ += f", {self.explained} of them explained by float rounding errors"
        first = f"first at image {at.sample}, class {at.output}: expected code {at.expected}, got {at.actual}"
        return f"{head}: {differ}, {first}" + (f"; unexplained: {self.unexplained}" if self.unexplained else "")

    def require(self) -> None:
        """Raise GateError unless every code was equal and there was at least one."""
        if not self.ok:
            raise GateError(self.summary())


def compare_codes(expected: Codes, actual: Codes, *, names: tuple[str, str], origin: str) -> ParityReport:
    """Compare two arrays of output codes, shape (N, outputs); nothing is reshaped, cast or rounded.

    Raises:
        TypeError: one of them does not hold integers.
        ValueError: their shapes differ.
    """
    for codes, name in zip((expected, actual), names, strict=True):
        if not np.issubdtype(codes.dtype, np.integer):
            raise TypeError(f"{name} returned {codes.dtype}; an executor returns integer codes")
    if expected.shape != actual.shape:
        raise ValueError(f"{names[1]} returned shape {actual.shape}; {names[0]} returned {expected.shape}")
    differs = np.argwhere(expected != actual)
    first = None
    if len(differs):
        sample, output = (int(i) for i in differs[0])
        first = Mismatch(sample, output, int(expected[sample, output]), int(actual[sample, output]))
    return ParityReport(
        expected=names[0],
        actual=names[1],
        origin=origin,
        samples=len(expected),
        compared=int(expected.size),
        differing=len(differs),
        first=first,
        outputs_sha256=outputs_sha256(actual),
    )


@dataclass(frozen=True, slots=True)
class ParityCheck:
    """Claim: *actual* and *expected* give equal codes on *vectors*."""

    expected: Executor
    actual: Executor
    vectors: Vectors

    def run(self) -> ParityReport:
        """Run both executors and compare them code by code.

        Raises:
            TypeError: an executor returned something other than integers.
            ValueError: the two outputs have different shapes.
        """
        return compare_codes(
            self.expected(self.vectors.codes),
            self.actual(self.vectors.codes),
            names=(self.expected.name, self.actual.name),
            origin=self.vectors.origin,
        )
