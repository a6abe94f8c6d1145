"""QONNX graphs in torch's float64 operations, node by node: an evaluator that shares nothing with the project.

It reads the file alone, knows no codes, and evaluates in another precision, by other kernels and with other formulas
than qonnx's executor does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F  # noqa: N812  torch's own name for it
from numpy.typing import NDArray
from onnx import numpy_helper
from torch import Tensor

Attributes = Mapping[str, Any]
Operation = Callable[[list[Tensor | None], Attributes], Tensor]

ROUNDINGS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "ROUND": torch.round,
    "HALF_EVEN": torch.round,
    "CEIL": torch.ceil,
    "FLOOR": torch.floor,
    "UP": lambda x: torch.where(x < 0, torch.floor(x), torch.ceil(x)),
    "DOWN": torch.trunc,
    "HALF_UP": lambda x: torch.where(x < 0, torch.ceil(x - 0.5), torch.floor(x + 0.5)),
    "HALF_DOWN": lambda x: torch.where(x < 0, torch.floor(x + 0.5), torch.ceil(x - 0.5)),
}


def evaluate(model: onnx.ModelProto, values: NDArray[Any], source: str = "input") -> dict[str, NDArray[Any]]:
    """Return every tensor of *model* for *values* of the tensor *source*, shape (N, *sample)."""
    tensors: dict[str, Tensor] = {t.name: _tensor(numpy_helper.to_array(t)) for t in model.graph.initializer}
    tensors[source] = _tensor(values)
    for node in model.graph.node:
        known = all(name in tensors for name in node.input if name)
        if not known or node.output[0] in tensors:
            continue
        given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        given = {name: v.decode() if isinstance(v, bytes) else v for name, v in given.items()}
        given["op"] = node.op_type
        taken = [tensors[name] if name else None for name in node.input]
        if node.op_type == "TopK":
            count = int(_given(taken, 1))
            numbers = _given(taken, 0)
            order = torch.argsort(numbers, dim=-1, descending=True, stable=True)[..., :count]
            tensors[node.output[0]], tensors[node.output[1]] = numbers.gather(-1, order), order
        else:
            tensors[node.output[0]] = OPERATIONS[node.op_type](taken, given)
    return {name: tensor.numpy() for name, tensor in tensors.items()}


def _tensor(values: NDArray[Any]) -> Tensor:
    if values.dtype.itemsize == 1:  # the type of a zero point says where QuantizeLinear saturates
        return torch.from_numpy(np.array(values))
    return torch.from_numpy(np.array(values, dtype=np.float64 if values.dtype.kind == "f" else np.int64))


def _given(taken: list[Tensor | None], index: int) -> Tensor:
    found = taken[index]
    assert found is not None, f"input {index} is left out"
    return found


def _optional(taken: list[Tensor | None], index: int) -> Tensor | None:
    return taken[index] if index < len(taken) else None


def _limits(bits: int, *, signed: bool, narrow: bool) -> tuple[int, int]:
    if signed:
        return -(2 ** (bits - 1)) + narrow, 2 ** (bits - 1) - 1
    return 0, 2**bits - 1 - narrow


def _quant(taken: list[Tensor | None], given: Attributes) -> Tensor:
    numbers, scale, zero, bits = (_given(taken, index) for index in range(4))
    q = numbers / scale + zero
    if int(bits) == 1 and given["signed"]:
        q = torch.where(q >= 0, 1.0, -1.0).double()
    else:
        low, high = _limits(int(bits), signed=bool(given["signed"]), narrow=bool(given["narrow"]))
        q = torch.clamp(ROUNDINGS[given["rounding_mode"].upper()](q), low, high)
    return (q - zero) * scale


def _bipolar(taken: list[Tensor | None], given: Attributes) -> Tensor:
    signs = torch.where(_given(taken, 0) >= 0, 1.0, -1.0).double()
    return signs * _given(taken, 1)


def _along_axis(numbers: Tensor, values: Tensor, given: Attributes) -> Tensor:
    """Return *values*, one or one along the axis of *numbers* that the node names, so that they broadcast."""
    if values.numel() == 1:
        return values.double().reshape(())
    shape = [1] * numbers.ndim
    shape[given.get("axis", 1)] = -1
    return values.double().reshape(shape)


def _quantize_linear(taken: list[Tensor | None], given: Attributes) -> Tensor:
    numbers, scale, zero = (_given(taken, index) for index in range(3))
    limits = torch.iinfo(zero.dtype)
    rounded = torch.round(numbers / _along_axis(numbers, scale, given)) + _along_axis(numbers, zero, given)
    return rounded.clamp(limits.min, limits.max)


def _dequantize_linear(taken: list[Tensor | None], given: Attributes) -> Tensor:
    numbers, scale, zero = _given(taken, 0), _given(taken, 1), _optional(taken, 2)
    offset = torch.zeros(()) if zero is None else _along_axis(numbers, zero, given)
    return (numbers.double() - offset) * _along_axis(numbers, scale, given)


def _trunc(taken: list[Tensor | None], given: Attributes) -> Tensor:
    numbers, scale, zero, input_bits = (_given(taken, index) for index in range(4))
    n = torch.round(numbers / scale + zero)
    rounding = ROUNDINGS[given["rounding_mode"].upper()]
    if len(taken) == 5:
        return (rounding(n / 2 ** (input_bits - _given(taken, 4))) - zero) * scale
    output_scale, bits = _given(taken, 4), int(_given(taken, 5))
    divisor = output_scale / scale
    low, high = _limits(bits, signed=bool(given.get("signed", 1)), narrow=bool(given.get("narrow", 0)))
    return (torch.clamp(rounding(n / divisor), low, high) - zero / divisor) * output_scale


def _multi_threshold(taken: list[Tensor | None], given: Attributes) -> Tensor:
    numbers, thresholds = _given(taken, 0), _given(taken, 1)
    layout = given.get("data_layout") or {2: "NC", 3: "NWC", 4: "NCHW"}[numbers.ndim]
    last = numbers.movedim(layout.index("C"), -1)
    met = (last[..., None] >= thresholds).sum(-1).double().movedim(-1, layout.index("C"))
    return met * float(given.get("out_scale", 1.0)) + float(given.get("out_bias", 0.0))


def _gemm(taken: list[Tensor | None], given: Attributes) -> Tensor:
    weights = _given(taken, 1)
    product = _given(taken, 0) @ (weights.T if given.get("transB", 0) else weights)
    bias = _optional(taken, 2)
    return product if bias is None else product + bias


def _pads(given: Attributes, sizes: list[int], kernel: list[int]) -> tuple[list[int], list[int]]:
    axes, auto = len(kernel), given.get("auto_pad", "NOTSET")
    pads = list(given.get("pads", [0] * (2 * axes)))
    if auto == "VALID":
        pads = [0] * (2 * axes)
    if auto.startswith("SAME"):
        for axis in range(axes):
            stride, dilation = _along(given, "strides", axis), _along(given, "dilations", axis)
            reach = (-(-sizes[axis] // stride) - 1) * stride + dilation * (kernel[axis] - 1) + 1
            total = max(reach - sizes[axis], 0)
            less = total // 2
            pads[axis], pads[axes + axis] = (less, total - less) if auto == "SAME_UPPER" else (total - less, less)
    return pads[:axes], pads[axes:]


def _along(given: Attributes, name: str, axis: int) -> int:
    return int(given[name][axis]) if name in given else 1


def _padded(numbers: Tensor, begin: list[int], end: list[int], value: float) -> Tensor:
    around = [size for pair in zip(reversed(begin), reversed(end), strict=True) for size in pair]
    return F.pad(numbers, around, value=value)


def _conv(taken: list[Tensor | None], given: Attributes) -> Tensor:
    numbers, weights = _given(taken, 0), _given(taken, 1)
    kernel = list(weights.shape[2:])
    axes = range(len(kernel))
    padded = _padded(numbers, *_pads(given, list(numbers.shape[2:]), kernel), 0.0)
    convolve = F.conv1d if len(kernel) == 1 else F.conv2d
    strides, dilations = ([_along(given, name, axis) for axis in axes] for name in ("strides", "dilations"))
    bias = _optional(taken, 2)
    return convolve(padded, weights, bias, strides, 0, dilations, int(given.get("group", 1)))


def _windows(taken: list[Tensor | None], given: Attributes, value: float) -> Tensor:
    """Return the numbers of each window along a new last axis; what is padded is *value*."""
    numbers, kernel = _given(taken, 0), list(given["kernel_shape"])
    sizes, axes = list(numbers.shape[2:]), len(kernel)
    begin, end = _pads(given, sizes, kernel)
    spare = [max(kernel) * max(given.get("dilations", [1]))] * axes
    padded = _padded(numbers, begin, [e + more for e, more in zip(end, spare, strict=True)], value)
    chosen = []
    for axis in range(axes):
        stride, dilation = _along(given, "strides", axis), _along(given, "dilations", axis)
        span = dilation * (kernel[axis] - 1) + 1
        whole = sizes[axis] + begin[axis] + end[axis]
        starts = [start for start in range(0, whole, stride) if start + span <= whole]
        if given.get("ceil_mode", 0) and starts[-1] + span < whole and starts[-1] + stride < sizes[axis] + begin[axis]:
            starts.append(starts[-1] + stride)
        chosen.append(torch.tensor([[start + tap * dilation for tap in range(kernel[axis])] for start in starts]))
    if axes == 1:
        return padded[:, :, chosen[0]]
    rows, columns = chosen
    met = padded[:, :, rows[:, None, :, None], columns[None, :, None, :]]
    return met.flatten(4)


def _mean_of_numbers(numbers: Tensor, given: Attributes) -> Tensor:
    axes = tuple(range(2, numbers.ndim)) if given["op"] == "GlobalAveragePool" else tuple(given["axes"])
    return numbers.mean(dim=axes, keepdim=bool(given.get("keepdims", 1)))


def _reduce_mean(taken: list[Tensor | None], given: Attributes) -> Tensor:
    axes = _optional(taken, 1)
    return _mean_of_numbers(_given(taken, 0), given if axes is None else {**given, "axes": axes.tolist()})


def _quant_avg_pool(taken: list[Tensor | None], given: Attributes) -> Tensor:
    k, s = given["kernel"], given["stride"]
    total = F.avg_pool2d(_given(taken, 0), k, s, divisor_override=1)
    shift = max(((2 ** given["ibits"] - 1) * k * k).bit_length() - given["obits"], 0)
    return torch.floor(total / 2**shift)


def _batch_norm(taken: list[Tensor | None], given: Attributes) -> Tensor:
    numbers = _given(taken, 0)
    column = (1, -1) + (1,) * (numbers.ndim - 2)
    gamma, beta, mean, variance = (_given(taken, index).reshape(column) for index in range(1, 5))
    epsilon = float(np.float32(given.get("epsilon", 1e-5)))
    return gamma * (numbers - mean) / torch.sqrt(variance + epsilon) + beta


def _clip(taken: list[Tensor | None], given: Attributes) -> Tensor:
    numbers = _given(taken, 0)
    for index, bound in ((1, torch.maximum), (2, torch.minimum)):
        end = _optional(taken, index)
        if end is not None:
            numbers = bound(numbers, end)
    return numbers


def _hard_sigmoid(taken: list[Tensor | None], given: Attributes) -> Tensor:
    alpha, beta = (float(np.float32(given.get(name, default))) for name, default in (("alpha", 0.2), ("beta", 0.5)))
    return torch.clamp(alpha * _given(taken, 0) + beta, 0, 1)


def _pad(taken: list[Tensor | None], given: Attributes) -> Tensor:
    numbers, pads = _given(taken, 0), _given(taken, 1).tolist()
    axes = _optional(taken, 3)
    if axes is not None:
        spread = [0] * (2 * numbers.ndim)
        for position, axis in enumerate(axis % numbers.ndim for axis in axes.tolist()):
            spread[axis], spread[numbers.ndim + axis] = pads[position], pads[len(axes) + position]
        pads = spread
    return _padded(numbers, pads[2 : numbers.ndim], pads[numbers.ndim + 2 :], 0.0)


def _resize(taken: list[Tensor | None], given: Attributes) -> Tensor:
    numbers, factors = _given(taken, 0), _given(taken, 2).tolist()
    for axis, factor in enumerate(factors):
        numbers = numbers.repeat_interleave(int(factor), dim=axis)
    return numbers


def _reshape(taken: list[Tensor | None], given: Attributes) -> Tensor:
    numbers, wanted = _given(taken, 0), _given(taken, 1).tolist()
    return numbers.reshape([numbers.shape[i] if size == 0 else size for i, size in enumerate(wanted)])


def _squeeze(taken: list[Tensor | None], given: Attributes) -> Tensor:
    axes = _optional(taken, 1)
    return _given(taken, 0).squeeze(tuple(axes.tolist())) if axes is not None else _given(taken, 0).squeeze()


def _unsqueeze(taken: list[Tensor | None], given: Attributes) -> Tensor:
    numbers, axes = _given(taken, 0), _given(taken, 1).tolist()
    for axis in sorted(axis % (numbers.ndim + len(axes)) for axis in axes):
        numbers = numbers.unsqueeze(axis)
    return numbers


OPERATIONS: Mapping[str, Operation] = {
    "Quant": _quant,
    "IntQuant": _quant,
    "BipolarQuant": _bipolar,
    "QuantizeLinear": _quantize_linear,
    "DequantizeLinear": _dequantize_linear,
    "Trunc": _trunc,
    "MultiThreshold": _multi_threshold,
    "MatMul": lambda taken, _: _given(taken, 0) @ _given(taken, 1),
    "Gemm": _gemm,
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "Mul": lambda taken, _: _given(taken, 0) * _given(taken, 1),
    "Div": lambda taken, _: _given(taken, 0) / _given(taken, 1),
    "Add": lambda taken, _: _given(taken, 0) + _given(taken, 1),
    "Sub": lambda taken, _: _given(taken, 0) - _given(taken, 1),
    "Neg": lambda taken, _: -_given(taken, 0),
    "Relu": lambda taken, _: torch.relu(_given(taken, 0)),
    "Clip": _clip,
    "Concat": lambda taken, given: torch.cat([_given(taken, i) for i in range(len(taken))], dim=given["axis"]),
    "MaxPool": lambda taken, given: _windows(taken, given, -torch.inf).amax(-1),
    "GlobalMaxPool": lambda taken, _: _given(taken, 0).amax(dim=tuple(range(2, _given(taken, 0).ndim)), keepdim=True),
    "AveragePool": lambda taken, given: _windows(taken, given, 0.0).mean(-1),
    "GlobalAveragePool": lambda taken, given: _mean_of_numbers(_given(taken, 0), given),
    "ReduceMean": _reduce_mean,
    "QuantAvgPool2d": _quant_avg_pool,
    "Reshape": _reshape,
    "Flatten": lambda taken, _: _given(taken, 0).flatten(1),
    "Transpose": lambda taken, given: _given(taken, 0).permute(tuple(given["perm"])),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Pad": _pad,
    "Resize": _resize,
    "Identity": lambda taken, _: _given(taken, 0),
    "Dropout": lambda taken, _: _given(taken, 0),
    "ArgMax": lambda taken, given: _first_largest(_given(taken, 0), given),
    "Softmax": lambda taken, _: torch.softmax(_given(taken, 0), dim=-1),
    "LogSoftmax": lambda taken, _: torch.log_softmax(_given(taken, 0), dim=-1),
    "LeakyRelu": lambda taken, given: F.leaky_relu(_given(taken, 0), float(np.float32(given.get("alpha", 0.01)))),
    "PRelu": lambda taken, _: torch.where(_given(taken, 0) < 0, _given(taken, 0) * _given(taken, 1), _given(taken, 0)),
    "HardSigmoid": _hard_sigmoid,
    "Sign": lambda taken, _: torch.sign(_given(taken, 0)),
    "Sigmoid": lambda taken, _: torch.sigmoid(_given(taken, 0)),
    "Tanh": lambda taken, _: torch.tanh(_given(taken, 0)),
}
"""Every operation that the lowering takes."""


def _first_largest(numbers: Tensor, given: Attributes) -> Tensor:
    axis = given.get("axis", 0)
    first = torch.argsort(numbers, dim=axis, descending=True, stable=True).select(axis, 0)
    return first.unsqueeze(axis) if given.get("keepdims", 1) else first
