"""The negative control of the parity check of a packed-int8 ONNX file: one flipped weight bit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from bitproof.export.onnx_int8.packing import Bytes, FieldLayout, packed_name, unpack
from bitproof.export.onnx_int8.products import NATIVE
from bitproof.export.onnx_int8.writer import FILE


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
    tensor = tensors[packed_name(name)]
    packed = packed_bytes(tensor)
    old = int(unpack(packed, layout)[row, column])
    byte, bit = layout.locate(row, column)
    packed[byte] ^= np.uint8(1 << bit)
    tensor.ClearField("int32_data")
    tensor.raw_data = packed.tobytes()
    return old, int(unpack(packed, layout)[row, column])


def packed_bytes(tensor: onnx.TensorProto) -> Bytes:
    """Return the bytes of the packed weights *tensor*.

    Raises:
        ValueError: it does not hold them as bytes.
    """
    if tensor.data_type == onnx.TensorProto.UINT8:
        held: Bytes = numpy_helper.to_array(tensor).reshape(-1).copy()
        return held
    if tensor.data_type not in NATIVE.values() or not tensor.raw_data:
        raise ValueError(f"the weights {tensor.name!r} are not packed into bytes")
    return np.frombuffer(tensor.raw_data, dtype=np.uint8).copy()


def layout_of(constants: Mapping[str, NDArray[Any]], name: str) -> FieldLayout:
    """Return how the weights of the product *name* lie in a file with *constants*."""
    rows, columns = (int(v) for v in constants[f"{name}.shape"])
    return FieldLayout(int(constants[f"{name}.weight_zero"]).bit_length(), rows, columns)
