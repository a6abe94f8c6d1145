"""The vectors of an import: a user's, or drawn ones, as codes of the input quantizer."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import Any, ClassVar
from zipfile import BadZipFile

import numpy as np
import onnx
from numpy.typing import NDArray

from bitproof.export.importer.draw_codes import draw_codes
from bitproof.export.importer.input_quantizer import (
    InputQuantizer,
    code_shape,
    require_input_quantizer,
    run_head,
    sample_shape,
)
from bitproof.export.importer.join_heads import heads_of
from bitproof.export.qonnx import FILE, load_qonnx
from bitproof.pipeline import Artifact, Codes, InputError, Stage, StageContext
from bitproof.pipeline.import_config import SourceFile
from bitproof.pipeline.toolchain import memory_bytes

KIND = "dataset"
MAX_NUMBERS = 1 << 31
"""Of all vectors together."""
BYTES_PER_NUMBER = 24
"""What a check takes for each of them at most: the codes as int64, what an executor is given, and the stored ones."""
ROWS_AT_ONCE, NUMBERS_AT_ONCE = 1_000, 1 << 24
SHOWN = 200
"""So many characters of an error about a file are shown: a header may have any number."""


@dataclass(frozen=True)
class PrepareVectors(Stage):
    """Read *vectors* and *labels*, or draw *samples* vectors; they are stored as the split *split*."""

    vectors: SourceFile | None
    labels: SourceFile | None
    samples: int
    split: str

    name: ClassVar[str] = "import-vectors"
    consumes: ClassVar[str] = "qonnx"
    produces: ClassVar[str] = KIND
    distributions: ClassVar[tuple[str, ...]] = ("numpy", "onnx", "qonnx")

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        """Write codes, shape (N, inputs), labels, if there are any, and ``dataset.json``."""
        model = load_qonnx(source.path / FILE)
        quantizer = require_input_quantizer(model)
        shape = code_shape(model, quantizer)
        inputs = math.prod(shape)
        kind = np.result_type(np.min_scalar_type(quantizer.lowest), np.min_scalar_type(quantizer.highest))
        if self.vectors is None:
            codes = draw_codes(quantizer, inputs, self.samples, ctx.seed).astype(kind)
        else:
            path = self.vectors.require_unchanged()
            codes = _codes_of(_read(path), path, model, quantizer, shape, kind)
        if self.labels is not None:
            path = self.labels.require_unchanged()
            np.save(ctx.workdir / f"{self.split}_labels.npy", _labels_of(_read(path), path, len(codes), model))
        np.save(ctx.workdir / f"{self.split}_codes.npy", codes)
        description = {
            "inputs": inputs,
            "shape": list(shape),
            "codes": [quantizer.lowest, quantizer.highest, quantizer.step],
            "vectors": f"drawn by seed {ctx.seed}" if self.vectors is None else self.vectors.path.name,
        }
        (ctx.workdir / "dataset.json").write_text(json.dumps(description, indent=1, sort_keys=True) + "\n")
        return {}


def _read(path: Path) -> NDArray[Any]:
    """Map the array in the file *path*.

    Raises:
        InputError: it holds none, or one with Python objects.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError, TypeError, BadZipFile, TokenError) as error:
        said = str(error).splitlines()[0][:SHOWN] if str(error) else type(error).__name__
        raise InputError(f"{path} is not a .npy file with one array of numbers: {said}") from error
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path} holds several arrays; save the one that is meant by numpy.save")
    return array


def _codes_of(
    given: NDArray[Any],
    path: Path,
    model: onnx.ModelProto,
    quantizer: InputQuantizer,
    shape: tuple[int, ...],
    kind: np.dtype[Any],
) -> NDArray[np.integer[Any]]:
    """Return the codes of the mapped array *given*, of the type *kind*, made block by block."""
    if given.ndim < 2 or not given.size or given.size > MAX_NUMBERS:
        raise InputError(f"{path} has the shape {given.shape}; samples first, then the numbers of one are expected")
    real = given.dtype.kind not in "iu"
    if real and given.dtype not in (np.float32, np.float64):
        raise InputError(f"{path} holds {given.dtype}; integer codes or float32 or float64 values are expected")
    _require_shape(given, path, *(("real inputs", sample_shape(model)) if real else ("codes", shape)))
    inputs = math.prod(shape)
    _require_memory(len(given) * inputs, path, len(given))
    codes = np.empty((len(given), inputs), dtype=kind)
    rows = max(1, min(ROWS_AT_ONCE, NUMBERS_AT_ONCE // max(inputs, math.prod(given.shape[1:]))))
    for start in range(0, len(given), rows):
        block = np.array(given[start : start + rows])
        codes[start : start + rows] = (
            _quantized(block, path, model, quantizer) if real else _require_codes(block, path, quantizer)
        )
    return codes


def _quantized(given: NDArray[Any], path: Path, model: onnx.ModelProto, quantizer: InputQuantizer) -> Codes:
    with np.errstate(over="ignore"):  # a value that is too large becomes infinite
        values = given.astype(np.float32).reshape(len(given), *sample_shape(model))
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds a value that is not finite, or too large for binary32")
    codes: Codes = quantizer.codes_of(run_head(model, quantizer, values)).reshape(len(values), -1)
    return codes


def _require_memory(numbers: int, path: Path, samples: int) -> None:
    """Refuse vectors that the checks could not hold, before they are read.

    Raises:
        InputError: with what is needed, what there is, and how many samples fit.
    """
    there = memory_bytes()
    if numbers * BYTES_PER_NUMBER > there:
        fit = max(1, samples * there // (numbers * BYTES_PER_NUMBER))
        raise InputError(
            f"{path} holds {samples} samples, {numbers} numbers, of which the checks need about "
            f"{numbers * BYTES_PER_NUMBER >> 20} MiB; this machine has {there >> 20} MiB: save at most {fit} samples"
        )


def _require_shape(given: NDArray[Any], path: Path, what: str, shape: tuple[int, ...]) -> None:
    if given.shape[1:] not in (shape, (math.prod(shape),)):
        flat = f" or {('N', math.prod(shape))}" if len(shape) > 1 else ""
        wanted = f"{('N', *shape)}{flat}"
        raise InputError(f"{path} has the shape {given.shape}; {what} of this network have the shape {wanted}")


def _require_codes(block: NDArray[Any], path: Path, quantizer: InputQuantizer) -> Codes:
    given = block.reshape(len(block), -1)
    low, high = int(given.min()), int(given.max())
    if low < quantizer.lowest or high > quantizer.highest:
        raise InputError(
            f"{path} holds codes from {low} to {high}; the input takes {quantizer.lowest} to {quantizer.highest}"
            + (
                f": integers are codes with the zero point {quantizer.zero_point} subtracted"
                if quantizer.zero_point
                else ""
            )
        )
    codes: Codes = given.astype(np.int64)
    off = (codes - quantizer.lowest) % quantizer.step != 0
    if off.any():
        raise InputError(f"{path} holds the code {int(codes[off][0])}; the input takes -1 and 1 only")
    return codes


def _labels_of(given: NDArray[Any], path: Path, samples: int, model: onnx.ModelProto) -> NDArray[np.int64]:
    if given.dtype.kind not in "iu" or given.shape != (samples,):
        raise InputError(
            f"{path} holds {given.dtype} of shape {given.shape}; integers of shape ({samples},), one a vector"
        )
    if heads_of(model):
        names = ", ".join(name for name, _, _ in heads_of(model))
        raise InputError(f"labels have no meaning for a network with several outputs ({names}); leave out --labels")
    sizes = [int(size.dim_value) for size in model.graph.output[0].type.tensor_type.shape.dim[1:]]
    classes = math.prod(sizes) if sizes and min(sizes) > 0 else 0
    low, high = int(given.min()), int(given.max())
    # a network with one output tells two classes apart, or gives the class itself
    if low < 0 or high >= 1 << 31 or (classes > 1 and high >= classes):
        allowed = f"0 to {classes - 1}" if classes > 1 else "0 and above"
        raise InputError(f"{path} holds labels from {low} to {high}; allowed are {allowed}")
    return given.astype(np.int64)
