"""What belongs to a file of the user's, and which of its lines an error is blamed on."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitproof.pipeline import InputError, StageError, sha256_of_bytes
from bitproof.pipeline.user_files import (
    OURS,
    blaming_users_lines,
    digest_of_code,
    file_of,
    files_of,
    is_users,
    where_raised,
)


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


def raising(folder: Path, name: str) -> Exception:
    path = folder / f"{name}.py"
    try:
        exec(compile(path.read_text(), str(path), "exec"), {})
    except Exception as error:  # noqa: BLE001  whatever the file raises
        return error
    raise AssertionError("it raised nothing")


def test_built_in_names_have_no_file() -> None:
    assert file_of("mlp") is None
    assert digest_of_code("mlp") is None
    assert digest_of_code("no/such/file.py:function") is None


def test_files_are_those_that_are_imported_beside_it(tmp_path: Path) -> None:
    write(tmp_path, net="import layers, os\nfrom parts.inner import x\n", layers="import more\n", more="", unused="")
    parts = tmp_path / "parts"
    parts.mkdir()
    write(parts, __init__="", inner="from . import deep\n", deep="")
    found = {str(path.relative_to(tmp_path)) for path in files_of(tmp_path / "net.py")}
    assert found == {"net.py", "layers.py", "more.py", "parts/__init__.py", "parts/inner.py", "parts/deep.py"}


def test_files_of_our_names_and_of_broken_files_are_not_looked_for(tmp_path: Path) -> None:
    write(tmp_path, net="import bitproof, layers\n", bitproof="", layers="this is no Python")
    assert OURS == "bitproof"
    assert files_of(tmp_path / "net.py") == [tmp_path / "net.py", tmp_path / "layers.py"]


def test_digest_changes_with_every_file_that_counts_and_with_no_other(tmp_path: Path) -> None:
    name = f"{tmp_path / 'net.py'}:function"
    write(tmp_path, net="", other="")
    assert digest_of_code(name) == sha256_of_bytes(b"")
    write(tmp_path, net="import layers", layers="x = 1")
    first = digest_of_code(name)
    write(tmp_path, other="x = 2")
    assert digest_of_code(name) == first
    write(tmp_path, layers="x = 2")
    assert digest_of_code(name) != first


def test_the_innermost_line_of_the_user_is_named_not_that_of_a_library(tmp_path: Path) -> None:
    write(tmp_path, net="import json\n\njson.loads('no')\n")
    error = raising(tmp_path, "net")
    assert where_raised(error, tmp_path).endswith(f"({tmp_path / 'net.py'}, line 3)")
    assert "json/decoder.py" in where_raised(error)  # negative control: the innermost of all
    assert where_raised(error, tmp_path / "elsewhere") == where_raised(error)


def test_the_first_cause_with_a_line_of_the_user_is_named(tmp_path: Path) -> None:
    write(tmp_path, net="x = 1\nx.value\n")
    try:
        raise RuntimeError("a long message of an exporter") from raising(tmp_path, "net")
    except RuntimeError as error:
        said = where_raised(error, tmp_path)
    assert said == f"AttributeError: 'int' object has no attribute 'value' ({tmp_path / 'net.py'}, line 2)"


def test_syntax_error_is_named_by_its_own_line(tmp_path: Path) -> None:
    write(tmp_path, net="x = 1\ny = = 2\n")
    said = where_raised(raising(tmp_path, "net"), tmp_path)
    assert said == f"SyntaxError: invalid syntax ({tmp_path / 'net.py'}, line 2)"


def test_installed_files_and_ours_are_not_the_users(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    assert is_users(root / "examples" / "own_network.py", root)
    assert is_users(tmp_path / "sub" / "mine.py", tmp_path)
    for file in (root / "train" / "loop.py", Path(pytest.__file__), "<string>", tmp_path.parent / "mine.py"):
        assert not is_users(file, tmp_path if file == tmp_path.parent / "mine.py" else Path("/"))


def test_errors_in_files_of_the_user_are_theirs_and_others_are_not(tmp_path: Path) -> None:
    names = {"model.name": f"{tmp_path / 'net.py'}:function", "data.name": "digits"}
    write(tmp_path, net="\n1 / 0\n")
    with pytest.raises(InputError) as caught, blaming_users_lines(names):
        raise raising(tmp_path, "net")
    assert str(caught.value) == (
        f"model.name = '{tmp_path / 'net.py'}:function' raised ZeroDivisionError: division by zero "
        f"({tmp_path / 'net.py'}, line 2)"
    )
    with pytest.raises(ZeroDivisionError), blaming_users_lines({"model.name": "mlp", "data.name": "digits"}):
        raise raising(tmp_path, "net")
    with pytest.raises(ValueError, match="ours"), blaming_users_lines(names):
        raise ValueError("ours")
    with pytest.raises(StageError, match="known"), blaming_users_lines(names):
        raise StageError("known")
