"""What a stage finds when it starts, and what is left when it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from bitproof.pipeline import Artifact, FirstStage, InputError, Stage, StageContext, StageError
from bitproof.pipeline.stage import execute


@dataclass(frozen=True)
class Counting(FirstStage):
    """Fails until it has been started *starts* times, which it counts in the folder that outlives failures."""

    starts: int
    name: ClassVar[str] = "counting"
    produces: ClassVar[str] = "number"

    def run(self, ctx: StageContext) -> Mapping[str, str]:
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


@dataclass(frozen=True)
class Doubling(Stage):
    """Made from a number alone."""

    name: ClassVar[str] = "doubling"
    consumes: ClassVar[str] = "number"
    produces: ClassVar[str] = "number"

    def run(self, source: Artifact, ctx: StageContext) -> Mapping[str, str]:
        (ctx.workdir / "made").touch()
        return {}


def test_a_stage_is_given_what_it_consumes_and_nothing_else(tmp_path: Path) -> None:
    def made_from(source: Artifact | None) -> Artifact:
        return execute(Doubling(), source, tmp_path / "made", seed=0, versions={}, name="made")

    number = Artifact("counting", "number", tmp_path / "number", "ab")
    assert made_from(number).made_from == ("ab",)
    text = Artifact("counting", "text", tmp_path / "text", "ab")
    with pytest.raises(
        InputError, match=r"^stage doubling is made from an artifact of kind 'number', not from .*'text'$"
    ):
        made_from(text)
    with pytest.raises(
        InputError, match=r"^stage doubling is made from an artifact of kind 'number', not from nothing$"
    ):
        made_from(None)
    with pytest.raises(InputError, match=r"^stage counting reads the outside world; it was given the artifact"):
        execute(Counting(1), number, tmp_path / "made", seed=0, versions={}, name="made")
