"""The trained network itself as an executor: what torch and Brevitas really compute, in integer codes."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import count
from math import prod

import numpy as np
import torch
from torch import nn

from pipeline import Artifact, Codes, InputError, StageError, WeightSign
from pipeline.float_error import sum_error
from train.activations import ActivationLayer, activations_of
from train.checkpoint import load_network
from train.frozen import ACTIVATIONS
from train.layers import Ends, ends_of

SAMPLES_AT_ONCE = 2000
ROWS_AT_ONCE = 1 << 15


class TorchExecutor:
    """The Brevitas checkpoint in evaluation mode, in binary32 on the CPU, and its activations one by one.

    Raises:
        InputError: the codes of its inputs or outputs have no known scale.
    """

    name = "torch"
    weight_sign: WeightSign = "trained"
    float_reference = True

    def __init__(self, artifact: Artifact) -> None:
        self._network, self._inputs = load_network(artifact)
        self._ends: Ends = ends_of(self._network, self._inputs)
        self._layers: list[ActivationLayer | None] = activations_of(self._network, self._inputs)

    @property
    def output_scale(self) -> float:
        """Real value of one output code."""
        return self._ends.output_scale

    @torch.no_grad()
    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs); outputs are the nearest codes, which the error of their sums must single out.

        Raises:
            InputError: *codes* have another shape.
            StageError: float32 cannot tell the codes of an output apart, or an output stands for no code.
        """
        if codes.ndim != 2 or codes.shape[1] != self._inputs:
            raise InputError(f"{self.name}: input codes have shape {codes.shape}; expected (N, {self._inputs})")
        ends = self._ends
        outputs = [np.empty((0, ends.outputs), dtype=np.int64)]
        for start in range(0, len(codes), SAMPLES_AT_ONCE):
            chosen = codes[start : start + SAMPLES_AT_ONCE].astype(np.float32)
            values = self._network(torch.from_numpy(chosen) * ends.input_scale)
            outputs.append(_to_codes(values, ends.output_scale, ends.magnitudes, ends.terms, f"sample {start} +"))
        return np.concatenate(outputs)

    def requantizes(self, layer: int) -> bool:
        """Tell whether activation *layer* can be run alone; behind one that cannot, their numbers are not certain."""
        return layer < len(self._layers) and None not in self._layers[: layer + 1]

    def requantize(self, layer: int, first: int, last: int) -> Codes:
        """Run activation *layer*, with the batch norm or mean before it, on every accumulator from *first* to *last*.

        Raises:
            StageError: float32 cannot tell its codes apart, or a value stands for no code.
        """
        channels = len(self._known(layer).accumulators.scales)
        accumulators = np.arange(first, last + 1, dtype=np.int64)[:, None]
        codes: Codes = self.requantize_at(layer, np.broadcast_to(accumulators, (len(accumulators), channels)))
        return codes

    @torch.no_grad()
    def requantize_at(self, layer: int, accumulators: Codes) -> Codes:
        """Run activation *layer*, with the batch norm or mean before it, on *accumulators*, shape (N, channels).

        Raises:
            StageError: float32 cannot tell its codes apart, or a value stands for no code.
        """
        found = self._known(layer)
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

    def why_monotone(self, layer: int, lows: Codes, highs: Codes) -> str:
        """Say why activation *layer* is monotone; only layers of which that is known can be run alone."""
        del lows, highs  # float32 does not wrap
        found = self._known(layer)
        mean = "" if found.pool is None else "a sum with zeros and its quotient by their number, "
        norm = "" if found.norm is None else "batch norm by one factor and one term a channel, "
        return (
            f"each float32 step is monotone and rounded to nearest (a product with the scale, {mean}{norm}a clamp, the "
            "division by the quantizer's scale, rounding)"
        )

    @torch.no_grad()
    def trace(self, codes: Codes) -> dict[str, Codes]:
        """Run *codes*, shape (N, inputs), and return the codes of every activation, ``act0``, ``act1``, ...

        Accumulators are left out: their signs are those of the training, and their sums are never seen as integers.

        Returns:
            Shape (N, *sample); the activations that :meth:`requantizes` knows.
        """
        known = [self._known(layer) for layer in range(len(self._layers)) if self.requantizes(layer)]
        found: list[list[Codes]] = [[] for _ in known]
        runs = count()

        def keep(_module: nn.Module, _inputs: object, outputs: torch.Tensor) -> None:
            layer = next(runs) % (len(self._layers) + 1) - 1  # the first is the input's
            if 0 <= layer < len(known):
                values, coding = getattr(outputs, "value", outputs), known[layer].output
                flat, rows = values.flatten(1), sum(map(len, found[layer]))
                magnitudes = [coding.magnitude] * flat.shape[1]
                pieces = _to_codes(flat, coding.scale, magnitudes, 1, f"act{layer}, sample {rows} +")
                found[layer].append(pieces.reshape(values.shape))

        quantizers = [module for module in self._network.modules() if isinstance(module, ACTIVATIONS)]
        hooks = [quantizer.register_forward_hook(keep) for quantizer in quantizers]
        try:
            self(codes)
        finally:
            for hook in hooks:
                hook.remove()
        return {f"act{layer}": np.concatenate(pieces) for layer, pieces in enumerate(found) if pieces}

    def _known(self, layer: int) -> ActivationLayer:
        found = self._layers[layer] if self.requantizes(layer) else None
        assert found is not None, f"activation {layer} cannot be run alone; ask requantizes first"
        return found


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
