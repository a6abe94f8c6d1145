"""The executor, which every form of the network has in common: integer codes in, integer codes out.

An executor runs one artifact: the Brevitas checkpoint, the QONNX file, the integer model, an ONNX file,
FINN's hardware graph, simulated RTL, firmware. All are compared with the integer model. The smaller
protocols let a check reach single parts of an artifact, because whole images alone do not verify every
threshold and every weight.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from bitproof.pipeline.artifact import Artifact
from bitproof.pipeline.toolchain import Tool

Codes = NDArray[np.int64]
"""Integer codes; the unit is one quantization step. Shape is stated where it is used."""

WeightSign = Literal["trained", "lowered"]
"""Which sign the accumulators of a channel with a negative batch-norm slope have.

``trained``: as trained, so the output code falls while the accumulator rises. ``lowered``: the channel's
weights were negated when the network was lowered, so every channel rises.
"""


class Executor(Protocol):
    """Runs one artifact on integer input codes and returns integer output codes."""

    @property
    def name(self) -> str:
        """Name in the ledger, for example ``onnx-int8`` or ``c:cortex-m4``."""
        ...

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), and return the output codes, shape (N, outputs)."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """What an executor is made of, and where it may write.

    Attributes:
        artifact: what it runs.
        integer: the integer model of the same run.
        workdir: an existing folder for its files.
        cache: a folder for compiled simulators, shared between runs.
    """

    artifact: Artifact
    integer: Artifact
    workdir: Path
    cache: Path


class FlipsWeightBit(Protocol):
    """Flips one bit of a weight in a copy of an artifact."""

    def __call__(self, folder: Path, *, node: str, row: int, column: int) -> str:
        """Flip it in the artifact's files in *folder*, and say in words which bit of what it was.

        *node* names a node of the integer model that holds weights, *row* is the output channel, and *column* counts
        its weights in C order.
        """
        ...


@dataclass(frozen=True, slots=True)
class ExecutorPlan:
    """An executor of a run, before anything that it needs is imported.

    Attributes:
        name: in the ledger.
        file_name: in file names, and in the name of its check as a stage.
        source: name of the stage whose artifact it runs.
        about: what it is, for readers of the report.
        make: imports and returns the executor.
        flip: how a bit of its artifact is flipped; None: it offers no weights.
        tools: the programs that run it, whose versions belong in the ledger.
        evaluations: how many evaluations a calibration spends on it by default, by what it may read of the outputs;
            empty: the budgets of the published figures, if a programming takes no time.
        takes_output_bias: a calibration may add a bias to its outputs.
        samples: how many of the run's vectors it is compared on at most, the first ones; None: on all. Where they are
            fewer than all, it has no accuracy.
    """

    name: str
    file_name: str
    source: str
    about: str
    make: Callable[[Place], Executor] = field(compare=False)
    flip: FlipsWeightBit | None = field(default=None, compare=False)
    tools: tuple[Tool, ...] = ()
    evaluations: Mapping[str, int] = field(default_factory=dict)
    takes_output_bias: bool = True
    samples: int | None = None

    @property
    def check(self) -> str:
        """The name of its check among the stages of a run."""
        return f"check-{self.file_name}"


@runtime_checkable
class Requantizer(Protocol):
    """An executor whose activations can be run one by one, on accumulators of our choice."""

    @property
    def weight_sign(self) -> WeightSign:
        """Sign convention of the accumulators that :meth:`requantize` takes."""
        ...

    def requantize(self, node: str, first: int, last: int) -> Codes:
        """Run the activation *node* on every accumulator from *first* to *last*, inclusive.

        Row ``a`` of the result, shape (last - first + 1, channels), holds the output codes when the
        accumulator of every channel is ``first + a``. *node* is its name in the integer model.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Observation:
    """What a float evaluation of a network gives, before anything is rounded to the codes of its outputs.

    Attributes:
        layers: codes of the activations that it shows, by the name of the node of the integer model, shape
            (N, *sample shape).
        outputs: the real outputs in units of the output codes, ``(number - offset) / scale``, not rounded; shape
            (N, outputs), in the order of the integer model's output codes.
        codes: the output codes nearest to them, the same shape.
    """

    layers: Mapping[str, Codes]
    outputs: NDArray[np.float64]
    codes: Codes


@runtime_checkable
class FloatReference(Protocol):
    """An executor that evaluates the network in floats, and so may round a number beside a boundary the other way.

    The integer model is the definition; what such an executor gives otherwise must be explained by its rounding errors.
    """

    @property
    def name(self) -> str:
        """Name in the ledger."""
        ...

    @property
    def precision_bits(self) -> int:
        """Bits of the significand of its floats: 24 or 53."""
        ...

    def observe(self, codes: Codes) -> Observation:
        """Run *codes*, shape (N, inputs), and return what its activations and outputs are."""
        ...


@runtime_checkable
class PointRequantizer(Protocol):
    """A requantizer that takes any accumulators, and knows why its codes never turn back while they rise."""

    def requantize_at(self, node: str, accumulators: Codes) -> Codes:
        """Run the activation *node* on *accumulators*, shape (N, channels), each for its channel.

        Returns:
            The output codes, same shape. The signs of the accumulators are those of :meth:`Requantizer.requantize`.
        """
        ...

    def why_monotone(self, node: str, lows: Codes, highs: Codes) -> str | None:
        """Say why the activation *node* is decided by its values at both ends of every run of one code.

        That is so if each step from the accumulator to the code is monotone, and for a search in a table, whose path
        depends on nothing but comparisons that the ends of the run decide, too.

        Args:
            node: its name in the integer model.
            lows: least accumulator of each channel, shape (channels,), in the signs of :meth:`requantize_at`.
            highs: largest.

        Returns:
            The reason, for the ledger; None if nothing of this kind is claimed.
        """
        ...


@runtime_checkable
class MatrixUnit(Protocol):
    """An executor whose matrix-vector units can be run one by one."""

    def multiply(self, node: str, codes: Codes) -> Codes:
        """Run the matrix unit of *node*, a product of the integer model, on *codes*, shape (N, inputs).

        A convolution takes what one of its windows shows, shape (channels, *kernel) as a vector.

        Returns:
            The accumulators, shape (N, outputs).
        """
        ...


@runtime_checkable
class PairedMatrixUnit(Protocol):
    """A :class:`MatrixUnit` that multiplies several vectors at once, which may stand at any place among them."""

    def turns(self, node: str) -> int:
        """Return how many vectors *node* multiplies at once."""
        ...

    def multiply(self, node: str, codes: Codes, turn: int = 0) -> Codes:
        """Do as :class:`MatrixUnit` does, with each vector *turn* places on among those that are multiplied at once.

        In as many turns as :meth:`turns` says each vector is at every place.
        """
        ...


@runtime_checkable
class LayerTracer(Protocol):
    """An executor that shows what its layers give."""

    def trace(self, codes: Codes) -> Mapping[str, Codes]:
        """Run *codes*, shape (N, inputs), and return the codes of every layer that can be seen.

        Returns:
            By the name of the node of the integer model, in its sign convention, shape (N, *sample shape).
        """
        ...
