"""The target ``onnx-int8``: packed-int8 ONNX, run by onnxruntime."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import field_validator

from bitproof.export.program.target import Target
from bitproof.pipeline.executor import Executor, ExecutorPlan, Place
from bitproof.pipeline.stage import StagePlan

if TYPE_CHECKING:
    from pathlib import Path

    from bitproof.export.integer import IntegerModel
    from bitproof.export.onnx_int8 import WriteOnnxInt8


class OnnxInt8Target(Target):
    """Packed-int8 ONNX for onnxruntime.

    Attributes:
        construction: leaves operators out that are fast and proven: ``integer-only`` those that hold codes in floats,
            ``single-steps`` all that multiply and requantize in one; None: the fastest are used.
        weights: ``native`` stores weights of 2 and 4 bits in the types that ONNX has for them since opset 25 and 21;
            None: in bytes, which every onnxruntime from 1.17 on unpacks.
        pixels: the file takes 8-bit images; this is the real value of one pixel, such as ``1/255``, or ``high-bits``.
            None: it takes codes.
        classes: the file gives the class, too.
    """

    kind: ClassVar[str] = "onnx-int8"

    construction: Literal["integer-only", "single-steps"] | None = None
    weights: Literal["native"] | None = None
    pixels: str | None = None
    classes: bool | None = None

    @field_validator("pixels")
    @classmethod
    def _require_pixels(cls, pixels: str | None) -> str | None:
        from bitproof.export.onnx_int8.ends import Ends

        return Ends(pixels).pixels

    def stages(self) -> tuple[StagePlan, ...]:
        """Return the one stage: the writer."""
        options = self.model_dump(mode="json", exclude_none=True)
        return (StagePlan(self.kind, "integer", partial(_write, self), options),)

    def executors(self) -> tuple[ExecutorPlan, ...]:
        """Return the one executor: onnxruntime."""
        about = "packed-int8 ONNX in onnxruntime"
        return (ExecutorPlan(self.kind, self.kind, self.kind, about, _run, flip=_flip),)

    def require_supported(self, model: IntegerModel) -> None:
        """Build the file in memory: every form is found or refused then."""
        from bitproof.export.onnx_int8 import build
        from bitproof.export.onnx_int8.ends import Ends

        stage = _write(self)
        build(
            model,
            construction=stage.construction,
            native_weights=stage.native_weights,
            ends=Ends(stage.pixels, stage.classes),
        )


def _write(target: OnnxInt8Target) -> WriteOnnxInt8:
    from bitproof.export.onnx_int8 import WriteOnnxInt8

    construction = target.construction or "fastest"
    return WriteOnnxInt8(construction, target.weights == "native", target.pixels, bool(target.classes))


def _run(place: Place) -> Executor:
    from bitproof.export.onnx_int8 import OnnxInt8Executor

    return OnnxInt8Executor(place.artifact)


def _flip(folder: Path, *, node: str, row: int, column: int) -> str:
    from bitproof.export.onnx_int8 import flip_weight_bit

    return flip_weight_bit(folder, node=node, row=row, column=column)
