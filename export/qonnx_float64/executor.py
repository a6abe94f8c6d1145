"""The executor ``qonnx-f64``."""

from __future__ import annotations

import onnx

from bitproof.export.integer import IntegerModel, load
from bitproof.export.lowering import Origins, load_origins
from bitproof.export.qonnx import FILE, load_qonnx
from bitproof.export.qonnx_executor import QonnxExecutor
from bitproof.export.qonnx_float64.evaluate import evaluate
from bitproof.pipeline import Artifact, Codes, Observation
from bitproof.pipeline.float_error import DOUBLE_PRECISION
from bitproof.pipeline.progress import Progress, silent


class QonnxFloat64Executor:
    """The QONNX file in binary64, on codes if it can be; see :mod:`bitproof.export.qonnx_float64`."""

    name = "qonnx-f64"
    precision_bits = DOUBLE_PRECISION

    def __init__(self, file: onnx.ModelProto, model: IntegerModel, origins: Origins) -> None:
        """Run *file*, from which *model* was lowered; *origins* tells where its nodes come from."""
        self.progress: Progress = silent
        self._reader = QonnxExecutor(file, model, origins, name=self.name, evaluate=evaluate)

    @classmethod
    def open(cls, artifact: Artifact, integer: Artifact) -> QonnxFloat64Executor:
        """Return the executor of the file in *artifact*, from which the integer model in *integer* was lowered."""
        return cls(load_qonnx(artifact.path / FILE), load(integer.path), load_origins(integer.path))

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), and return the output codes nearest to the real outputs."""
        return self._reader(codes)

    def observe(self, codes: Codes) -> Observation:
        """Run *codes*, shape (N, inputs), and return the codes of all activations and the real outputs."""
        return self._reader.observe(codes)
