"""Run the packed-int8 ONNX file in onnxruntime, whole or one activation at a time."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from export.onnx_int8.writer import FILE, LAYERS
from export.subgraph import cut
from pipeline import Artifact, Codes, InputError, WeightSign

ROWS_AT_ONCE = 1 << 15
ACCUMULATORS = ("accumulators", "sum")
"""What the tensors end with that hold the result of a matrix product, and of the addition of a bias."""


class OnnxInt8Executor:
    """onnxruntime on the CPU, default optimizations, one thread for arithmetic."""

    name = "onnx-int8"
    weight_sign: WeightSign = "lowered"

    def __init__(self, artifact: Artifact) -> None:
        try:
            self._onnx = onnx.load(artifact.path / FILE, load_external_data=False)
            self._layers: list[dict[str, Any]] = json.loads((artifact.path / LAYERS).read_text())
            self._session = _session(self._onnx)
        except (OSError, ValueError) as error:
            raise InputError(f"{artifact.path} does not hold a packed-int8 ONNX model: {error}") from error

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), 0..255, or -128..127 where the network takes negative codes."""
        kind = np.iinfo(np.int8 if self._session.get_inputs()[0].type == "tensor(int8)" else np.uint8)
        if codes.size and not kind.min <= codes.min() <= codes.max() <= kind.max:
            raise InputError(f"onnx-int8 takes codes {kind.min}..{kind.max}; given {codes.min()}..{codes.max()}")
        return _run(self._session, codes.astype(kind.dtype))

    def trace(self, codes: Codes) -> dict[str, Codes]:
        """Run *codes*, shape (N, inputs), and return the codes of every layer, in the signs of the integer model.

        The layers' tensors become outputs of the graph, so that onnxruntime cannot fuse over them.
        """
        shown = onnx.ModelProto()
        shown.CopyFrom(self._onnx)
        layers = self._layer_tensors()
        last = shown.graph.output[0]
        for tensor, kind in layers.values():
            if tensor != last.name:
                shown.graph.output.append(onnx.helper.make_tensor_value_info(tensor, kind, None))
        session = _session(shown)
        names = [tensor for tensor, _ in layers.values()]
        outputs = session.run(names, {session.get_inputs()[0].name: codes.astype(np.uint8)})
        return {layer: output.astype(np.int64) for layer, output in zip(layers, outputs, strict=True)}

    def _layer_tensors(self) -> dict[str, tuple[str, int]]:
        """Return the tensor that holds the result of each layer, and its type."""
        activations = {entry["layer"]: entry["target"] for entry in self._layers}
        found: dict[str, tuple[str, int]] = {}
        for node in self._onnx.graph.node:
            layer, _, part = node.output[0].rpartition(".")
            if activations.get(layer) == node.output[0]:
                found[layer] = (node.output[0], TensorProto.UINT8)
            elif layer not in activations and part in ACCUMULATORS:
                found[layer] = (node.output[0], TensorProto.INT32)
        return found

    def measure(self, codes: Codes) -> dict[str, int | float | str]:
        """Return the sizes of the file and of the packed weights in it; *codes* are not needed."""
        del codes
        packed = [tensor for tensor in self._onnx.graph.initializer if tensor.name.endswith(".packed")]
        return {
            "file_bytes": self._onnx.ByteSize(),
            "weight_bytes": sum(int(np.prod(tensor.dims)) for tensor in packed),
            "requantization": "; ".join(f"{entry['layer']}: {entry['method']}" for entry in self._layers),
        }

    def requantize(self, layer: int, first: int, last: int) -> Codes:
        """Run the nodes of activation *layer* alone, on every accumulator from *first* to *last*."""
        entry = self._layers[layer]
        constants = {tensor.name: tensor.dims for tensor in self._onnx.graph.initializer}
        channels = next(
            int(constants[f"{entry['layer']}.{kind}"][0])
            for kind in ("multiplier", "thresholds")
            if f"{entry['layer']}.{kind}" in constants
        )
        part = cut(
            self._onnx,
            entry["source"],
            entry["target"],
            source_type=TensorProto.INT32,
            target_type=TensorProto.UINT8,
            shape=(channels,),
        )
        session = _session(part)
        pieces = []
        for start in range(first, last + 1, ROWS_AT_ONCE):
            stop = min(start + ROWS_AT_ONCE, last + 1)
            accumulators = np.arange(start, stop, dtype=np.int32)[:, None]
            pieces.append(_run(session, np.repeat(accumulators, channels, axis=1)))
        return np.concatenate(pieces) - int(entry.get("zero_point", 0))


def _session(model: onnx.ModelProto) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _run(session: Any, inputs: np.ndarray[Any, Any]) -> Codes:
    outputs = session.run(None, {session.get_inputs()[0].name: inputs})
    codes: Codes = outputs[0].astype(np.int64)
    return codes
