"""The calibrator by output codes: device-in-the-loop straight-through backpropagation, in NumPy.

The error at the outputs is the device's, whatever is wrong inside it; it is sent backward through the nominal integer
model, whose thresholds pass it on as the line that they approximate. Better than a scalar loss if the codes can be
read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bitproof.export.integer import IntegerModel, Product
from bitproof.hw.calibrate.adam import Adam
from bitproof.hw.calibrate.backpropagation import backpropagate
from bitproof.hw.calibrate.device import Labels, LogitProbe, log_softmax
from bitproof.hw.calibrate.evolution import Progress, silent
from bitproof.hw.calibrate.parameters import Parameters, Reals
from bitproof.pipeline import Codes, InputError

IMAGE_COST = 4
"""Device images that one image is charged as: forward on the device, forward and backward (two) through the model."""


@dataclass(frozen=True, slots=True)
class StraightThrough:
    """Backpropagation with the device's error at the outputs.

    Formula: ``d L / d logits = softmax(device) - onehot``; rounding counts as the identity, so a threshold unit has
    slope ``step / spacing`` within its range and 0 outside. All else is backpropagated as it is.
    Claim: biased: the hidden codes and the slopes are those of the nominal model, not of the device.
    Cost: one programming and *batch* device images per step; the host works three times as much again.
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
            gradient, of_weights = backpropagate(parameters, current, batch.samples.codes, codes, error)
            theta = adam.step(theta, gradient)
            weights.step(of_weights)
            progress(step + 1, self.steps, loss)
        return weights.put_into(parameters.model_of(theta))


class _Weights:
    """Real weights behind the integer ones: rounded, of no larger magnitude than a layer's largest, within its type."""

    def __init__(self, model: IntegerModel, rate: float | None, steps: int) -> None:
        nodes = model.products
        self._latent = {node.name: node.weights.astype(np.float64) for node in nodes}
        self._bounds = {node.name: _weight_bounds(node) for node in nodes}
        self._optimizers = None
        if rate is not None:
            self._optimizers = {node.name: Adam(node.weights.shape, rate=rate, steps=steps) for node in nodes}

    def put_into(self, model: IntegerModel) -> IntegerModel:
        """Return *model* with these weights."""
        if self._optimizers is None:
            return model
        nodes = (self._with_weights(node) if isinstance(node, Product) else node for node in model.nodes)
        return replace(model, nodes=tuple(nodes))

    def step(self, gradients: dict[str, Reals]) -> None:
        """Move the real weights; they stay within half a step of what can be represented."""
        if self._optimizers is None:
            return
        for name, adam in self._optimizers.items():
            low, high = self._bounds[name]
            self._latent[name] = np.clip(adam.step(self._latent[name], gradients[name]), low - 0.5, high + 0.5)

    def _with_weights(self, node: Product) -> Product:
        weights = np.clip(np.rint(self._latent[node.name]), *self._bounds[node.name]).astype(np.int64)
        return replace(node, weights=weights)


def _weight_bounds(node: Product) -> tuple[int, int]:
    largest = int(np.abs(node.weights).max())
    return max(-largest, node.weight_type.minimum), min(largest, node.weight_type.maximum)


def _error(codes: Codes, labels: Labels, scale: float) -> tuple[float, Reals]:
    """Return the mean cross-entropy of logits ``codes * scale`` and its gradient, shape (N, classes), by the logits."""
    logarithms = log_softmax(codes, scale)
    error = np.exp(logarithms)
    chosen = np.arange(len(labels)), labels
    error[chosen] -= 1.0
    return -float(logarithms[chosen].mean()), error / len(labels)
