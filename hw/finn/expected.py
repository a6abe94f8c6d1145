"""What FINN has to make of a network: one layer for each tensor, known by the tensor's name."""

from __future__ import annotations

from dataclasses import dataclass

from bitproof.hw.finn.layers import Activation, Depthwise, Hardware, Layer, Product, Windows
from bitproof.hw.finn.own_attributes import own_op
from bitproof.hw.rtl.host_order import Columns
from bitproof.hw.rtl.providers import MATRIX_UNIT, PADDING, THRESHOLDING, WINDOWS, Op


@dataclass(frozen=True, slots=True)
class Expected:
    """What FINN has to make for one tensor.

    Attributes:
        layer: the node of the integer model.
        rtl: the layer that stands for RTL.
        columns: of a matrix unit: how the columns that it takes lie in the model's.
        groups: of a convolution in a matrix unit.
        bipolar: of an activation: its codes are bits.
    """

    layer: str
    rtl: Op
    columns: Columns | None = None
    groups: int = 1
    bipolar: bool = False

    @property
    def op(self) -> str:
        """The abstract layer."""
        return self.rtl.removesuffix("_rtl")


def expected_layers(wanted: Hardware) -> dict[str, Expected]:
    """Return what FINN has to make of *wanted*, by the tensor that it gives."""
    found: dict[str, Expected] = {}
    for layer in wanted.layers:
        if isinstance(layer, Windows) and layer.padded:
            found[layer.padded] = Expected(layer.name, PADDING)
        found[layer.makes] = _expected(layer)
    return found


def _expected(layer: Layer) -> Expected:
    if isinstance(layer, Windows):
        return Expected(layer.name, WINDOWS)
    if isinstance(layer, Product):
        op = MATRIX_UNIT if layer.logic is None else own_op(layer)
        return Expected(layer.name, op, layer.columns, layer.groups)
    if isinstance(layer, Depthwise):
        channels, taps = layer.weights.shape
        return Expected(layer.name, own_op(layer), Columns(channels=channels, positions=taps))
    if isinstance(layer, Activation):
        return Expected(layer.name, THRESHOLDING, bipolar=layer.bipolar)
    return Expected(layer.name, own_op(layer))
