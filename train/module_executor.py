"""A torch module in memory as a float reference: what a notebook holds, compared with the integers made of it."""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import nn

from bitproof.pipeline import Codes, InputError, Observation
from bitproof.pipeline.float_error import PRECISION
from bitproof.pipeline.output_coding import OutputCoding, Reals
from bitproof.train.watch import watched_quantizers

SAMPLES_AT_ONCE = 256


class ModuleExecutor:
    """Runs a copy of *network* on the CPU, in evaluation mode.

    Raises:
        InputError: its outputs are not as many as those of the integer model.
    """

    name = "torch"
    precision_bits = PRECISION

    def __init__(
        self,
        network: nn.Module,
        shape: tuple[int, ...],
        input_scale: float,
        outputs: OutputCoding,
        activations: tuple[str, ...],
    ) -> None:
        """Run *network* on samples of *shape*.

        Args:
            network: a Brevitas module that begins with a quantizer.
            shape: of one sample.
            input_scale: real value of one input code.
            outputs: what the output codes stand for.
            activations: names in the integer model of its quantizers behind the input's, in the order in which they
                run.
        """
        self._network = copy.deepcopy(network).cpu().eval()
        self._shape, self._scale, self._outputs, self._names = shape, input_scale, outputs, activations

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), and return the output codes nearest to the real outputs."""
        return self.observe(codes).codes

    def observe(self, codes: Codes) -> Observation:
        """Run *codes*, shape (N, inputs), and return the codes of all quantizers behind the input's, and the outputs.

        No layer is shown if the quantizers are not as many as the integer model has.
        """
        with watched_quantizers(self._network) as shown:
            values = self._values(codes)
        layers = shown.layers(-(-len(codes) // SAMPLES_AT_ONCE))[1:]  # the first is the input's
        known = dict(zip(self._names, layers, strict=True)) if len(self._names) == len(layers) else {}
        return Observation(known, self._outputs.in_codes(values), self._outputs.nearest(values, self.name))

    @torch.no_grad()
    def _values(self, codes: Codes) -> Reals:
        pieces = [np.empty((0, len(self._outputs.scales)))]
        for start in range(0, len(codes), SAMPLES_AT_ONCE):
            chosen = torch.from_numpy(codes[start : start + SAMPLES_AT_ONCE].astype(np.float32))
            values = self._network((chosen * self._scale).reshape(-1, *self._shape))
            outputs = np.asarray(getattr(values, "value", values), dtype=np.float64).reshape(len(chosen), -1)
            if outputs.shape[1] != pieces[0].shape[1]:
                raise InputError(
                    f"the module gives {outputs.shape[1]} outputs per sample, the integer model {pieces[0].shape[1]}"
                )
            pieces.append(outputs)
        return np.concatenate(pieces)
