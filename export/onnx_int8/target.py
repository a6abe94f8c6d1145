"""The target ``onnx-int8``: packed-int8 ONNX, run by onnxruntime."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from bitproof.export.program.target import Target
from bitproof.pipeline.executor import Executor, ExecutorPlan, Place
from bitproof.pipeline.stage import Stage, StagePlan

if TYPE_CHECKING:
    from pathlib import Path

    from bitproof.export.integer import IntegerModel
    from bitproof.export.onnx_int8.context import Construction


class OnnxInt8Target(Target):
    """Packed-int8 ONNX for onnxruntime.

    *construction* leaves operators out that are fast and proven: ``integer-only`` those that hold codes in floats,
    ``single-steps`` all that multiply and requantize in one; None: the fastest are used.
    """

    kind: ClassVar[str] = "onnx-int8"

    construction: Literal["integer-only", "single-steps"] | None = None

    def stages(self) -> tuple[StagePlan, ...]:
        """Return the one stage: the writer."""
        options = self.model_dump(mode="json", exclude_none=True)
        return (StagePlan(self.kind, "integer", partial(_write, self.construction or "fastest"), options),)

    def executors(self) -> tuple[ExecutorPlan, ...]:
        """Return the one executor: onnxruntime."""
        about = "packed-int8 ONNX in onnxruntime"
        return (ExecutorPlan(self.kind, self.kind, self.kind, about, _run, flip=_flip),)

    def require_supported(self, model: IntegerModel) -> None:
        """Build the file in memory: every form is found or refused then."""
        from bitproof.export.onnx_int8 import build

        build(model, construction=self.construction or "fastest")


def _write(construction: Construction) -> Stage:
    from bitproof.export.onnx_int8 import WriteOnnxInt8

    return WriteOnnxInt8(construction)


def _run(place: Place) -> Executor:
    from bitproof.export.onnx_int8 import OnnxInt8Executor

    return OnnxInt8Executor(place.artifact)


def _flip(folder: Path, *, node: str, row: int, column: int) -> str:
    from bitproof.export.onnx_int8 import flip_weight_bit

    return flip_weight_bit(folder, node=node, row=row, column=column)
