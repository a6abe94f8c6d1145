"""Deterministic damage to ONNX files: bytes flipped, cut and spliced, fields changed to what malice may write."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

HUGE = (1 << 31, 1 << 40, (1 << 62) + 1, (1 << 63) - 1, -1, 0, -(1 << 63), 3)
FLOATS = (float("nan"), float("inf"), float("-inf"), 0.0, -1.0, 1e-45, 3e38, -3e38)
_NAMES = (
    "Quant BipolarQuant Trunc MultiThreshold Gemm MatMul Conv Add Div Pow Reshape Transpose Concat Flatten Pad MaxPool "
    "BatchNormalization Relu Clip Softmax Squeeze Unsqueeze ConstantOfShape Expand Tile Range Shape Gather Loop "
    "Identity Cast Dropout TopK ArgMax Slice Constant Nothing GlobalAveragePool AveragePool QuantAvgPool2d MaxPoolNHWC"
)
OPS = _NAMES.split()
T = TypeVar("T")
Random = np.random.Generator


def mutate(files: list[bytes], seed: int) -> bytes:
    """Return one of *files*, damaged in a way that *seed* chooses: every third time its bytes, else its fields."""
    random = np.random.default_rng(seed)
    content = files[int(random.integers(len(files)))]
    if seed % 3 == 0:
        damage: Callable[[bytes, list[bytes], Random], bytes] = _pick(random, BYTES)
        return damage(content, files, random)
    model = onnx.ModelProto.FromString(content)
    for _ in range(int(random.integers(1, 3))):
        _pick(random, FIELDS)(model, random)
    serialized: bytes = model.SerializeToString()
    return serialized


def _pick(random: Random, choices: Sequence[T]) -> T:
    return choices[int(random.integers(len(choices)))]


def _flip(content: bytes, _files: list[bytes], random: Random) -> bytes:
    damaged = bytearray(content)
    for _ in range(int(random.integers(1, 9))):
        damaged[int(random.integers(len(damaged)))] ^= 1 << int(random.integers(8))
    return bytes(damaged)


def _truncate(content: bytes, _files: list[bytes], random: Random) -> bytes:
    return content[: int(random.integers(len(content)))]


def _splice(content: bytes, files: list[bytes], random: Random) -> bytes:
    other = _pick(random, files)
    return content[: int(random.integers(len(content)))] + other[int(random.integers(len(other))) :]


def _repeat(content: bytes, _files: list[bytes], random: Random) -> bytes:
    first, last = sorted(int(i) for i in random.integers(len(content), size=2))
    return content[:last] + content[first:last] * int(random.integers(1, 4)) + content[last:]


def _overwrite(content: bytes, _files: list[bytes], random: Random) -> bytes:
    start, length = int(random.integers(len(content))), int(random.integers(1, 16))
    return content[:start] + random.bytes(length) + content[start + length :]


BYTES: tuple[Callable[[bytes, list[bytes], Random], bytes], ...] = (_flip, _truncate, _splice, _repeat, _overwrite)


def _node(model: onnx.ModelProto, random: Random) -> onnx.NodeProto:
    if not model.graph.node:
        model.graph.node.append(helper.make_node("Relu", ["input"], ["made"]))
    node: onnx.NodeProto = _pick(random, model.graph.node)
    return node


def _tensor(model: onnx.ModelProto, random: Random) -> TensorProto:
    if not model.graph.initializer:
        model.graph.initializer.append(TensorProto(name="made", data_type=1, dims=[1], float_data=[1.0]))
    tensor: TensorProto = _pick(random, model.graph.initializer)
    return tensor


def _names(model: onnx.ModelProto) -> list[str]:
    graph = model.graph
    made = [name for node in graph.node for name in (*node.output, *node.input)]
    return [*made, *(value.name for value in graph.input), *(t.name for t in graph.initializer), "missing", ""]


def _rename_op(model: onnx.ModelProto, random: Random) -> None:
    _node(model, random).op_type = _pick(random, OPS)


def _change_domain(model: onnx.ModelProto, random: Random) -> None:
    domains = ("", "ai.onnx", "onnx.brevitas", "qonnx.custom_op.general", "qonnx.custom_op.channels_last", "nowhere")
    _node(model, random).domain = _pick(random, domains)


def _change_attribute(model: onnx.ModelProto, random: Random) -> None:
    node = _node(model, random)
    if not node.attribute:
        node.attribute.append(helper.make_attribute(_pick(random, ("axis", "perm", "to", "pads", "axes")), 1))
    attribute = _pick(random, node.attribute)
    name, value = attribute.name, int(_pick(random, HUGE))
    if attribute.type == AttributeProto.INTS and random.integers(2):
        if attribute.ints and random.integers(2):
            attribute.ints[int(random.integers(len(attribute.ints)))] = value
        else:
            attribute.ints.extend([value] * int(random.integers(1, 4)))
    elif attribute.type == AttributeProto.INT and random.integers(4):
        attribute.i = value
    elif attribute.type == AttributeProto.FLOAT and random.integers(4):
        attribute.f = _pick(random, FLOATS)
    elif attribute.type == AttributeProto.STRING and random.integers(4):
        attribute.s = _pick(random, (b"", b"\xff\xfe", b"FLOOR", b"SAME_UPPER", b"NHWC", b"edge", b"ROUND" * 9))
    else:
        others = (value, float(_pick(random, FLOATS)), "text", [value], [1, 2], [0.5])
        attribute.CopyFrom(helper.make_attribute(name, _pick(random, others)))


def _drop_attribute(model: onnx.ModelProto, random: Random) -> None:
    node = _node(model, random)
    if node.attribute:
        del node.attribute[int(random.integers(len(node.attribute)))]


def _repeat_attribute(model: onnx.ModelProto, random: Random) -> None:
    node = _node(model, random)
    if node.attribute:
        node.attribute.append(_pick(random, node.attribute))


def _rewire(model: onnx.ModelProto, random: Random) -> None:
    node = _node(model, random)
    name = _pick(random, _names(model))
    if node.input and random.integers(4):
        node.input[int(random.integers(len(node.input)))] = name
    elif random.integers(2):
        node.input.append(name)
    elif node.input:
        del node.input[int(random.integers(len(node.input)))]


def _rename_output(model: onnx.ModelProto, random: Random) -> None:
    node = _node(model, random)
    if node.output and random.integers(3):
        node.output[0] = _pick(random, _names(model))
    else:
        node.output.append(_pick(random, (*_names(model), "another")))


def _move_node(model: onnx.ModelProto, random: Random) -> None:
    nodes = list(model.graph.node)
    if not nodes:
        return
    chosen = nodes.pop(int(random.integers(len(nodes))))
    if random.integers(3):
        nodes.insert(int(random.integers(len(nodes) + 1)), chosen)
    if not random.integers(3):
        nodes.append(chosen)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _change_dims(model: onnx.ModelProto, random: Random) -> None:
    values = [*model.graph.input, *model.graph.output]
    if not values:
        return
    shape = _pick(random, values).type.tensor_type.shape
    if shape.dim and random.integers(3):
        dimension = _pick(random, shape.dim)
        if random.integers(4):
            dimension.dim_value = int(_pick(random, HUGE))
        else:
            dimension.dim_param = "free"
    elif random.integers(2):
        shape.dim.add().dim_value = int(_pick(random, HUGE))
    elif shape.dim:
        del shape.dim[0]


def _change_type(model: onnx.ModelProto, random: Random) -> None:
    if model.graph.input:
        _pick(random, model.graph.input).type.tensor_type.elem_type = int(random.integers(0, 25))


def _resize_constant(model: onnx.ModelProto, random: Random) -> None:
    tensor = _tensor(model, random)
    if tensor.dims and random.integers(3):
        tensor.dims[int(random.integers(len(tensor.dims)))] = int(_pick(random, HUGE))
    else:
        tensor.dims.extend([int(_pick(random, (1, 1, *HUGE)))] * int(random.integers(1, 3)))


def _replace_constant(model: onnx.ModelProto, random: Random) -> None:
    tensor = _tensor(model, random)
    values = np.array([_pick(random, FLOATS) for _ in range(int(random.integers(0, 5)))], dtype=np.float32)
    if random.integers(2) and len(tensor.raw_data) >= 4:
        start = 4 * int(random.integers(len(tensor.raw_data) // 4))
        chosen = np.float32(_pick(random, FLOATS)).tobytes()
        tensor.raw_data = tensor.raw_data[:start] + chosen + tensor.raw_data[start + 4 :]
        return
    tensor.CopyFrom(helper.make_tensor(tensor.name, TensorProto.FLOAT, values.shape, values.tobytes(), raw=True))


def _cut_constant(model: onnx.ModelProto, random: Random) -> None:
    tensor = _tensor(model, random)
    if random.integers(2):
        tensor.raw_data = tensor.raw_data[: int(random.integers(len(tensor.raw_data) + 1))]
    else:
        tensor.data_type = int(random.integers(0, 26))


def _external(model: onnx.ModelProto, random: Random) -> None:
    tensor = _tensor(model, random)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    location = _pick(random, ("../../etc/passwd", "/dev/zero", "weights.bin", "", "\x00"))
    tensor.external_data.add(key="location", value=location)
    tensor.external_data.add(key="length", value=str(_pick(random, HUGE)))


def _explode(model: onnx.ModelProto, random: Random) -> None:
    """Put a node of a few bytes before an input that asks for any number of constants."""
    size = np.array([int(_pick(random, HUGE)) for _ in range(int(random.integers(1, 4)))], dtype=np.int64)
    model.graph.initializer.append(onnx.numpy_helper.from_array(size, "bomb"))
    one = np.array([0], dtype=np.int64)
    model.graph.initializer.append(onnx.numpy_helper.from_array(one[0], "bomb_start"))
    kind = _pick(random, ("ConstantOfShape", "Expand", "Tile", "Range", "Reshape", "Div", "Mul"))
    source = _pick(random, model.graph.initializer).name
    inputs = {"ConstantOfShape": ["bomb"], "Range": ["bomb_start", "bomb", source]}.get(kind, [source, "bomb"])
    node = _node(model, random)
    model.graph.node.insert(0, helper.make_node(kind, inputs, ["exploded"]))
    if node.input:
        node.input[int(random.integers(len(node.input)))] = "exploded"


def _change_version(model: onnx.ModelProto, random: Random) -> None:
    if random.integers(3) == 0:
        model.ir_version = int(_pick(random, HUGE))
    elif model.opset_import and random.integers(3):
        _pick(random, model.opset_import).version = int(_pick(random, (*HUGE, 1, 6, 7, 12, 21, 99)))
    else:
        model.opset_import.append(helper.make_opsetid(_pick(random, ("", "ai.onnx", "new")), int(random.integers(30))))


def _subgraph(model: onnx.ModelProto, random: Random) -> None:
    node = _node(model, random)
    node.attribute.append(helper.make_attribute("body", model.graph))
    node.op_type = _pick(random, ("If", "Loop", "Scan", node.op_type))


def _function(model: onnx.ModelProto, random: Random) -> None:
    node = _node(model, random)
    model.functions.add(name=node.op_type, domain=node.domain, output=["y"]).node.append(node)


def _sparse(model: onnx.ModelProto, random: Random) -> None:
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(_tensor(model, random))
    sparse.dims.append(int(_pick(random, HUGE)))


def _ends(model: onnx.ModelProto, random: Random) -> None:
    values = _pick(random, (model.graph.input, model.graph.output))
    if values and random.integers(2):
        _pick(random, values).name = _pick(random, _names(model))
    elif values and random.integers(2):
        values.append(values[0])
    elif values:
        del values[0]


FIELDS: tuple[Callable[[onnx.ModelProto, Random], None], ...] = (
    _rename_op,
    _change_domain,
    _change_attribute,
    _change_attribute,
    _drop_attribute,
    _repeat_attribute,
    _rewire,
    _rewire,
    _rename_output,
    _move_node,
    _change_dims,
    _change_type,
    _resize_constant,
    _replace_constant,
    _cut_constant,
    _external,
    _explode,
    _change_version,
    _subgraph,
    _function,
    _sparse,
    _ends,
)
