"""What verify does with an integer model: derive it again from the QONNX file, and name what is not as recorded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qonnx_files import random_mlp

from bitproof.export.integer import MatMul, Node, Threshold, load, save
from bitproof.export.lower import derive_again, lower_file, write_lowered
from bitproof.pipeline import Artifact


@pytest.fixture
def artifacts(tmp_path: Path) -> tuple[Artifact, Artifact]:
    """A QONNX file and the integer model that was lowered from it."""
    path = random_mlp(tmp_path / "export" / "model.onnx", 5)
    (tmp_path / "integer").mkdir()
    write_lowered(lower_file(path), tmp_path / "integer")
    digest = "0" * 64
    source = Artifact("export", "qonnx", tmp_path / "export", digest)
    return source, Artifact("integer", "integer-model", tmp_path / "integer", digest)


def rewrite(artifact: Artifact, node: Node) -> None:
    """Put *node* in the place of the node of its name."""
    model = load(artifact.path)
    save(replace(model, nodes=tuple(node if n.name == node.name else n for n in model.nodes)), artifact.path)


def test_an_untouched_model_is_derived_byte_for_byte(artifacts: tuple[Artifact, Artifact], tmp_path: Path) -> None:
    proofs, differing = derive_again(*artifacts, tmp_path / "scratch")
    assert differing == []
    assert all(proof.holds for proof in proofs)
    assert sum(proof.cases for proof in proofs) > 1000
    assert not list((tmp_path / "scratch").iterdir())


@pytest.mark.parametrize("seed", range(20))
def test_a_moved_threshold_is_named_by_channel_and_accumulator(
    artifacts: tuple[Artifact, Artifact], tmp_path: Path, seed: int
) -> None:
    generator = np.random.default_rng(seed)
    model = load(artifacts[1].path)
    node = model.nodes_of(Threshold)[int(generator.integers(len(model.nodes_of(Threshold))))]
    inner = np.argwhere(np.diff(node.thresholds, axis=1)[:, 1:-1] > 1)
    channel, level = (int(i) for i in inner[generator.integers(len(inner))])
    level += 1
    moved = node.thresholds.copy()
    moved[channel, level] += 1
    rewrite(artifacts[1], replace(node, thresholds=moved))
    _, differing = derive_again(*artifacts, tmp_path / "scratch")
    file, proof = differing
    assert file == f"integer model: {node.name}.thresholds.npy is not what the QONNX file gives"
    assert proof.startswith(
        f"proof fails: {node.name}, channel {channel}, accumulator {node.thresholds[channel, level]}: "
    )


def test_a_changed_weight_and_a_file_too_many_are_named(artifacts: tuple[Artifact, Artifact], tmp_path: Path) -> None:
    node = load(artifacts[1].path).nodes_of(MatMul)[1]
    rewrite(artifacts[1], replace(node, weights=-node.weights))
    (artifacts[1].path / "more.npy").write_bytes(b"")
    _, differing = derive_again(*artifacts, tmp_path / "scratch")
    assert differing == [
        "integer model: fc1.weights.npy is not what the QONNX file gives",
        "integer model: more.npy is not what the QONNX file gives",
    ]


def test_a_step_of_an_activation_is_part_of_it(artifacts: tuple[Artifact, Artifact], tmp_path: Path) -> None:
    node = load(artifacts[1].path).nodes_of(Threshold)[0]
    assert isinstance(node, Threshold)
    rewrite(artifacts[1], replace(node, thresholds=node.thresholds[:, 1:].copy(), lowest=1))
    _, differing = derive_again(*artifacts, tmp_path / "scratch")
    assert "integer model: model.json is not what the QONNX file gives" in differing
    assert any(line.startswith("proof fails: the integer model has no activation act0 of shape") for line in differing)
