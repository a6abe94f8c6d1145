"""The trained network itself as an executor: what torch and Brevitas really compute, in integer codes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import count
from math import prod

import numpy as np
import torch
from torch import nn

from bitproof.pipeline import Artifact, Codes, InputError, Observation, StageError, WeightSign
from bitproof.pipeline.float_error import PRECISION, sum_error
from bitproof.pipeline.output_coding import OutputCoding, Reals
from bitproof.pipeline.progress import Progress, silent
from bitproof.train.activations import ActivationLayer, activations_of
from bitproof.train.checkpoint import load_network
from bitproof.train.frozen import ACTIVATIONS
from bitproof.train.layers import Ends, ends_of, input_scale_of
from bitproof.train.watch import watched_quantizers

SAMPLES_AT_ONCE = 2000
ROWS_AT_ONCE = 1 << 15


class TorchExecutor:
    """The Brevitas checkpoint in evaluation mode, in binary32 on the CPU, and its activations one by one.

    Raises:
        InputError: the codes of its inputs or outputs have no known scale.
    """

    name = "torch"
    weight_sign: WeightSign = "trained"
    precision_bits = PRECISION

    def __init__(
        self, artifact: Artifact, outputs: OutputCoding | None = None, activations: tuple[str, ...] | None = None
    ) -> None:
        """Run the checkpoint in *artifact*.

        Args:
            artifact: the checkpoint.
            outputs: what the output codes stand for; None: as its own last layer has it, which must have one scale.
            activations: names in the integer model of its quantizers behind the input's, in the order in which they
                run; None: ``act0``, ``act1``, ...
        """
        self.progress: Progress = silent
        self._network, self._inputs = load_network(artifact)
        self._outputs = coding_of(ends_of(self._network, self._inputs)) if outputs is None else outputs
        self._input_scale = input_scale_of(self._network)
        self._layers: list[ActivationLayer | None] = activations_of(self._network, self._inputs)
        self._names = activations

    @property
    def output_scale(self) -> float:
        """Real value of one code of the first output."""
        return float(self._outputs.scales[0])

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), and return the output codes nearest to the real outputs.

        Raises:
            InputError: *codes* have another shape.
            StageError: an output stands for no code, by the error bound of its sum.
        """
        return self._outputs.nearest(self._values(codes), self.name)

    def observe(self, codes: Codes) -> Observation:
        """Run *codes*, shape (N, inputs), and return the codes of all quantizers behind the input's, and the outputs.

        No layer is shown if the quantizers are not as many as the integer model has.
        """
        with watched_quantizers(self._network) as shown:
            values = self._values(codes)
        layers = shown.layers(-(-len(codes) // SAMPLES_AT_ONCE))[1:]  # the first is the input's
        names = self._names_of(len(layers))
        known = dict(zip(names, layers, strict=True)) if len(names) == len(layers) else {}
        return Observation(known, self._outputs.in_codes(values), self._outputs.nearest(values, self.name))

    @torch.no_grad()
    def _values(self, codes: Codes) -> Reals:
        """Return the real outputs of *codes*, shape (N, outputs), binary64."""
        if codes.ndim != 2 or codes.shape[1] != self._inputs:
            raise InputError(f"{self.name}: input codes have shape {codes.shape}; expected (N, {self._inputs})")
        pieces = [np.empty((0, len(self._outputs.scales)))]
        for start in range(0, len(codes), SAMPLES_AT_ONCE):
            if len(codes) > SAMPLES_AT_ONCE:  # else the caller knows more
                self.progress("samples", start, len(codes))
            chosen = torch.from_numpy(codes[start : start + SAMPLES_AT_ONCE].astype(np.float32))
            values = self._network(chosen * self._input_scale)
            outputs = np.asarray(getattr(values, "value", values), dtype=np.float64).reshape(len(chosen), -1)
            if outputs.shape[1] != pieces[0].shape[1]:
                raise InputError(
                    f"{self.name}: the network gives {outputs.shape[1]} outputs, the integer model "
                    f"{pieces[0].shape[1]}; run 'bitproof run' again"
                )
            pieces.append(outputs)
        return np.concatenate(pieces)

    def _names_of(self, layers: int) -> tuple[str, ...]:
        return self._names or tuple(f"act{number}" for number in range(layers))

    def requantizes(self, node: str) -> bool:
        """Tell whether the activation *node* can be run alone; behind one that cannot, their names are not certain."""
        names = self._names_of(len(self._layers))[: len(self._layers)]
        return node in names and None not in self._layers[: names.index(node) + 1]

    def requantize(self, node: str, first: int, last: int) -> Codes:
        """Run the activation *node*, with the batch norm or mean before it, on the accumulators *first* to *last*.

        Raises:
            StageError: float32 cannot tell its codes apart, or a value stands for no code.
        """
        channels = len(self._known(node).accumulators.scales)
        accumulators = np.arange(first, last + 1, dtype=np.int64)[:, None]
        codes: Codes = self.requantize_at(node, np.broadcast_to(accumulators, (len(accumulators), channels)))
        return codes

    @torch.no_grad()
    def requantize_at(self, node: str, accumulators: Codes) -> Codes:
        """Run the activation *node*, with the batch norm or mean before it, on *accumulators*, shape (N, channels).

        Raises:
            StageError: float32 cannot tell its codes apart, or a value stands for no code.
        """
        found = self._known(node)
        rows = max(1, ROWS_AT_ONCE // prod(found.accumulators.sizes))
        channels = len(found.accumulators.scales)
        magnitudes = [found.output.magnitude] * channels
        pieces = [np.zeros((0, channels), dtype=np.int64)]
        for start in range(0, len(accumulators), rows):
            chosen = accumulators[start : start + rows].copy()  # torch takes no read-only array
            outputs = found.run(torch.from_numpy(chosen))
            at = int(chosen[0, 0])
            pieces.append(_to_codes(outputs, found.output.scale, magnitudes, 1, f"accumulator {at} +"))
        return np.concatenate(pieces)

    def why_monotone(self, node: str, lows: Codes, highs: Codes) -> str:
        """Say why the activation *node* is monotone; only layers of which that is known can be run alone."""
        del lows, highs  # float32 does not wrap
        found = self._known(node)
        mean = "" if found.pool is None else "a sum with zeros and its quotient by their number, "
        norm = "" if found.norm is None else "batch norm by one factor and one term a channel, "
        return (
            f"each float32 step is monotone and rounded to nearest (a product with the scale, {mean}{norm}a clamp, the "
            "division by the quantizer's scale, rounding)"
        )

    @torch.no_grad()
    def trace(self, codes: Codes) -> dict[str, Codes]:
        """Run *codes*, shape (N, inputs), and return the codes of every activation, by its name.

        Accumulators are left out: their signs are those of the training, and their sums are never seen as integers.

        Returns:
            Shape (N, *sample); the activations that :meth:`requantizes` knows.
        """
        names = [name for name in self._names_of(len(self._layers)) if self.requantizes(name)]
        known = [self._known(name) for name in names]
        found: list[list[Codes]] = [[] for _ in known]
        runs = count()

        def keep(_module: nn.Module, _inputs: object, outputs: torch.Tensor) -> None:
            layer = next(runs) % (len(self._layers) + 1) - 1  # the first is the input's
            if 0 <= layer < len(known):
                values, coding = getattr(outputs, "value", outputs), known[layer].output
                flat, rows = values.flatten(1), sum(map(len, found[layer]))
                magnitudes = [coding.magnitude] * flat.shape[1]
                pieces = _to_codes(flat, coding.scale, magnitudes, 1, f"{names[layer]}, sample {rows} +")
                found[layer].append(pieces.reshape(values.shape))

        quantizers = [module for module in self._network.modules() if isinstance(module, ACTIVATIONS)]
        hooks = [quantizer.register_forward_hook(keep) for quantizer in quantizers]
        try:
            self(codes)
        finally:
            for hook in hooks:
                hook.remove()
        return {name: np.concatenate(pieces) for name, pieces in zip(names, found, strict=True) if pieces}

    def _known(self, node: str) -> ActivationLayer:
        found = self._layers[self._names_of(len(self._layers)).index(node)] if self.requantizes(node) else None
        assert found is not None, f"activation {node} cannot be run alone; ask requantizes first"
        return found


def coding_of(ends: Ends) -> OutputCoding:
    """Return what the output codes of a network with these *ends* stand for."""
    scale = ends.output_scale
    errors = [sum_error(Fraction(scale), Fraction(0), magnitude, ends.terms) for magnitude in ends.magnitudes]
    return OutputCoding(np.full(ends.outputs, scale), np.zeros(ends.outputs), np.array(errors))


def _to_codes(outputs: torch.Tensor, scale: float, magnitudes: Sequence[int], terms: int, row_name: str) -> Codes:
    """Return the codes nearest to *outputs*, plain or a brevitas QuantTensor, shape (N, channels), divided by *scale*.

    Args:
        outputs: real values.
        scale: real value of one code.
        magnitudes: for each channel a bound on the sum of the magnitudes of its terms, in codes.
        terms: how many terms its sum has.
        row_name: what row 0 is called in messages.

    Raises:
        StageError: the float32 error of a sum reaches half a step, or a value is further than that from every code.
    """
    values = np.asarray(getattr(outputs, "value", outputs), dtype=np.float64)
    each = {magnitude: sum_error(Fraction(scale), Fraction(0), magnitude, terms) for magnitude in set(magnitudes)}
    errors = np.array([each[magnitude] for magnitude in magnitudes])
    if (2 * errors >= scale).any():
        channel = int(errors.argmax())
        raise StageError(
            f"torch: float32 cannot tell the codes of channel {channel} apart: the order of its sum of {terms} terms "
            f"moves it by up to {errors[channel] / scale:.3g} steps; use power-of-two scales, or fewer bits or inputs"
        )
    codes: Codes = np.rint(values / scale).astype(np.int64)
    off_grid = np.argwhere(np.abs(codes * scale - values) > errors)
    if len(off_grid):
        row, channel = (int(i) for i in off_grid[0])
        raise StageError(
            f"torch: {row_name} {row}, channel {channel}: {float(values[row, channel])!r} is further than the float32 "
            f"error {float(errors[channel])!r} from every whole multiple of the scale {scale!r}"
        )
    return codes
