"""What a stage finds when it starts, and what is left when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from bitproof.pipeline import Artifact, Stage, StageContext, StageError
from bitproof.pipeline.stage import execute


@dataclass(frozen=True)
class Counting(Stage):
    """Fails until it has been started *starts* times, which it counts in the folder that outlives failures."""

    starts: int
    name: ClassVar[str] = "counting"
    consumes: ClassVar[str | None] = None
    produces: ClassVar[str] = "number"

    def run(self, source: Artifact | None, ctx: StageContext) -> Mapping[str, str]:
        assert ctx.resume is not None
        ctx.resume.mkdir(parents=True, exist_ok=True)
        assert not list(ctx.workdir.iterdir())
        assert not list(ctx.scratch.iterdir())
        (ctx.workdir / "half").touch()
        (ctx.scratch / "log").touch()
        marks = len(list(ctx.resume.iterdir())) + 1
        (ctx.resume / str(marks)).touch()
        if marks < self.starts:
            raise StageError("not yet")
        (ctx.workdir / "number").write_text(str(marks))
        return {}


def test_what_an_interrupted_stage_keeps_outlives_failures_and_goes_with_success(tmp_path: Path) -> None:
    final = tmp_path / "counting"
    for _ in range(2):
        with pytest.raises(StageError, match=r"^not yet$"):
            execute(Counting(3), None, final, seed=0, versions={}, name="slot")
        assert not final.exists()
    assert sorted(path.name for path in (tmp_path / "resume" / "slot").iterdir()) == ["1", "2"]
    artifact = execute(Counting(3), None, final, seed=0, versions={}, name="slot")
    assert (artifact.path / "number").read_text() == "3"
    assert not (tmp_path / "resume" / "slot").exists()
