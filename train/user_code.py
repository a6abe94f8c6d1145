"""Functions of the user's, named ``path/to/file.py:function`` in a configuration."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline import BitproofError, InputError


def call_user_function(key: str, name: str, *arguments: object) -> Any:  # noqa: ANN401  checked by the caller
    """Return what the function *name* returns for *arguments*; *key* is the option that names it.

    The file is loaded by path; nothing is added to ``sys.path``.

    Raises:
        InputError: there is no such file or function, or it raises an exception.
    """
    function = _load(key, name)
    try:
        return function(*arguments)
    except BitproofError:
        raise
    except (Exception, SystemExit) as error:  # whatever a user's function raises is an error of theirs, not of ours
        raise InputError(f"{key} = {name!r} raised {where_raised(error)}") from error


def _load(key: str, name: str) -> Callable[..., Any]:
    file, _, attribute = name.rpartition(":")
    path = Path(file)
    spec = importlib.util.spec_from_file_location(f"bitproof_user_{path.stem}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"{key} = {name!r}: {path.absolute()} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InputError(f"{key} = {name!r}: {path} cannot be imported: {where_raised(error)}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        known = ", ".join(name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))
        raise InputError(f"{key} = {name!r}: {path} has no function {attribute!r}; it has {known or 'none'}")
    return function  # type: ignore[no-any-return]  # what a user's file holds is known at run time only


def where_raised(error: BaseException) -> str:
    """Return type, text and innermost line of *error*, which code of the user's raised."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {error} ({frames[-1].filename}, line {frames[-1].lineno})"
