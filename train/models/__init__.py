"""Networks by name, or by the path of a Python file; and the quantizers that a user's network is made of."""

from bitproof.train.models.blocks import quantized_input
from bitproof.train.models.build import build, build_float, require_logits
from bitproof.train.models.own import require_own_network
from bitproof.train.quantizers import activation_quantizer, weight_quantizer

__all__ = [
    "activation_quantizer",
    "build",
    "build_float",
    "quantized_input",
    "require_logits",
    "require_own_network",
    "weight_quantizer",
]
