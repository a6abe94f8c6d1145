"""The lowering stage: QONNX in, the integer model, its proofs and its origins out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from export.integer import KIND, IntegerModel, save
from export.lowering import Lowered, lower_graph, save_origins
from export.proofs import prove_lowering
from export.qonnx import FILE, load_qonnx
from pipeline import Artifact, Stage, StageContext
from pipeline.ledger import ProofEntry

PROOFS = "proofs.json"


@dataclass(frozen=True)
class LowerToInteger(Stage):
    """Lower a QONNX file to the integer model."""

    name: ClassVar[str] = "integer"
    consumes: ClassVar[str | None] = "qonnx"
    produces: ClassVar[str] = KIND
    distributions: ClassVar[tuple[str, ...]] = ("numpy", "onnx")

    def run(self, source: Artifact | None, ctx: StageContext) -> Mapping[str, str]:
        """Write the integer model, ``proofs.json`` and ``origins.json``."""
        assert source is not None, "lowering consumes a QONNX file"
        lowered = lower_file(source.path / FILE)
        save(lowered.model, ctx.workdir)
        save_origins(lowered, ctx.workdir)
        text = json.dumps(
            [proof.model_dump(mode="json") for proof in prove_lowering(lowered)], indent=1, sort_keys=True
        )
        (ctx.workdir / PROOFS).write_text(text + "\n")
        return {}


def lower_file(path: Path) -> Lowered:
    """Lower the QONNX file at *path*; the network is named after its folder.

    Raises:
        InputError: it holds operations that cannot be lowered exactly; the message names each node.
    """
    return lower_graph(load_qonnx(path), path, path.resolve().parent.name)


def lower(path: Path) -> tuple[IntegerModel, list[ProofEntry]]:
    """Lower the QONNX file at *path* and prove the result.

    Raises:
        InputError: it holds operations that cannot be lowered exactly; the message names each node.
    """
    lowered = lower_file(path)
    return lowered.model, prove_lowering(lowered)
