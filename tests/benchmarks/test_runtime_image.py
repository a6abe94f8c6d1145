"""The image that serves a file: its Dockerfile fits the project, and the benchmark carries out what it says."""

from __future__ import annotations

import ast
import os
import re
import sys
import tomllib
from pathlib import Path

import pytest

from benchmarks import runtime_image
from benchmarks.lab.dockerfile import Copy, Image, Run, pinned, read
from benchmarks.lab.image_root import RELEASES, Root, added_bytes, mounts_in, temporary_root
from benchmarks.runtime_image import DOCKERFILE, PROJECT
from bitproof.pipeline import InputError, StageError
from bitproof.pipeline.toolchain import run_program

IMAGE = read(DOCKERFILE.read_text())
NEEDED = {"numpy", "onnxruntime"}
SMALL = """\
FROM debian:12-slim
RUN one \\
    # a comment between
    && two
COPY a.py b.py /srv/
USER 10:20
EXPOSE 80
HEALTHCHECK --interval=30s CMD ["true"]
CMD ["python", "-c", "1 + 1"]
"""


def names(image: Image) -> list[str]:
    return [source for layer in image.layers if isinstance(layer, Copy) for source in layer.sources]


def imported(path: Path) -> set[str]:
    """Return what *path* imports, in functions too, and not for types alone."""
    found: set[str] = set()
    left: list[ast.AST] = [ast.parse(path.read_text())]
    while left:
        node = left.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {
                f"{node.module}.{alias.name}" if node.module == "bitproof" else node.module for alias in node.names
            }
        left.extend(ast.iter_child_nodes(node))
    return found


def test_the_image_has_the_versions_of_the_project() -> None:
    lines = (PROJECT / "docker" / "constraints.txt").read_text().splitlines()
    tested = dict(line.split("==") for line in lines if "==" in line)
    assert pinned(IMAGE) == {name: tested[name] for name in NEEDED}
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    assert f"onnxruntime=={pinned(IMAGE)['onnxruntime']}" in project["optional-dependencies"]["onnx"]
    (allowed,) = (line for line in project["dependencies"] if line.startswith("numpy"))
    low, high = (tuple(map(int, part.split("."))) for part in re.findall(r"[\d.]+", allowed))
    assert low <= tuple(map(int, pinned(IMAGE)["numpy"].split("."))) < high


def test_the_image_has_every_file_that_its_program_needs_and_no_torch() -> None:
    assert all((PROJECT / name).is_file() for name in names(IMAGE))
    reached = set.union(*(imported(PROJECT / name) for name in names(IMAGE)))
    roots = {name.partition(".")[0] for name in reached if not name.startswith("bitproof")}
    assert roots - set(sys.stdlib_module_names) == NEEDED
    # bitproof.api is what everybody else uses: it is imported for names that serve.py does not ask for.
    inner = {name for name in reached if name.startswith("bitproof.")}
    assert inner == {"bitproof.session", "bitproof.session_file", "bitproof.api"}
    assert "torch" not in " ".join(layer.line for layer in IMAGE.layers if isinstance(layer, Run))
    assert "typer" in imported(PROJECT / "bitproof" / "cli.py")


def test_the_program_runs_on_the_files_of_the_image_alone(tmp_path: Path) -> None:
    root = Root(tmp_path / "root", tmp_path / "log", "the test")
    root.folder.mkdir()
    for layer in IMAGE.layers:
        if isinstance(layer, Copy):
            size_bytes = sum((PROJECT / source).stat().st_size for source in layer.sources)
            assert root.add(layer, PROJECT) == size_bytes
    script = root.folder / IMAGE.command[1].lstrip("/")
    code = f"import sys; sys.path.insert(0, {str(script.parent)!r}); import serve, bitproof; print(bitproof.__file__)"
    said = run_program(
        [sys.executable, "-I", "-c", code], needed_by="the test", cwd=tmp_path, log=root.log, timeout_s=60
    )
    assert said.strip() == str(script.parent / "bitproof" / "__init__.py")
    arguments = IMAGE.command[2:]
    assert arguments[arguments.index("--port") + 1] == str(IMAGE.port)
    assert f":{IMAGE.port}/" in IMAGE.health[-1]
    assert IMAGE.base in RELEASES


def test_what_a_dockerfile_says_is_read() -> None:
    assert read(SMALL) == Image(
        base="debian:12-slim",
        layers=(Run("one     && two"), Copy(("a.py", "b.py"), "/srv/")),
        user="10:20",
        port=80,
        health=("true",),
        command=("python", "-c", "1 + 1"),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("EXPOSE 80", "ENV A=1", "line 7 of the Dockerfile has the instruction 'ENV'; known: RUN, COPY, FROM, "),
        ("EXPOSE 80", "expose 80", "has the instruction 'expose'"),
        ("EXPOSE 80\n", "", "the Dockerfile has no EXPOSE; needed: FROM, USER, EXPOSE, HEALTHCHECK, CMD"),
        ("EXPOSE 80", "EXPOSE 80\nEXPOSE 81", "line 8 of the Dockerfile has a second EXPOSE; one is allowed"),
        ("EXPOSE 80", "EXPOSE 80/udp", "has EXPOSE '80/udp'; expected one port"),
        ("EXPOSE 80", "EXPOSE 80\nRUN three", "has RUN behind USER"),
        ("FROM debian:12-slim\n", "", "line 1 of the Dockerfile has RUN in the wrong place; FROM is the first"),
        (
            "FROM debian:12-slim",
            "FROM debian:12-slim AS one",
            "has the base 'debian:12-slim AS one'; expected NAME:TAG",
        ),
        ("FROM debian:12-slim", "FROM $BASE", "has the base '$BASE'"),
        ("FROM", "# syntax=other\nFROM", "line 1 of the Dockerfile asks for another parser"),
        ("RUN one", "RUN --mount=type=cache one", "expected a line for the shell, without options"),
        ("RUN one", 'RUN ["one"]', "expected a line for the shell"),
        ("RUN one", "RUN <<EOF one", "and here-documents"),
        ("a.py b.py /srv/", "*.py /srv/", "without patterns"),
        ("a.py b.py /srv/", "../a.py /srv/", "without patterns, variables and '..'"),
        ("a.py b.py /srv/", "--chown=1:1 a.py /srv/", "expected names of files"),
        ("a.py b.py /srv/", "/a.py /srv/", "expected relative sources"),
        ("a.py b.py /srv/", "a.py /srv/a.py", "a folder as /PATH/"),
        ("a.py b.py /srv/", "/srv/", "expected names of files and a folder"),
        ("USER 10:20", "USER root", "has USER 'root'; expected USER:GROUP as numbers"),
        ("USER 10:20", "USER 0:0", "has USER '0:0'"),
        ("--interval=30s CMD", "--interval=30s", "expected options in seconds and CMD"),
        ('CMD ["true"]', "CMD true", "has CMD 'true'; expected a JSON list of words"),
        ('"1 + 1"]', "1]", "expected a JSON list of words"),
        ('"1 + 1"]', '"1 + 1"] \\', "the Dockerfile ends within the instruction of line 9"),
    ],
)
def test_what_is_not_understood_of_a_dockerfile_is_refused(old: str, new: str, message: str) -> None:
    assert old in SMALL
    with pytest.raises(InputError, match=re.escape(message)):
        read(SMALL.replace(old, new, 1))


def test_a_layer_counts_new_and_changed_files_whole_and_once(tmp_path: Path) -> None:
    root = Root(tmp_path, tmp_path / "log", "the test")
    (tmp_path / "same").write_bytes(bytes(7))
    (tmp_path / "longer").write_bytes(bytes(100))
    (tmp_path / "gone").write_bytes(bytes(1000))
    before = root.files()
    with (tmp_path / "longer").open("ab") as file:
        file.write(bytes(1))
    (tmp_path / "gone").unlink()
    (tmp_path / "new").write_bytes(bytes(20_000))
    os.link(tmp_path / "new", tmp_path / "again")
    assert added_bytes(before, root.files()) == 101 + 20_000
    assert added_bytes(root.files(), root.files()) == 0
    assert added_bytes({}, {"a": (1, 5, 0, 0), "b": (2, 6, 0, 0)}) == 11


def test_a_root_in_which_something_is_mounted_is_not_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = tmp_path / "mounts"
    table.write_text(f"proc /proc proc rw 0 0\nproc {tmp_path}/a\\040b/proc proc rw 0 0\n")
    assert mounts_in(tmp_path, table) == [f"{tmp_path}/a b/proc"]
    assert mounts_in(tmp_path / "other", table) == []
    with temporary_root("the test") as root:
        assert root.folder.is_dir()
    assert not root.folder.exists()
    monkeypatch.setattr("benchmarks.lab.image_root.mounts_in", lambda parent: [f"{parent}/root/proc"])
    monkeypatch.setattr("tempfile.mkdtemp", lambda prefix: str(tmp_path))
    with pytest.raises(StageError, match=r"root/proc is mounted: unmount it, then remove "), temporary_root("the test"):
        pass
    assert (tmp_path / "root").is_dir()


def test_without_root_the_benchmark_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in ("debootstrap", "unshare", "chroot"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert runtime_image.main() == 3
    assert capsys.readouterr().err == (
        'error: make bench-runtime-image needs "root\'s rights", which was not found. '
        "Install it: sudo make bench-runtime-image\n"
    )
    (tmp_path / "debootstrap").unlink()
    assert runtime_image.main() == 3
    assert "needs 'debootstrap', which was not found" in capsys.readouterr().err
