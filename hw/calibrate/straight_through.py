"""Calibrate where output codes can be read: device-in-the-loop straight-through backpropagation, in NumPy.

The error at the outputs is the device's, whatever is wrong inside it; it is sent backward through the nominal integer
model, whose thresholds pass it on as the line that they approximate. Better than a scalar loss where it is available.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from export.integer import IntegerModel, IntegerType, MatMul, Threshold, trace
from hw.calibrate.adam import Adam
from hw.calibrate.device import Labels, LogitProbe, log_softmax
from hw.calibrate.evolution import Progress, silent
from hw.calibrate.parameters import RELATIVE_STEP, Parameters, Reals
from hw.faults import spacing_of
from pipeline import Codes, InputError

IMAGE_COST = 4
"""Device images that one image is charged as: forward on the device, forward and backward (two) through the model."""


@dataclass(frozen=True, slots=True)
class StraightThrough:
    """Backpropagation with the device's error at the outputs.

    Formula: ``d L / d logits = softmax(device) - onehot``; rounding counts as the identity, so a threshold unit has
    slope ``1 / spacing`` within its range and 0 outside.
    Claim: biased: the hidden codes and the slopes are those of the nominal model, not of the device.
    Cost: one programming and *batch* device images a step; the host works three times as much again.
    Source: Bengio, Leonard, Courville 2013, arXiv 1308.3432; chip in the loop: Schmitt et al., "Neuromorphic hardware
    in the loop: Training a deep spiking network on the BrainScaleS wafer-scale system", 2017, arXiv 1703.01909.

    Attributes:
        steps: number of updates.
        batch: images of a batch, at most those that there are.
        rate: learning rate of the few parameters at the first step.
        weight_rate: learning rate of the weights, in units of a weight step; None: weights stay as they are.
    """

    steps: int = 750
    batch: int = 128
    rate: float = 0.01
    weight_rate: float | None = 0.01

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rate", "weight_rate"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise InputError(f"calibration: {name} = {value} is not possible; it must be positive")

    @property
    def evaluations(self) -> int:
        """Programmings of the device, each followed by one batch."""
        return self.steps

    def __call__(
        self, parameters: Parameters, probe: LogitProbe, generator: np.random.Generator, progress: Progress = silent
    ) -> IntegerModel:
        """Return the calibrated model; batches are drawn from *generator*."""
        theta: Reals = np.zeros(parameters.size)
        adam = Adam(theta.shape, rate=self.rate, steps=self.steps)
        weights = _Weights(parameters.model, self.weight_rate, self.steps)
        samples = len(probe.samples)
        for step in range(self.steps):
            batch = probe.on(generator.choice(samples, size=min(self.batch, samples), replace=False))
            current = weights.put_into(parameters.model_of(theta))
            codes = batch(current)
            loss, error = _error(codes, batch.samples.labels, float(current.output_scale))
            gradient, of_weights = _backward(parameters, current, batch.samples.codes, codes, error)
            theta = adam.step(theta, gradient)
            weights.step(of_weights)
            progress(step + 1, self.steps, loss)
        return weights.put_into(parameters.model_of(theta))


class _Weights:
    """Real weights behind the integer ones; rounded and clipped to the largest magnitude that the model has."""

    def __init__(self, model: IntegerModel, rate: float | None, steps: int) -> None:
        self._latent = [node.weights.astype(np.float64) for node in model.matmuls]
        self._largest = [float(np.abs(node.weights).max()) for node in model.matmuls]
        shapes = [latent.shape for latent in self._latent]
        self._optimizers = None if rate is None else [Adam(shape, rate=rate, steps=steps) for shape in shapes]

    def put_into(self, model: IntegerModel) -> IntegerModel:
        """Return *model* with these weights."""
        if self._optimizers is None:
            return model
        pairs = zip(model.matmuls, self._latent, self._largest, strict=True)
        changed = {node.name: _with_weights(node, np.clip(np.rint(w), -m, m)) for node, w, m in pairs}
        return replace(model, nodes=tuple(changed.get(node.name, node) for node in model.nodes))

    def step(self, gradients: list[Reals]) -> None:
        """Move the real weights; they stay within half a step of what can be represented."""
        if self._optimizers is None:
            return
        for index, (adam, gradient) in enumerate(zip(self._optimizers, gradients, strict=True)):
            bound = self._largest[index] + 0.5
            self._latent[index] = np.clip(adam.step(self._latent[index], gradient), -bound, bound)


def _with_weights(node: MatMul, rounded: Reals) -> MatMul:
    weights = rounded.astype(np.int64)
    low, high = int(weights.min()), int(weights.max())
    held = node.weight_type.minimum <= low and high <= node.weight_type.maximum
    return MatMul(node.name, weights, node.weight_type if held else IntegerType.smallest_for(low, high))


def _error(codes: Codes, labels: Labels, scale: float) -> tuple[float, Reals]:
    """Return the mean cross-entropy of logits ``codes * scale`` and its gradient, shape (N, classes), by the logits."""
    logarithms = log_softmax(codes, scale)
    error = np.exp(logarithms)
    chosen = np.arange(len(labels)), labels
    error[chosen] -= 1.0
    return -float(logarithms[chosen].mean()), error / len(labels)


def _backward(
    parameters: Parameters, model: IntegerModel, inputs: Codes, outputs: Codes, error: Reals
) -> tuple[Reals, list[Reals]]:
    """Send *error* (by the logits) backward through *model*; return the gradients by theta and by every weight matrix.

    *inputs* are the samples' codes, shape (N, inputs), *outputs* the device's, shape (N, outputs).
    """
    scale, nominal = float(model.output_scale), float(parameters.model.output_scale)
    gradient = np.zeros(parameters.size)
    gradient[0] = RELATIVE_STEP * scale * float((error * outputs).sum())
    gradient[1 : 1 + parameters.biases] = (scale / nominal * error.sum(axis=0))[: parameters.biases]
    of = {node.name: (a, b) for node, a, b in parameters.slices(gradient)}
    values = trace(model, inputs)
    names = ["", *(node.name for node in model.nodes)]
    flowing = error * scale
    weights: list[Reals] = []
    for node, before in zip(reversed(model.nodes), reversed(names[:-1]), strict=True):
        source = values[before] if before else inputs
        if isinstance(node, MatMul):
            weights.insert(0, flowing.T @ source)
            if before:
                flowing = flowing @ node.weights
        elif isinstance(node, Threshold):
            flowing = _through_thresholds(node, source, flowing, of.get(node.name))
    return gradient, weights


def _through_thresholds(
    node: Threshold, accumulators: Codes, flowing: Reals, parameters: tuple[Reals, Reals] | None
) -> Reals:
    """Return the gradient by the accumulators; write those by a and b into *parameters*, if there are any."""
    spacing = spacing_of(node)
    first, last = node.thresholds[:, 0], node.thresholds[:, -1]
    sloped = (accumulators >= first - spacing / 2) & (accumulators < last + spacing / 2)
    flowing = flowing * sloped
    if parameters is not None:
        a, b = parameters
        distance = (accumulators - node.thresholds.mean(axis=1)) / spacing
        a[:] = -RELATIVE_STEP * (flowing * distance).sum(axis=0)
        b[:] = -flowing.sum(axis=0)
    return flowing / spacing
