"""Bundles: only a bundle is ever replaced, a half-written one is never seen, and an incomplete one is refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import ValidationError
from pynq_hand_made import CODES, hand_made_bundle, hand_made_design

from bitproof.commands.bundle import _description_beside
from bitproof.hw.pynq.bundle import SUMS, Bitstream, expected_shape, read_bundle
from bitproof.hw.pynq.check_project import recorded_calls
from bitproof.hw.pynq.design import design_of
from bitproof.pipeline import Artifact, InputError, StageError
from bitproof.pipeline.toolchain import TCLSH

BITSTREAM = Bitstream(b"bit", b"hwh")


def test_a_bundle_is_replaced_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "dist" / "small"
    hand_made_bundle(folder, BITSTREAM)
    assert "bitproof.bit" in read_bundle(folder)
    hand_made_bundle(folder)
    assert "bitproof.bit" not in read_bundle(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["small"]
    assert expected_shape(read_bundle(folder)) == CODES.shape


@pytest.mark.parametrize("name", ["thesis.iso", "notes\x1b[2J"])
def test_a_folder_with_a_foreign_file_is_kept(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "iso"
    folder.mkdir()
    (folder / SUMS).write_text("x  thesis.iso\n")
    (folder / name).write_text("precious")
    with pytest.raises(InputError, match=r"holds '?(thesis.iso|notes\\x1b\[2J)'?, which no bundle has") as caught:
        hand_made_bundle(folder)
    assert str(caught.value).isprintable()
    assert (folder / name).read_text() == "precious"


def as_file(path: Path) -> None:
    path.write_text("precious")


def as_link(path: Path) -> None:
    path.with_name("real").mkdir()
    path.symlink_to("real")


def as_dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def with_link_inside(path: Path) -> None:
    path.mkdir()
    (path / SUMS).symlink_to("/etc/passwd")


def with_folder_inside(path: Path) -> None:
    (path / SUMS).mkdir(parents=True)


@pytest.mark.parametrize("made", [as_file, as_link, as_dangling, with_link_inside, with_folder_inside])
def test_what_is_no_bundle_is_refused_and_kept(made: Callable[[Path], None], tmp_path: Path) -> None:
    made(tmp_path / "small")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"give another folder: --out FOLDER"):
        hand_made_bundle(tmp_path / "small")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_write_that_fails_keeps_the_old_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_made_bundle(tmp_path / "small")
    renamed: list[Path] = []
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        renamed.append(self)
        if self.name == "new":
            raise OSError("no space left")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OSError, match="no space left"):
        hand_made_bundle(tmp_path / "small")
    assert renamed
    assert read_bundle(tmp_path / "small")
    assert [path.name for path in tmp_path.iterdir()] == ["small"]


@pytest.mark.parametrize("name", ["bitproof_driver.py", "selftest.sh", "vectors.npz", "bitproof.hwh", "bitproof.bit"])
def test_a_bundle_without_one_of_its_files_is_refused(name: str, tmp_path: Path) -> None:
    hand_made_bundle(tmp_path / "small", BITSTREAM)
    path = tmp_path / "small" / SUMS
    path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.endswith(f"  {name}\n")))
    with pytest.raises(InputError, match=f"names no {name}, which a bundle needs; bundle the run again"):
        read_bundle(tmp_path / "small")


def test_vectors_that_cannot_be_read_are_refused() -> None:
    for files in ({}, {"vectors.npz": b""}, {"vectors.npz": b"PK\x03\x04junk"}):
        with pytest.raises(InputError, match=r"^the bundle has no vectors.npz that can be read"):
            expected_shape(files)


@pytest.mark.parametrize("name", ["evil\nexec touch x\n#", "", "a b", "../up", 'r}{"[x', "r\n"])
def test_a_name_that_is_no_name_of_a_run_never_reaches_tcl(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="name"):
        hand_made_design(name=name)
    with pytest.raises(InputError, match=r"^a design cannot be called "):
        design_of(Artifact("rtl", "rtl", tmp_path, "0" * 64), name=name, board="pynq-z1")


@pytest.mark.tool
@pytest.mark.skipif(TCLSH.find() is None, reason=f"{TCLSH.name} is missing: {TCLSH.install}")
def test_a_script_starts_no_program_when_it_is_checked(tmp_path: Path) -> None:
    project = tmp_path / "project"
    for line in (
        f'open "|touch {tmp_path}/made" w',
        f"exec touch {tmp_path}/made",
        "socket localhost 22",
        "interp create x",
    ):
        shutil.rmtree(project, ignore_errors=True)
        project.mkdir()
        (project / "build.tcl").write_text(f"set found [{line}]\n")
        with pytest.raises(StageError, match=r"starts no program|invalid command name"):
            recorded_calls(project, scratch=tmp_path)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("bit", [".", "/", ".."])
def test_a_bit_file_without_a_name_is_refused(bit: str) -> None:
    if bit == "..":
        assert _description_beside(Path("a.bit")) == Path("a.hwh")
        return
    with pytest.raises(InputError, match=r"names no file; give a bit file"):
        _description_beside(Path(bit))
