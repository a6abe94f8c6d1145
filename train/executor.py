"""The trained network itself as an executor: what torch and Brevitas really compute, in integer codes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from pipeline import Artifact, Codes, InputError, StageError, WeightSign
from train.checkpoint import load_network
from train.layers import ends_of, is_chain, quantized_layers

SAMPLES_AT_ONCE = 2000
ROWS_AT_ONCE = 1 << 15


class TorchNetwork:
    """The Brevitas checkpoint in evaluation mode, in binary32 on the CPU: any network that ends with its output layer.

    Raises:
        InputError: the codes of its inputs or outputs have no known scale.
    """

    name = "torch"

    def __init__(self, artifact: Artifact) -> None:
        self._network, self._inputs = load_network(artifact)
        self._ends = ends_of(self._network, self._inputs)

    @property
    def output_scale(self) -> float:
        """Real value of one output code."""
        scale: float = self._ends.output_scale
        return scale

    @torch.no_grad()
    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs); the outputs are divided by the output scale, which must be exact."""
        if codes.ndim != 2 or codes.shape[1] != self._inputs:
            raise InputError(f"{self.name}: input codes have shape {codes.shape}; expected (N, {self._inputs})")
        outputs = [np.empty((0, self._ends.outputs), dtype=np.int64)]
        for start in range(0, len(codes), SAMPLES_AT_ONCE):
            chosen = codes[start : start + SAMPLES_AT_ONCE].astype(np.float32)
            values = torch.from_numpy(chosen) * self._ends.input_scale
            outputs.append(_to_codes(self._network(values), self._ends.output_scale, start, "sample"))
        return np.concatenate(outputs)


class TorchExecutor(TorchNetwork):
    """A chain of linear layers, whose activations can also be run one by one.

    Raises:
        InputError: the network is no such chain.
    """

    weight_sign: WeightSign = "trained"
    float_reference = True

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self._layers = quantized_layers(self._network)

    @torch.no_grad()
    def requantize(self, layer: int, first: int, last: int) -> Codes:
        """Run batch norm and quantized ReLU of *layer* on every accumulator from *first* to *last*, inclusive."""
        block = self._layers[layer]
        assert block.norm is not None, "only hidden layers requantize"
        assert block.activation is not None, "only hidden layers requantize"
        scales = torch.tensor(block.accumulator_scales)
        pieces = []
        for start in range(first, last + 1, ROWS_AT_ONCE):
            accumulators = torch.arange(start, min(start + ROWS_AT_ONCE, last + 1), dtype=torch.int64)
            values = accumulators.float()[:, None] * scales
            outputs = block.activation(block.norm(values))
            pieces.append(_to_codes(outputs, block.output_scale, start, "accumulator"))
        return np.concatenate(pieces)

    @torch.no_grad()
    def trace(self, codes: Codes) -> dict[str, Codes]:
        """Run *codes*, shape (N, inputs), and return the codes of every activation, ``act0``, ``act1``, ...

        Accumulators are left out: their signs are those of the training, and their sums are never seen as integers.
        """
        found: dict[str, list[Codes]] = {f"act{layer}": [] for layer in range(len(self._layers) - 1)}
        hooks = []
        for (name, pieces), block in zip(found.items(), self._layers[:-1], strict=True):
            assert block.activation is not None, "only the last layer has no activation"
            hooks.append(block.activation.register_forward_hook(_keeper(name, pieces, block.output_scale)))
        try:
            self(codes)
        finally:
            for hook in hooks:
                hook.remove()
        return {name: np.concatenate(pieces) for name, pieces in found.items()}


def _keeper(name: str, pieces: list[Codes], scale: float) -> Callable[[nn.Module, object, torch.Tensor], None]:
    """Return a hook that appends the codes of what activation *name* gives to *pieces*."""

    def keep(_module: nn.Module, _inputs: object, outputs: torch.Tensor) -> None:
        pieces.append(_to_codes(outputs, scale, sum(map(len, pieces)), f"{name}, sample"))

    return keep


def torch_executor(artifact: Artifact) -> TorchNetwork:
    """Return the executor of the network of *artifact*; only that of a chain of linear layers can requantize."""
    network, _ = load_network(artifact)
    return TorchExecutor(artifact) if is_chain(network) else TorchNetwork(artifact)


def _to_codes(outputs: torch.Tensor, scale: float, first: int, row_name: str) -> Codes:
    """Divide the real values of *outputs*, plain or a brevitas QuantTensor, by *scale* exactly.

    Raises:
        StageError: a value is not a whole multiple of the scale.
    """
    values = np.asarray(getattr(outputs, "value", outputs), dtype=np.float64)
    quotients = values / scale
    codes: Codes = np.rint(quotients).astype(np.int64)
    off_grid = np.argwhere(codes != quotients)
    if len(off_grid):
        row, channel = (int(i) for i in off_grid[0])
        raise StageError(
            f"torch: {row_name} {first + row}, channel {channel}: {float(values[row, channel])!r} is not a whole "
            f"multiple of the scale {scale!r}; only power-of-two scales give exact integers"
        )
    return codes
