"""Artifacts: whole or not there, and unchanged or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from bitproof.pipeline import Artifact, FirstStage, IntegrityError, StageContext, StageError, digest_of
from bitproof.pipeline.stage import execute


@dataclass(frozen=True)
class WriteNumber(FirstStage):
    """Write a number, then perhaps fail."""

    number: int
    fail: bool = False
    name: ClassVar[str] = "number"
    produces: ClassVar[str] = "number"

    def run(self, ctx: StageContext) -> Mapping[str, str]:
        (ctx.workdir / "number.txt").write_text(str(self.number))
        if self.fail:
            raise StageError("number: failed on purpose")
        return {"counter": "1.0"}


def make(folder: Path, number: int, *, fail: bool = False) -> Artifact:
    return execute(WriteNumber(number, fail), None, folder / "number", seed=0, versions={"numpy": "2"}, name="number")


def test_artifact_is_read_back_as_it_was_made(tmp_path: Path) -> None:
    made = make(tmp_path, 3)
    loaded = Artifact.load(tmp_path / "number")
    loaded.verify()
    assert (loaded.sha256, loaded.kind, loaded.tools) == (made.sha256, "number", {"numpy": "2", "counter": "1.0"})


def test_a_failed_stage_leaves_the_artifact_before_it(tmp_path: Path) -> None:
    make(tmp_path, 3)
    with pytest.raises(StageError, match="failed on purpose"):
        make(tmp_path, 4, fail=True)
    assert (tmp_path / "number" / "number.txt").read_text() == "3"
    Artifact.load(tmp_path / "number").verify()


def test_equal_content_has_an_equal_digest(tmp_path: Path) -> None:
    assert make(tmp_path / "a", 3).sha256 == make(tmp_path / "b", 3).sha256
    assert make(tmp_path / "a", 3).sha256 != make(tmp_path / "b", 4).sha256


@pytest.mark.parametrize("change", ["edit", "add", "rename", "link"])
def test_any_change_after_hashing_is_found(tmp_path: Path, change: str) -> None:
    artifact = make(tmp_path, 3)
    payload = tmp_path / "number" / "number.txt"
    if change == "edit":
        payload.write_text("5")
    elif change == "add":
        (tmp_path / "number" / "more.txt").write_text("")
    elif change == "rename":
        payload.rename(payload.with_name("other.txt"))
    else:
        (tmp_path / "number" / "link").symlink_to(payload)
    with pytest.raises(IntegrityError, match="number") as caught:
        artifact.verify()
    assert caught.value.exit_code == 1


def test_a_name_that_looks_like_content_changes_the_digest(tmp_path: Path) -> None:
    for folder, name, content in (("a", "x", "1:y:0:"), ("b", "x1", ":y:0:")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text(content)
    assert digest_of(tmp_path / "a") != digest_of(tmp_path / "b")


@pytest.mark.parametrize("manifest", ["", "[]", "{}", '{"stage": 1}', "\x00"])
def test_a_damaged_manifest_is_an_integrity_error(tmp_path: Path, manifest: str) -> None:
    make(tmp_path, 3)
    (tmp_path / "number" / "artifact.json").write_text(manifest)
    with pytest.raises(IntegrityError, match="damaged"):
        Artifact.load(tmp_path / "number")


def test_a_folder_without_manifest_is_no_artifact(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no complete artifact"):
        Artifact.load(tmp_path)
