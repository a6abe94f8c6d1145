"""Quantizers of activations, watched while a network runs: the codes that each of them gives.

Brevitas hides one in every quantized activation and, if it is asked to, at the input and the output of a layer; all are
proxies of one kind, whatever the module around them returns.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from brevitas.proxy.runtime_quant import ActQuantProxyFromInjectorBase
from torch import nn

from bitproof.pipeline import Codes


@dataclass(slots=True)
class Shown:
    """The codes of all quantizers, in the order in which they ran, over all passes."""

    codes: list[Codes] = field(default_factory=list)

    def layers(self, passes: int) -> list[Codes]:
        """Return the codes of each quantizer, shape (N, *sample), of a network that ran *passes* times."""
        each = len(self.codes) // passes if passes else 0
        return [np.concatenate(self.codes[layer::each]) for layer in range(each)]


@contextmanager
def watched_quantizers(network: nn.Module) -> Iterator[Shown]:
    """Note the codes of every enabled activation quantizer of *network*, in evaluation mode, until the end."""
    shown = Shown()

    def note(_proxy: nn.Module, _inputs: object, outputs: Any) -> None:  # noqa: ANN401  a brevitas QuantTensor
        scale = getattr(outputs, "scale", None)
        if scale is None:
            return
        values, step = outputs.value.detach().double(), scale.detach().double()
        shown.codes.append(torch.round(values / step).long().numpy())

    hooks = [
        module.register_forward_hook(note)
        for module in network.modules()
        if isinstance(module, ActQuantProxyFromInjectorBase) and module.is_quant_enabled
    ]
    try:
        yield shown
    finally:
        for hook in hooks:
            hook.remove()
