"""Where the integer model of a QONNX file differs from other evaluations of the file: none of them may.

Each comparison is of every element. Real numbers are decoded to the nearest code; if the file's scales are powers of
two (``exact``) the outputs are compared as real numbers, too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from torch_graph import evaluate

from bitproof.export.integer import INPUT, IntegerModel, Threshold, run, trace
from bitproof.export.lower import lower_file
from bitproof.export.lowering import Lowered, origins_of
from bitproof.export.qonnx import load_qonnx
from bitproof.export.qonnx_executor import execute
from bitproof.export.qonnx_float64 import QonnxFloat64Executor
from bitproof.export.subgraph import with_outputs
from bitproof.pipeline import Codes

FloatArray = NDArray[Any]


@dataclass(frozen=True)
class Subject:
    """A file and the integer model that was lowered from it."""

    proto: onnx.ModelProto
    lowered: Lowered

    @classmethod
    def of(cls, path: Path) -> Subject:
        """Lower the file at *path*."""
        return cls(load_qonnx(path), lower_file(path))

    @property
    def model(self) -> IntegerModel:
        """The integer model."""
        return self.lowered.model

    @property
    def output(self) -> str:
        """The tensor that the model's output stands for: the file's, or what the function left out at its end takes."""
        name: str = self.proto.graph.output[0].name
        takes = {node.output[0]: str(node.input[0]) for node in self.proto.graph.node}
        return takes[name] if self.lowered.dropped else name

    def inputs(self, codes: Codes) -> FloatArray:
        """Return the real numbers of input *codes*, float32, shape (N, *sample)."""
        scale = float(self.model.input_scale)
        values: FloatArray = (codes * scale).astype(np.float32).reshape(len(codes), *self.shape)
        return values

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample of the file's input; a Reshape may stand between it and the codes."""
        return tuple(size.dim_value for size in self.proto.graph.input[0].type.tensor_type.shape.dim[1:])


def reals_of(model: IntegerModel, codes: Codes) -> FloatArray:
    """Return the real numbers that output *codes*, shape (N, outputs), stand for, by the model's own codings."""
    shape = model.shapes()[model.nodes[-1].name]
    values: FloatArray = codes.reshape(len(codes), *shape).astype(np.float64)
    if not model.output_codings:
        values *= float(model.output_scale)
        return values
    column = (-1,) + (1,) * (len(shape) - 1)
    scales = np.array([float(coding.slope) for coding in model.output_codings]).reshape(column)
    offsets = np.array([float(coding.intercept) for coding in model.output_codings]).reshape(column)
    reals: FloatArray = values * scales + offsets
    return reals


def differences(subject: Subject, codes: Codes, *, exact: bool = True, qonnx: bool = True) -> list[str]:
    """Return what differs on input *codes*, shape (N, inputs): evaluator and place; empty if all agree.

    Args:
        subject: the file and its model.
        codes: input codes.
        exact: compare the outputs as real numbers, and ask for equality.
        qonnx: also run qonnx; it computes in float32, so the file must be exact in it.
    """
    lowered, model = subject.lowered, subject.model
    values, steps, outputs = subject.inputs(codes), trace(model, codes), run(model, codes)
    found = [f"range: {name}" for name in out_of_range(model, steps)]
    found += ["run"] if (outputs != steps[model.nodes[-1].name].reshape(len(codes), -1)).any() else []
    double = QonnxFloat64Executor(subject.proto, model, origins_of(lowered))
    found += ["qonnx-f64: output"] if (double(codes) != outputs).any() else []
    reals = reals_of(model, outputs).reshape(len(codes), -1) if exact else None
    evaluators = {"torch": evaluate(subject.proto, values)}
    if qonnx:
        tensors = list(dict.fromkeys([*(origin.tensor for origin in lowered.origins.values()), subject.output]))
        file = with_outputs(subject.proto, "input", ("N", *subject.shape), tensors)
        evaluators["qonnx"] = execute(file, {"input": values}, tensors)
    for evaluator, made in evaluators.items():
        found += [f"{evaluator}: {name} ({lowered.origins[name].tensor})" for name in _unequal(subject, steps, made)]
        expected = made[subject.output].reshape(len(codes), -1)
        if reals is not None and (reals.shape != expected.shape or (reals != expected).any()):
            found.append(f"{evaluator}: output")
    return found


def _unequal(subject: Subject, steps: dict[str, Codes], tensors: dict[str, FloatArray]) -> list[str]:
    """Return the nodes whose codes are not those of the tensor that they equal."""
    names = []
    for name, origin in subject.lowered.origins.items():
        codes = steps[name]
        shape = (len(codes), *(codes.shape[1 + axis] for axis in origin.axes))
        numbers = tensors[origin.tensor].reshape(shape)
        ordered = numbers.transpose(0, *(1 + origin.axes.index(axis) for axis in range(len(origin.axes))))
        column = (-1,) + (1,) * (codes.ndim - 2)
        scales = np.array([float(scale) for scale in origin.scales]).reshape(column)
        offsets = np.array([float(offset) for offset in origin.offsets]).reshape(column)
        if (np.rint((ordered - offsets) / scales) != codes).any():
            names.append(name)
    return names


def out_of_range(model: IntegerModel, steps: dict[str, Codes]) -> list[str]:
    """Return the nodes with a code outside the interval that is proven of its channel."""
    values = model.values
    names = []
    for name, codes in steps.items():
        by_channel = np.moveaxis(codes, 1, 0).reshape(codes.shape[1], -1)
        inside = zip(by_channel, values[name].ranges, strict=True)
        if not all(i.low <= row.min() and row.max() <= i.high for row, i in inside):
            names.append(name)
    return names


def random_codes(model: IntegerModel, seed: int, count: int = 60) -> Codes:
    """Return input codes, shape (N, inputs): random, constant at every extreme, and mixes of the extremes."""
    allowed = np.array(model.allowed_codes)
    random = np.random.default_rng(seed)
    extremes = np.array([allowed[0], allowed[-1], min(allowed, key=abs)])
    constant = np.repeat(extremes[:, None], model.inputs, axis=1)
    mixes = extremes[random.integers(0, 2, size=(count // 4, model.inputs))]
    return np.concatenate([constant, mixes, allowed[random.integers(0, len(allowed), size=(count, model.inputs))]])


def codes_at_thresholds(model: IntegerModel, seed: int, *, keep: int = 40, pool: int = 400) -> Codes:
    """Search inputs whose accumulators land on a threshold T and on T - 1: where a code jumps, ties included.

    Rows of a random pool are kept while they hit a place (activation, channel, level, side) that no row before hits;
    then single codes of the rows that came closest are changed.
    """
    random = np.random.default_rng(seed)
    allowed = np.array(model.allowed_codes)
    codes = random_codes(model, seed, pool)
    hits = hits_of(model, codes)
    nearest = np.repeat(codes[[row for row, _ in _first_rows(hits)][:keep] or [0]], 8, axis=0)
    at = random.integers(0, model.inputs, size=len(nearest))
    nearest[np.arange(len(nearest)), at] = allowed[random.integers(0, len(allowed), size=len(nearest))]
    codes = np.concatenate([codes, nearest])
    chosen = [row for row, _ in _first_rows(hits_of(model, codes))]
    return codes[sorted(set(chosen[:keep])) or [0]]


def hits_of(model: IntegerModel, codes: Codes) -> dict[tuple[str, int, int, int], NDArray[np.bool_]]:
    """Return which rows of *codes* hit T (side 0) and T - 1 (side -1): activation, channel, level, side -> (N,)."""
    steps = {INPUT: codes.reshape(len(codes), *model.shape), **trace(model, codes)}
    hits = {}
    for node in model.nodes_of(Threshold):
        (source,) = model.sources(node.name)
        for channel, row in enumerate(node.thresholds.tolist()):
            accumulators = steps[source][:, channel].reshape(len(codes), -1)
            for level, threshold in enumerate(row):
                for side in (0, -1):
                    hits[node.name, channel, level, side] = (accumulators == threshold + side).any(axis=1)
    return hits


def _first_rows(hits: dict[tuple[str, int, int, int], NDArray[np.bool_]]) -> list[tuple[int, int]]:
    """Return rows that together hit all that is hit, the one with the most new places first: (row, new places)."""
    matrix = np.array(list(hits.values()), dtype=np.bool_)
    chosen: list[tuple[int, int]] = []
    while matrix.size and matrix.any():
        counts = matrix.sum(axis=0)
        row = int(counts.argmax())
        chosen.append((row, int(counts[row])))
        matrix = matrix[~matrix[:, row]]
    return chosen
