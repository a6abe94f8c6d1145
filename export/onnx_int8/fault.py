"""The negative control of the parity check of a packed-int8 ONNX file: one flipped weight bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bitproof.export.onnx_int8.packing import FieldLayout
from bitproof.export.onnx_int8.writer import FILE

PACKED = ".packed"
"""What the names of packed weights end with."""


def flip_weight_bit(folder: Path, *, node: str, row: int, column: int) -> str:
    """Flip the lowest bit of weight [*row*, *column*] of the product *node*, in the artifact copy *folder*.

    The axes of a kernel behind the first are one, *column*.

    Returns:
        What was changed, with the old and the new weight.
    """
    model = onnx.load(folder / FILE)
    old, new = flip_weight(model, node, row, column)
    onnx.save_model(model, folder / FILE)
    return f"weight [{row}, {column}] of {node} in {FILE}: {old} became {new}"


def flip_weight(model: onnx.ModelProto, name: str, row: int, column: int) -> tuple[int, int]:
    """Flip the lowest bit of a weight of the product *name* in *model*, which is edited.

    Args:
        model: what :func:`bitproof.export.onnx_int8.build` returns.
        name: of a matrix product or a convolution.
        row: the output channel.
        column: which of its weights, in C order.

    Returns:
        The old and the new weight.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    layout = layout_of({key: numpy_helper.to_array(tensor) for key, tensor in tensors.items()}, name)
    zero_point = layout.zero_point
    packed = numpy_helper.to_array(tensors[f"{name}{PACKED}"]).copy()
    byte, bit = layout.locate(row, column)
    mask = (1 << layout.bits) - 1
    old = (int(packed[byte, 0]) >> bit & mask) - zero_point
    packed[byte, 0] ^= np.uint8(1 << bit)
    new = (int(packed[byte, 0]) >> bit & mask) - zero_point
    tensors[f"{name}{PACKED}"].CopyFrom(numpy_helper.from_array(packed, f"{name}{PACKED}"))
    return old, new


def layout_of(constants: Mapping[str, NDArray[Any]], name: str) -> FieldLayout:
    """Return how the weights of the product *name* lie in a file with *constants*."""
    rows, columns = (int(v) for v in constants[f"{name}.shape"])
    zero_point = int(constants[f"{name}.weight_zero"])
    return FieldLayout((2 * zero_point).bit_length() - 1, zero_point, rows, columns)
