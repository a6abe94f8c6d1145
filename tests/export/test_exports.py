"""Networks exported by releases of Brevitas, old and new, by both exporters: each gives the codes that Brevitas gives.

``exports/make_exports.py`` makes the files and says with which versions.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from bitproof.export.importer.input_quantizer import require_input_quantizer, run_head
from bitproof.export.importer.normalize import normalize
from bitproof.export.integer import IntegerModel, Threshold, run
from bitproof.export.lowering.lower import Lowered, lower_graph
from bitproof.export.proofs import prove_lowering

EXPORTS = Path(__file__).parent / "exports"
FILES = sorted(path.name for path in EXPORTS.glob("*.onnx"))


def imported(path: Path) -> tuple[onnx.ModelProto, Lowered]:
    model = normalize(onnx.load(path))
    return model, lower_graph(model, path, "net")


def codes_of_brevitas(name: str, model: IntegerModel) -> NDArray[np.float64]:
    """Return the codes nearest to what Brevitas itself gives, and check that it gives codes: beyond its rounding."""
    network, release = name.split("-")[:2]
    values = np.load(EXPORTS / f"{network}-{release}.y.npy").astype(np.float64)
    codings = model.output_codings
    scales = np.array([float(c.slope) for c in codings]) if codings else float(model.output_scale)
    offsets = np.array([float(c.intercept) for c in codings]) if codings else 0.0
    codes: NDArray[np.float64] = (values - offsets) / scales
    assert np.abs(codes - np.rint(codes)).max() < 0.01
    return np.rint(codes)


def test_every_release_and_exporter_is_there() -> None:
    made = {tuple(name.removesuffix(".onnx").split("-")) for name in FILES}
    both = {(release, exporter) for _, release, exporter in made}
    torchscript = {"0.10.3", "0.11.0", "0.12.1", "0.13.0", "0.13.4"}
    assert both == {(r, "torchscript") for r in torchscript} | {(r, "dynamo") for r in ("0.12.1", "0.13.0", "0.13.4")}
    assert len(made) == 2 * len(both)


@pytest.mark.parametrize("name", FILES)
def test_exported_network_gives_the_codes_of_brevitas(name: str) -> None:
    model, lowered = imported(EXPORTS / name)
    quantizer = require_input_quantizer(model)
    values = np.load(EXPORTS / f"{name.split('-', maxsplit=1)[0]}.x.npy")
    codes = quantizer.codes_of(run_head(model, quantizer, values)).reshape(len(values), -1)
    outputs = run(lowered.model, codes)
    assert (outputs == codes_of_brevitas(name, lowered.model)).all()
    assert len(np.unique(outputs)) > 50
    assert [proof.claim for proof in prove_lowering(lowered) if not proof.holds] == []


@pytest.mark.parametrize("name", FILES)
def test_a_moved_threshold_gives_other_codes(name: str) -> None:
    _, lowered = imported(EXPORTS / name)
    (node, *_) = (node for node in lowered.model.nodes if isinstance(node, Threshold))
    moved = Threshold(node.name, node.thresholds + 3, node.output, node.lowest, node.flipped, node.step)
    nodes = tuple(moved if n.name == node.name else n for n in lowered.model.nodes)
    wrong = replace(lowered.model, nodes=nodes)
    codes = np.random.default_rng(1).choice(np.array(wrong.allowed_codes), size=(200, wrong.inputs))
    assert (run(wrong, codes) != run(lowered.model, codes)).any()
