"""The first stage of an import: a user's QONNX file, normalized and with a quantized input."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import onnx

from bitproof.export.importer.declare_input import declare_input
from bitproof.export.importer.input_quantizer import require_input_quantizer
from bitproof.export.importer.normalize import normalize
from bitproof.export.importer.read import BYTES
from bitproof.export.qonnx import FILE, KIND, load_qonnx
from bitproof.pipeline import FirstStage, InputError, StageContext
from bitproof.pipeline.import_config import SourceFile, source_file
from bitproof.pipeline.input_type import parse_input_type

SOURCE = "source.json"


def _annotation(model: onnx.ModelProto, tensor: str) -> str | None:
    """Return the type that FINN's annotation in *model* gives *tensor*, for example BIPOLAR; None if it is none."""
    for annotation in model.graph.quantization_annotation:
        if annotation.tensor_name == tensor:
            return next((e.value for e in annotation.quant_parameter_tensor_names if e.key == "finn_datatype"), None)
    return None


def _bytes_of(model: onnx.ModelProto, tensor: str) -> str | None:
    """Return the declaration that the type of the input *tensor* of *model* stands for; None if it is FLOAT."""
    held = next(value.type.tensor_type.elem_type for value in model.graph.input if value.name == tensor)
    return BYTES.get(held)


@dataclass(frozen=True)
class ImportQonnx(FirstStage):
    """Normalize the file *source*; *input* declares its input codes if it does not quantize them itself."""

    source: SourceFile
    input: str | None = None

    name: ClassVar[str] = "import"
    produces: ClassVar[str] = KIND
    distributions: ClassVar[tuple[str, ...]] = ("onnx", "onnxruntime", "qonnx")

    def run(self, ctx: StageContext) -> Mapping[str, str]:
        """Write ``model.onnx``, and ``source.json`` that tells where it comes from."""
        path = self.source.require_unchanged()
        original = load_qonnx(path)
        try:
            model = normalize(original)
            declared = self.input or _bytes_of(original, model.graph.input[0].name)
            if declared is not None:
                model = declare_input(model, parse_input_type(declared))
            require_input_quantizer(model, annotated=_annotation(original, model.graph.input[0].name))
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        onnx.save_model(model, ctx.workdir / FILE)
        description = {
            "file": path.name,
            "sha256": self.source.sha256,
            "producer": f"{original.producer_name} {original.producer_version}".strip(),
            "opsets": {entry.domain or "ai.onnx": entry.version for entry in original.opset_import},
            "declared_input": declared,
        }
        (ctx.workdir / SOURCE).write_text(json.dumps(description, indent=1, sort_keys=True) + "\n")
        return {}


@contextmanager
def normalized(path: Path, input_type: str | None) -> Iterator[Path]:
    """Import the file at *path* outside of any run, and yield the normalized file, which is gone afterwards.

    *input_type* declares its input codes if it does not quantize them itself.

    Raises:
        InputError: the file cannot be read or imported.
    """
    with tempfile.TemporaryDirectory(prefix="bitproof-import-") as folder:
        made, scratch = Path(folder) / "export", Path(folder) / "scratch"
        made.mkdir()
        scratch.mkdir()
        ImportQonnx(source=source_file(path), input=input_type).run(StageContext(made, scratch, 0))
        yield made / FILE
