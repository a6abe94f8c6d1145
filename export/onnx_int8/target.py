"""The target ``onnx-int8``: packed-int8 ONNX, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from bitproof.export.onnx_int8.costs import SHIPPED, absolute_table, digest_of_table
from bitproof.export.program.target import Target
from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.executor import Executor, ExecutorPlan, Place
from bitproof.pipeline.import_config import SourceFile
from bitproof.pipeline.stage import StagePlan

if TYPE_CHECKING:
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
        table: of measured times, by which the fastest are told; a file that ``bitproof tune`` wrote. None: the shipped.
        table_sha256: its digest.
    """

    kind: ClassVar[str] = "onnx-int8"

    construction: Literal["integer-only", "single-steps"] | None = None
    weights: Literal["native"] | None = None
    pixels: str | None = None
    classes: bool | None = None
    table: Path | None = None
    table_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None

    @model_validator(mode="before")
    @classmethod
    def _with_digest(cls, options: dict[str, object], info: ValidationInfo) -> dict[str, object]:
        """Read the table that is named for the first time: what it holds counts, not where it lies."""
        if "table" not in options:
            if "table_sha256" in options:
                raise ValueError("a digest without a table; write table=FILE")
            return options
        path = absolute_table(str(options["table"]), info.context)
        return {"table_sha256": options.get("table_sha256") or digest_of_table(path), **options, "table": str(path)}

    @field_validator("pixels")
    @classmethod
    def _require_pixels(cls, pixels: str | None) -> str | None:
        from bitproof.export.onnx_int8.ends import Ends

        return Ends(pixels).pixels

    @property
    def inputs(self) -> Mapping[str, SourceFile]:
        """The table, if one is named."""
        if self.table is None or self.table_sha256 is None:
            return {}
        return {"table": SourceFile(path=self.table, sha256=self.table_sha256)}

    def stages(self) -> tuple[StagePlan, ...]:
        """Return the one stage: the writer. Another table, shipped or named, makes its artifact stale."""
        options = self.model_dump(mode="json", exclude_none=True, exclude={"table"})
        options.setdefault("table_sha256", sha256_of_bytes(SHIPPED.read_bytes()))
        return (StagePlan(self.kind, "integer", partial(_write, self), options),)

    def executors(self) -> tuple[ExecutorPlan, ...]:
        """Return the one executor: onnxruntime."""
        about = "packed-int8 ONNX in onnxruntime"
        return (ExecutorPlan(self.kind, self.kind, self.kind, about, _run, flip=_flip),)

    def require_supported(self, model: IntegerModel) -> None:
        """Build the file in memory: every form is found or refused then, whatever its time."""
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

    return WriteOnnxInt8(
        target.construction or "fastest",
        target.weights == "native",
        target.pixels,
        bool(target.classes),
        target.table_sha256,
    )


def _run(place: Place) -> Executor:
    from bitproof.export.onnx_int8 import OnnxInt8Executor

    return OnnxInt8Executor(place.artifact)


def _flip(folder: Path, *, node: str, row: int, column: int) -> str:
    from bitproof.export.onnx_int8 import flip_weight_bit

    return flip_weight_bit(folder, node=node, row=row, column=column)
