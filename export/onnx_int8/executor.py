"""The executor of the packed-int8 ONNX file in onnxruntime, whole or one activation at a time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto

from bitproof.export.integer import DAMAGED, IntegerModel
from bitproof.export.onnx_int8.alone import CONSTRUCTIONS, requantized, require_described, require_node
from bitproof.export.onnx_int8.alone import why_monotone as why_alone_monotone
from bitproof.export.onnx_int8.ends import CLASSES
from bitproof.export.onnx_int8.ends_proofs import behind_pixels, pixel_table, prove_ends
from bitproof.export.onnx_int8.fault import packed_bytes
from bitproof.export.onnx_int8.monotone import why_monotone
from bitproof.export.onnx_int8.packing import is_packed
from bitproof.export.onnx_int8.sums import prove_sums
from bitproof.export.onnx_int8.writer import FILE, LAYERS
from bitproof.export.subgraph import cut
from bitproof.pipeline import Artifact, Codes, InputError, WeightSign
from bitproof.pipeline.ledger import LayerEntry, ProofEntry
from bitproof.pipeline.progress import Progress, silent

ROWS_AT_ONCE = 1 << 15
ELEMENTS_AT_ONCE = 1 << 21
MAX_CHANNELS = 1 << 22
MAX_ZERO_POINT = 1 << 32
TYPES: Mapping[str, int] = {"uint8": TensorProto.UINT8, "int32": TensorProto.INT32, "int64": TensorProto.INT64}
"""Of the tensors that ``layers.json`` names."""


class OnnxInt8Executor:
    """onnxruntime on the CPU, default optimizations, one thread for arithmetic."""

    name = "onnx-int8"
    weight_sign: WeightSign = "lowered"

    def __init__(self, artifact: Artifact) -> None:
        self.progress: Progress = silent
        try:
            self._onnx = onnx.load(artifact.path / FILE, load_external_data=False)
            layers = json.loads((artifact.path / LAYERS).read_text())
            self._zero_point = int(layers["input"]["zero_point"])
            self._values: dict[str, dict[str, Any]] = layers["values"]
            self._layers: list[dict[str, Any]] = layers["activations"]
            self._times = str(layers.get("times", "the shipped table"))
            self.layers = tuple(map(self._line, self._layers))
            _require_described(self._onnx.graph, self._values, self._layers)
            self._session = open_session(self._onnx)
            self._behind = self._session
            table = pixel_table(self._onnx, _run_once)
            self._pixel_of = None if table is None else dict(zip(table.tolist(), range(len(table)), strict=True))
            if table is not None:
                self._behind = open_session(behind_pixels(self._onnx))
        except (*DAMAGED, DecodeError) as error:
            raise InputError(f"{artifact.path} does not hold a packed-int8 ONNX model: {error}") from error

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs): what uint8 holds with the file's zero point added, or int8.

        A file that takes pixels is given pixels that become these codes; if there are none, it is run from there on.
        """
        session = self._behind
        kind = _kind_of(session)
        low, high = np.iinfo(kind).min - self._zero_point, np.iinfo(kind).max - self._zero_point
        if codes.size and not low <= codes.min() <= codes.max() <= high:
            raise InputError(f"onnx-int8 takes codes {low}..{high}; given {codes.min()}..{codes.max()}")
        given = codes + self._zero_point
        if self._pixel_of is not None and set(np.unique(given).tolist()) <= self._pixel_of.keys():
            pixels = np.array([self._pixel_of.get(code, 0) for code in range(int(high) + self._zero_point + 1)])
            given, session = pixels[given], self._session
        source = session.get_inputs()[0]
        rows = max(1, ELEMENTS_AT_ONCE // codes.shape[1])
        outputs = []
        for start in range(0, max(len(codes), 1), rows):
            self.progress("samples", start, len(codes))
            group = given[start : start + rows]
            outputs.append(_run(session, group.astype(kind).reshape(len(group), *source.shape[1:])))
        return np.concatenate(outputs).reshape(len(codes), -1)

    def trace(self, codes: Codes) -> dict[str, Codes]:
        """Run *codes*, shape (N, inputs), and return the codes of every layer, in the signs of the integer model.

        The layers' tensors become outputs of the graph, so that onnxruntime cannot fuse over them.
        """
        shown = behind_pixels(self._onnx)
        given = {output.name for output in shown.graph.output}
        kinds = {entry["tensor"]: TYPES[entry["type"]] for entry in self._values.values()}
        for entry in self._values.values():
            for node in entry.get("nodes", ()):
                shown.graph.node.append(
                    onnx.helper.make_node(node["op"], node["inputs"], [node["output"]], **node["attributes"])
                )
        for tensor, kind in kinds.items():
            if tensor not in given | {"codes"}:
                shown.graph.output.append(onnx.helper.make_tensor_value_info(tensor, kind, None))
        session = open_session(shown)
        source = session.get_inputs()[0]
        values = (codes + self._zero_point).astype(_kind_of(session))
        names = [tensor for tensor in kinds if tensor != "codes"]
        made = _made(session, names, {source.name: values.reshape(len(codes), *source.shape[1:])})
        tensors = dict(zip(names, made, strict=True))
        return {
            layer: tensors[entry["tensor"]].astype(np.int64) - entry["zero_point"]
            for layer, entry in self._values.items()
            if entry["tensor"] in tensors
        }

    def measure(self, codes: Codes) -> dict[str, int | float | str]:
        """Return the sizes of the file and of the packed weights in it; *codes* are not needed."""
        del codes
        packed = [tensor for tensor in self._onnx.graph.initializer if is_packed(tensor.name)]
        return {
            "file_bytes": self._onnx.ByteSize(),
            "weight_bytes": sum(len(packed_bytes(tensor)) for tensor in packed),
            "times_of_layers": f"estimated by {self._times}",
        }

    def _line(self, entry: Mapping[str, Any]) -> LayerEntry:
        """Return the line of an activation in the ledger."""
        known = {key: entry[key] for key in ("layer", "construction", "method")}
        return LayerEntry(executor=self.name, time_ps=entry.get("time_ps"), **known)

    def requantize(self, node: str, first: int, last: int) -> Codes:
        """Run the nodes of the activation *node* alone, on every accumulator from *first* to *last*."""
        accumulators = np.arange(first, last + 1, dtype=np.int64)[:, None]
        return self.requantize_at(node, np.broadcast_to(accumulators, (len(accumulators), self._channels(node))))

    def requantize_at(self, node: str, accumulators: Codes) -> Codes:
        """Run the nodes of the activation *node* alone, on *accumulators*, shape (N, channels)."""
        entry, channels = self._entry(node), self._channels(node)
        if entry["construction"] in CONSTRUCTIONS:
            return requantized(self._onnx.graph, entry, accumulators, _run_once) - int(entry["zero_point"])
        session = open_session(self._part(node))
        rows = max(1, min(ROWS_AT_ONCE, ELEMENTS_AT_ONCE // channels))
        pieces = [np.zeros((0, channels), dtype=np.int64)]
        for start in range(0, len(accumulators), rows):
            chosen = accumulators[start : start + rows].astype(np.dtype(entry["type"]))
            pieces.append(_run(session, chosen.reshape(-1, *entry["shape"])).reshape(len(chosen), channels))
        return np.concatenate(pieces) - int(entry["zero_point"])

    def why_monotone(self, node: str, lows: Codes, highs: Codes) -> str | None:
        """Say why the nodes of the activation *node* are monotone from *lows* to *highs*; None: not known of all."""
        entry = self._entry(node)
        if entry["construction"] in CONSTRUCTIONS:
            return why_alone_monotone(self._onnx.graph, entry, lows, highs)
        return why_monotone(self._part(node).graph, lows, highs)

    def prove_sums(self, model: IntegerModel) -> list[ProofEntry]:
        """Prove the weights of the file, and the sums that onnxruntime may add in float32 or in 16 bits."""
        try:
            entries = prove_sums(model, self._onnx.graph, self._layers, _run_once)
            return [*entries, *prove_ends(model, self._onnx, _run_once)]
        except DAMAGED as error:
            raise InputError(f"the file does not hold the products of the integer model: {error}") from error

    def _channels(self, node: str) -> int:
        """Return how many channels the activation *node* has.

        Raises:
            InputError: the description does not know it.
        """
        return int(self._entry(node)["shape"][0])

    def _entry(self, node: str) -> dict[str, Any]:
        for entry in self._layers:
            if entry["layer"] == node:
                return entry
        raise InputError(f"{LAYERS} describes no activation {node!r}, which the integer model has")

    def _part(self, node: str) -> onnx.ModelProto:
        entry = self._entry(node)
        return cut(
            self._onnx,
            entry["source"],
            entry["target"],
            source_type=TYPES[entry["type"]],
            target_type=TensorProto.UINT8,
            shape=entry["shape"],
        )


def _require_described(graph: onnx.GraphProto, values: dict[str, dict[str, Any]], layers: list[dict[str, Any]]) -> None:
    """Refuse a description that is not one of *graph*.

    Raises:
        LookupError, TypeError, ValueError: an entry is missing, of another type, or names no tensor.
    """
    tensors = {"codes", *(name for node in graph.node for name in node.output)}
    for node in (node for entry in values.values() for node in entry.get("nodes", ())):
        require_node(node)
        tensors.add(node["output"])
    named = [*(entry["tensor"] for entry in values.values())]
    for entry in layers:
        named += [entry["target"]] if entry["construction"] in CONSTRUCTIONS else [entry["source"], entry["target"]]
        if not entry["shape"] or not all(isinstance(n, int) and 0 < n <= MAX_CHANNELS for n in entry["shape"]):
            raise ValueError(f"activation {entry['layer']!r} has the shape {entry['shape']!r:.100}")
    for entry in layers:
        if entry["construction"] in CONSTRUCTIONS:
            require_described(graph, entry)
    for entry in values.values():
        if entry["type"] not in TYPES:
            raise ValueError(f"the type {entry['type']!r:.100} is none of {', '.join(TYPES)}")
    for entry in (*values.values(), *layers):
        if not isinstance(entry["zero_point"], int) or abs(entry["zero_point"]) > MAX_ZERO_POINT:
            raise ValueError(f"the zero point {entry['zero_point']!r:.100} is no integer of 32 bits")
        if "source" in entry and entry["type"] not in TYPES:
            raise ValueError(f"the type {entry['type']!r:.100} is none of {', '.join(TYPES)}")
    unknown = [name for name in named if name not in tensors]
    if not values or unknown:
        raise ValueError(f"{LAYERS} names the tensors {unknown!r:.200}, which the graph does not make")


def open_session(model: onnx.ModelProto) -> Any:
    """Return the session that runs *model*.

    Raises:
        InputError: onnxruntime refuses it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"onnxruntime refuses the graph: {reason}") from error


def _made(session: Any, names: list[str] | None, given: Mapping[str, np.ndarray[Any, Any]]) -> list[Any]:
    """Return the outputs called *names*, or all.

    Raises:
        InputError: an operator fails on what reaches it, as in a file with a damaged constant.
    """
    try:
        made: list[Any] = session.run(names, dict(given))
    except Exception as error:  # onnxruntime's own exceptions have no common base
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise InputError(f"onnxruntime cannot run the graph: {reason}") from error
    return made


def _kind_of(session: Any) -> type[np.int8] | type[np.uint8]:
    """Return the type of the codes that *session* takes."""
    return np.int8 if session.get_inputs()[0].type == "tensor(int8)" else np.uint8


def _run_once(model: onnx.ModelProto, given: Mapping[str, np.ndarray[Any, Any]]) -> np.ndarray[Any, Any]:
    """Run *model*, which has one output, on *given*."""
    made: np.ndarray[Any, Any] = _made(open_session(model), None, given)[0]
    return made


def _run(session: Any, inputs: np.ndarray[Any, Any]) -> Codes:
    names = [output.name for output in session.get_outputs() if output.name != CLASSES]
    outputs = _made(session, names, {session.get_inputs()[0].name: inputs})
    if len(outputs) == 1:
        codes: Codes = outputs[0].astype(np.int64)
        return codes
    return np.concatenate([output.astype(np.int64).reshape(len(inputs), -1) for output in outputs], axis=1)
