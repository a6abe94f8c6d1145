"""A new target is one folder and its line in the table: a toy target goes through every command."""

from __future__ import annotations

import json
import os
import shutil
import subprocess  # noqa: TID251  the command line of a copy of the project is what is tested
import sys
from pathlib import Path

import numpy as np
import pytest
from qonnx_files import random_mlp

from bitproof.pipeline.ledger import canonical_sha256

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.end_to_end

TARGET = '''
"""The target ``toy``: the integer model as the text of a Python dictionary."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from bitproof.export.integer import IntegerModel, flip_weight_bit, load, run
from bitproof.export.program.target import Target
from bitproof.pipeline import Artifact, Codes, Stage, StageContext, StageError, StagePlan
from bitproof.pipeline.executor import ExecutorPlan, Place


class CopyModel(Stage):
    name: ClassVar[str] = "toy"
    consumes: ClassVar[str] = "integer-model"
    produces: ClassVar[str] = "toy-model"

    def run(self, source: Artifact, ctx: StageContext) -> dict[str, str]:
        shutil.copytree(source.path, ctx.workdir, dirs_exist_ok=True)
        (ctx.workdir / "artifact.json").unlink()
        return {}


class BoxModel(CopyModel):
    name: ClassVar[str] = "toy-box"
    consumes: ClassVar[str] = "toy-model"
    produces: ClassVar[str] = "toy-box"


class ToyExecutor:
    name = "toy"

    def __init__(self, artifact: Artifact) -> None:
        self.model = load(artifact.path)

    def __call__(self, codes: Codes) -> Codes:
        return run(self.model, codes)

    def measure(self, codes: Codes) -> dict[str, int]:
        return {"toy_nodes": len(self.model.nodes)}


class SlowToyExecutor(ToyExecutor):
    name = "toy:slow"

    def __call__(self, codes: Codes) -> Codes:
        if len(codes) > 3:
            raise StageError(f"{len(codes)} samples take too long")
        return run(self.model, codes)


class ToyTarget(Target):
    kind: ClassVar[str] = "toy"
    most_nodes: int = 100

    def stages(self) -> tuple[StagePlan, ...]:
        return (
            StagePlan("toy", "integer", CopyModel, self.model_dump()),
            StagePlan("toy-box", "toy", BoxModel, measure=lambda folder: {"nodes_in_box": len(load(folder).nodes)}),
        )

    def executors(self) -> tuple[ExecutorPlan, ...]:
        return (
            ExecutorPlan("toy", "toy", "toy", "a toy that is told about", ToyTarget.open, flip=flip_weight_bit),
            ExecutorPlan("toy:slow", "toy-slow", "toy", "a toy that takes its time", ToyTarget.open_slow, samples=3),
        )

    @staticmethod
    def open(place: Place) -> ToyExecutor:
        return ToyExecutor(place.artifact)

    @staticmethod
    def open_slow(place: Place) -> SlowToyExecutor:
        return SlowToyExecutor(place.artifact)

    def require_supported(self, model: IntegerModel) -> None:
        if len(model.nodes) > self.most_nodes:
            raise StageError(f"layer {model.nodes[self.most_nodes].name!r} is one too many for a toy")
'''


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with one folder more, and one line."""
    copy = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "bitproof", copy / "bitproof", ignore=shutil.ignore_patterns("__pycache__", ".mypy_cache"))
    folder = copy / "bitproof" / "hw" / "toy"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "target.py").write_text(TARGET)
    table = copy / "bitproof" / "targets.py"
    text = table.read_text()
    line = "    __import__('bitproof.hw.toy.target', fromlist=['']).ToyTarget,\n"
    table.write_text(text.replace("    FinnTarget,\n", f"    FinnTarget,\n{line}"))
    assert len(table.read_text().splitlines()) == len(text.splitlines()) + 1
    return copy


def command(project: Path, folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(project)}  # noqa: TID251  of the process that is started here
    return subprocess.run(
        [sys.executable, "-P", "-m", "bitproof", *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )


def test_a_toy_target_goes_through_every_command(project: Path, tmp_path: Path) -> None:
    random_mlp(tmp_path / "net.onnx", 3)
    linted = command(project, tmp_path, "lint", "net.onnx", "--target", "toy{most_nodes=2}", "--json")
    assert linted.returncode == 1
    assert "is one too many for a toy" in json.loads(linted.stdout.splitlines()[0])["targets"][0]["why"]
    unknown = command(project, tmp_path, "import", "net.onnx", "--target", "tyo")
    assert (unknown.returncode, "did you mean 'toy'?" in unknown.stderr) == (2, True)
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 256, (20, 12)).astype(np.float32) / 256)
    np.save(tmp_path / "y.npy", np.arange(20) % 4)
    given = ("--vectors", "x.npy", "--labels", "y.npy")
    ran = command(project, tmp_path, "import", "net.onnx", "--target", "toy", *given)
    assert ran.returncode == 0, ran.stderr
    run = tmp_path / "runs" / "net"
    ledger = json.loads((run / "ledger.json").read_text())
    checks = {check["actual"]: (check["samples"], check["differing"]) for check in ledger["checks"]}
    assert checks == {"qonnx": (20, 0), "qonnx-f64": (20, 0), "toy": (20, 0), "toy:slow": (3, 0)}
    assert ledger["accuracy"]["toy"] == ledger["accuracy"]["integer"]
    assert "toy:slow" not in ledger["accuracy"], "it ran some of the images alone"
    assert ledger["resources"]["toy"]["toy_nodes"] > 2
    assert ledger["resources"]["toy-box"] == {"nodes_in_box": ledger["resources"]["toy"]["toy_nodes"]}
    assert "<td>nodes in box</td>" in (run / "report.html").read_text()
    assert "a toy that is told about" in (run / "report.html").read_text()
    for arguments, code in (
        (("verify", run), 0),
        (("explain", run), 0),
        (("report", run), 0),
        (("verify", run, "--flip-bit", "toy"), 1),
        (("explain", run, "--flip-bit", "toy"), 1),
    ):
        done = command(project, tmp_path, *arguments)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
    ledger["resources"]["toy-box"]["nodes_in_box"] += 1
    (run / "ledger.json").write_text(json.dumps({**ledger, "sha256": canonical_sha256(ledger)}))
    done = command(project, tmp_path, "verify", run)
    assert (done.returncode, "resources.toy-box.nodes_in_box" in done.stderr) == (1, True), done.stderr
