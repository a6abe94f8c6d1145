"""A user's Python files, named ``path/to/file.py:function``: what belongs to them, and which line failed.

A stage is stale when such a file changes, or a module beside it that it imports; and what code in these files raises is
a user's error, told by the line that the user can mend. Neither needs the code to be imported here.
"""

from __future__ import annotations

import ast
import sys
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.errors import BitproofError, InputError

OURS = "bitproof"
"""The package of this project; a module of the user's with this name never stands in for it."""
_ROOT = Path(__file__).resolve().parent.parent
_FOLDERS = (OURS, "pipeline", "train", "export", "hw")  # in a checkout they lie beside each other
_NOT_USERS = (Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve(), *(_ROOT / name for name in _FOLDERS))


def file_of(name: str) -> Path | None:
    """Return the file of ``path/to/file.py:function``; None if *name* is a built-in one."""
    file, colon, _ = name.rpartition(":")
    return Path(file).absolute() if colon else None


def is_users(file: str | Path, folder: Path) -> bool:
    """Tell whether *file* is a user's code in *folder*: below it, and neither installed nor of this project."""
    path = Path(file).resolve()
    if str(file).startswith("<"):  # <frozen importlib>, <string>: no file
        return False
    return path.is_relative_to(folder.resolve()) and not any(path.is_relative_to(other) for other in _NOT_USERS)


def files_of(file: Path) -> list[Path]:
    """Return *file* and all modules and packages beside it that it imports, directly or by one another.

    Imports are read from the text; one whose name is computed is not seen.
    """
    folder, found, waiting = file.parent, [file], [file]
    while waiting:
        for name in _imported_by(waiting.pop()):
            package = folder / name
            beside = [package.with_suffix(".py")] if package.with_suffix(".py").is_file() else []
            if package.is_dir():
                beside = sorted(package.rglob("*.py"))
            new = [path for path in beside if path not in found]
            found.extend(new)
            waiting.extend(new)
    return found


def _imported_by(file: Path) -> set[str]:
    """Return the first part of every name that *file* imports; none if it cannot be read."""
    try:
        tree = ast.parse(file.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError):
        return set()
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return {name.partition(".")[0] for name in names} - {OURS}


def digest_of_code(name: str) -> str | None:
    """Return the digest of the code behind ``path/to/file.py:function``; None if *name* is a built-in one."""
    file = file_of(name)
    if file is None or not file.is_file():
        return None
    first, *others = [(path.relative_to(file.parent), sha256_of_bytes(path.read_bytes())) for path in files_of(file)]
    if not others:
        return first[1]
    return sha256_of_bytes("\n".join(f"{digest} {path}" for path, digest in (first, *sorted(others))).encode())


def where_raised(error: BaseException, folder: Path | None = None) -> str:
    """Return type, text and line of *error*: the innermost line of the user's files in *folder*, else of all."""
    blamed = None if folder is None else users_line(error, folder)
    if blamed is not None:
        return blamed
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{_said(error)}{where}"


def causes_of(error: BaseException) -> list[BaseException]:
    """Return the errors behind *error*, the first cause first, *error* itself last."""
    chain = [error]
    while (before := chain[-1].__cause__ or chain[-1].__context__) is not None and before not in chain:
        chain.append(before)
    return chain[::-1]


def users_line(error: BaseException, folder: Path = Path("/")) -> str | None:
    """Return what the first cause of *error* that passed a user's line in *folder* says, and that line."""
    for found in causes_of(error):
        if isinstance(found, SyntaxError) and found.filename is not None and is_users(found.filename, folder):
            return f"{type(found).__name__}: {found.msg} ({found.filename}, line {found.lineno})"
        frames = [f for f in traceback.extract_tb(found.__traceback__) if is_users(f.filename, folder)]
        if frames:
            return f"{_said(found)} ({frames[-1].filename}, line {frames[-1].lineno})"
    return None


def _said(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def users_names(config: object) -> dict[str, str]:
    """Return the options of a run's *config* that may name a user's file; none for an import's."""
    if not isinstance(config, RunConfig):
        return {}
    return {"model.name": config.model.name, "data.name": config.data.name}


@contextmanager
def blaming_users_lines(names: Mapping[str, str]) -> Iterator[None]:
    """Turn an error that a user's code raises within the block into one of the user's.

    *names* holds the options that may name a file, with their values.

    Raises:
        InputError: a line of such a file, or beside it, raised; the message has line and text.
    """
    try:
        yield
    except BitproofError:
        raise
    except Exception as error:
        for key, name in names.items():
            file = file_of(name)
            blamed = None if file is None else users_line(error, file.parent)
            if blamed is not None:
                raise InputError(f"{key} = {name!r} raised {blamed}") from error
        raise
