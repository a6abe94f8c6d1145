"""The device as a calibrator sees it: programmed with a model, asked for a loss or, if it can, for output codes.

A device is anything that runs an integer model: the interpreter with simulated faults, onnxruntime, firmware in QEMU,
simulated RTL, a board. In scalar mode the calibrator holds a :class:`LossProbe` only, which gives back one number: it
cannot see the outputs, let alone what is wrong inside.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import IntegerModel
from bitproof.pipeline import Codes, Executor, InputError

Labels = NDArray[np.int64]
Rows = NDArray[np.int64]
"""Indices of samples."""


class Device(Protocol):
    """Something that an integer model can be programmed into, again and again."""

    def program(self, model: IntegerModel) -> Executor:
        """Load *model* and return what runs it.

        Raises:
            StageError: the device cannot carry out a layer of *model*; the message names it.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Labelled input codes.

    Attributes:
        codes: shape (N, inputs).
        labels: class of each sample, shape (N,), 0 to outputs - 1.
        origin: where they are from, for example ``validation[0:500]``.
    """

    codes: Codes
    labels: Labels
    origin: str

    def __post_init__(self) -> None:
        if not len(self.codes) or len(self.codes) != len(self.labels):
            raise InputError(
                f"{self.origin} holds {len(self.codes)} samples and {len(self.labels)} labels; calibration needs at "
                "least one sample, each with its label"
            )

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.codes)

    def take(self, rows: Rows) -> Samples:
        """Return the samples at the indices *rows*."""
        return Samples(self.codes[rows], self.labels[rows], f"{len(rows)} of {self.origin}")


@dataclass(frozen=True, slots=True, eq=False)
class LossProbe:
    """A device and samples, seen through one number: the mean cross-entropy of the device's outputs.

    Every call programs the device once and runs all samples once.
    """

    device: Device
    samples: Samples

    def on(self, rows: Rows) -> LossProbe:
        """Return the same device seen on the samples *rows* only."""
        return LossProbe(self.device, self.samples.take(rows))

    def __call__(self, model: IntegerModel) -> float:
        """Return the loss of *model* on the samples, in nats."""
        codes = self.device.program(model)(self.samples.codes)
        return cross_entropy(codes, self.samples.labels, float(model.output_scale))


@dataclass(frozen=True, slots=True, eq=False)
class LogitProbe:
    """A device whose output codes can be read, and samples; every call programs it once."""

    device: Device
    samples: Samples

    def on(self, rows: Rows) -> LogitProbe:
        """Return the same device seen on the samples *rows* only."""
        return LogitProbe(self.device, self.samples.take(rows))

    def __call__(self, model: IntegerModel) -> Codes:
        """Return the device's output codes for the samples, shape (N, outputs)."""
        return self.device.program(model)(self.samples.codes)


def log_softmax(codes: Codes, scale: float) -> NDArray[np.float64]:
    """Return the log-probabilities of logits ``codes * scale``, shape (N, classes)."""
    logits = (codes - codes.max(axis=1, keepdims=True)) * scale
    normalized: NDArray[np.float64] = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return normalized


def cross_entropy(codes: Codes, labels: Labels, scale: float) -> float:
    """Return the mean of ``-log softmax(codes * scale)[label]`` over the samples, in nats.

    *codes* has shape (N, classes), *labels* shape (N,); *scale* is the real value of one output code.
    """
    return -float(log_softmax(codes, scale)[np.arange(len(labels)), labels].mean())
