"""The packed-int8 ONNX file of an integer model in onnxruntime, layer by layer, and files with one bit flipped."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from bitproof.export.integer import Conv, IntegerModel, IntegerType, MatMul, Threshold, run, trace
from bitproof.export.onnx_int8 import OnnxInt8Executor, build
from bitproof.export.onnx_int8.context import Construction
from bitproof.export.onnx_int8.costs import Costs
from bitproof.export.onnx_int8.fault import flip_weight
from bitproof.export.onnx_int8.writer import FILE, LAYERS
from bitproof.pipeline import Artifact, Codes


@dataclass(frozen=True)
class Written:
    """A file and the description of its layers."""

    proto: onnx.ModelProto
    layers: dict[str, Any]

    @classmethod
    def of(cls, model: IntegerModel, construction: Construction = "fastest", costs: Costs | None = None) -> Written:
        """Write *model*; *costs* decide between constructions, by default the shipped table.

        Raises:
            StageError: the target refuses a layer.
        """
        return cls(*build(model, construction=construction, costs=costs))

    def unequal(self, model: IntegerModel, codes: Codes) -> list[str]:
        """Return the layers whose codes on input *codes* are not those of *model*, in order, and ``output``."""
        with TemporaryDirectory() as folder:
            executor = self.executor(Path(folder))
        steps, made = trace(model, codes), executor.trace(codes)
        names = [node.name for node in model.nodes if node.name in made]
        found = [name for name in names if not np.array_equal(steps[name], made[name])]
        return found + ([] if np.array_equal(run(model, codes), executor(codes)) else ["output"])

    def executor(self, folder: Path) -> OnnxInt8Executor:
        """Write the files into the existing *folder* and open them."""
        onnx.save_model(self.proto, folder / FILE)
        (folder / LAYERS).write_text(json.dumps(self.layers))
        return OnnxInt8Executor(Artifact("onnx-int8", "onnx-int8", folder, ""))

    def copy(self) -> onnx.ModelProto:
        other = onnx.ModelProto()
        other.CopyFrom(self.proto)
        return other

    def with_flipped_weight(self, model: IntegerModel, node: MatMul | Conv, at: int) -> tuple[Written, IntegerModel]:
        """Flip the lowest bit of weight *at* of *node*; return the file, and *model* with the weight that results."""
        proto, weights = self.copy(), node.weights.copy()
        row, column = divmod(at, weights.size // node.outputs)
        old, new = flip_weight(proto, node.name, row, column)
        flat = weights.reshape(-1)
        assert flat[at] == old
        flat[at] = new
        kind = IntegerType.smallest_for(int(weights.min()), int(weights.max()))
        changed = replace(node, weights=weights, weight_type=kind)
        nodes = tuple(changed if other is node else other for other in model.nodes)
        return Written(proto, self.layers), replace(model, nodes=nodes)

    def with_flipped_threshold(self, node: Threshold, channel: int, level: int) -> Written:
        """Return this with one bit of what decides *level* of *channel* flipped.

        That is the lowest bit of the threshold, where the file compares; the bit of the offset that is worth a code,
        where it multiplies and shifts or has a quantized operator; the lowest bit of all codes of the channel, where it
        looks them up. The offset of a float32 convolution or of a float64 sum becomes larger by what is worth a code,
        and so does the zero point of a sum of codes.
        """
        proto = self.copy()
        tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
        entry, kind = self.entry(node), self.method(node)
        if kind == "joined":
            added = next(n for n in proto.graph.node if n.op_type == "QLinearAdd" and entry["scale"] in n.input)
            point = int(numpy_helper.to_array(tensors[added.input[2]])) + _worth(tensors[entry["scale"]], 0)
            proto.graph.initializer.append(numpy_helper.from_array(np.array(point % 256, dtype=np.uint8), "flipped"))
            added.input[2] = "flipped"
            return Written(proto, self.layers)
        name = entry["offset"] if kind in ("quantized", "carried") else f"{node.name}.{kind}"
        if kind == "carried in float64":
            name = f"{node.name}.addend"
        values = numpy_helper.to_array(tensors[name]).copy()
        if kind == "table":
            values.reshape(node.channels, -1)[channel] ^= 1
        elif kind == "thresholds":
            values.reshape(node.channels, node.levels)[channel, level] ^= 1
        elif kind == "offset":
            values.reshape(-1)[channel] ^= 1 << int(numpy_helper.to_array(tensors[f"{node.name}.shift"]))
        elif kind == "carried in float64":
            values.reshape(-1)[channel] += 1
        elif kind == "quantized":
            values[channel] ^= _worth(tensors[entry["scale"]], channel)
        else:
            values[channel] += float(numpy_helper.to_array(tensors[entry["scale"]])[channel])
        tensors[name].CopyFrom(numpy_helper.from_array(values, name))
        return Written(proto, self.layers)

    def entry(self, node: Threshold) -> dict[str, Any]:
        """Return the description of the activation *node*."""
        return next(entry for entry in self.layers["activations"] if entry["layer"] == node.name)

    def method(self, node: Threshold) -> str:
        """Return the construction of *node*, or, of single steps, the constant that decides its codes."""
        construction: str = self.entry(node)["construction"]
        if construction != "single steps":
            return construction
        names = {tensor.name for tensor in self.proto.graph.initializer}
        return next(kind for kind in ("thresholds", "offset", "table") if f"{node.name}.{kind}" in names)


def _worth(scale: onnx.TensorProto, channel: int) -> int:
    """Return the power of two that is worth at least a code in units of which one is *scale* codes."""
    least = 1 / float(numpy_helper.to_array(scale).reshape(-1)[channel])
    return 1 << max(0, math.ceil(math.log2(least)))
