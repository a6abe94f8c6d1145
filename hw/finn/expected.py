"""What FINN has to make of a network: one layer for each tensor, known by the tensor's name."""

from __future__ import annotations

from dataclasses import dataclass

from bitproof.hw.finn.layers import Activation, Hardware, Product, Reduction, Windows
from bitproof.hw.rtl.host_order import Columns
from bitproof.hw.rtl.providers import MATRIX_UNIT, PADDING, THRESHOLDING, WINDOW_REDUCER, WINDOWS, Op


@dataclass(frozen=True, slots=True)
class Expected:
    """What FINN has to make for one tensor.

    Attributes:
        layer: the node of the integer model.
        rtl: the layer that stands for RTL.
        columns: of a matrix unit: how the columns that it takes lie in the model's.
    """

    layer: str
    rtl: Op
    columns: Columns | None = None

    @property
    def op(self) -> str:
        """The abstract layer."""
        return self.rtl.removesuffix("_rtl")


def windows_tensor(name: str) -> str:
    """Return the name of the tensor that holds the windows of the layer *name*."""
    return f"{name}.windows"


def padded_tensor(name: str) -> str:
    """Return the name of the tensor that holds the padded image of the layer *name*."""
    return f"{name}.padded"


def expected_layers(wanted: Hardware) -> dict[str, Expected]:
    """Return what FINN has to make of *wanted*, by the tensor that it gives."""
    found: dict[str, Expected] = {}
    for layer in wanted.layers:
        name = layer.name
        if isinstance(layer, Windows):
            if layer.window.padded:
                found[padded_tensor(name)] = Expected(name, PADDING)
            found[windows_tensor(name)] = Expected(name, WINDOWS)
        elif isinstance(layer, Product):
            found[name] = Expected(name, MATRIX_UNIT, layer.columns)
        elif isinstance(layer, Activation):
            found[name] = Expected(name, THRESHOLDING)
        elif isinstance(layer, Reduction):
            found[name] = Expected(name, WINDOW_REDUCER)
    return found
