"""A user's functions, named ``path/to/file.py:function`` in a configuration."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from bitproof.pipeline import BitproofError, InputError, sha256_of_bytes
from bitproof.pipeline.user_files import OURS, is_users, where_raised


def call_user_function(key: str, name: str, *arguments: object) -> Any:  # noqa: ANN401  checked by the caller
    """Return what the function *name* returns for *arguments*; *key* is the option that names it.

    The file is loaded by path. It may import modules beside it, see :class:`BesideUsersFiles`; ``sys.path`` stays as it
    is.

    Raises:
        InputError: there is no such file or function, or it raises an exception.
    """
    function = _load(key, name)
    try:
        return function(*arguments)
    except BitproofError:
        raise
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # whatever a user's function raises is an error of theirs, not of ours
        folder = Path(name.rpartition(":")[0]).absolute().parent
        raise InputError(f"{key} = {name!r} raised {where_raised(error, folder)}") from error


class BesideUsersFiles:
    """Finds the modules beside a user's file, for imports that a file in the same folder makes.

    Imports of installed packages, of the standard library and of this project are not its business: a user's
    ``onnx.py`` is not what torch imports. Nor is this project's name; a user's ``train.py`` or
    ``export.py`` is like any other module beside that file.
    """

    def __init__(self) -> None:
        self.folders: list[Path] = []

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where the top-level module *name* is, for an import by a user's file; None for every other."""
        if path is not None or name == OURS or name in sys.stdlib_module_names:
            return None
        holding = [folder for folder in self.folders if _holds(folder, name)]
        importer = _importer(sys._getframe(1)) if holding else None  # noqa: SLF001  nothing else tells who imports
        folder = next((folder for folder in holding if importer is not None and is_users(importer, folder)), None)
        spec = None if folder is None else PathFinder.find_spec(name, [str(folder)], target)
        plain_folder = spec is not None and spec.origin is None  # which an installed package of the name goes before
        return None if plain_folder and PathFinder.find_spec(name, None, target) is not None else spec

    def add(self, folder: Path) -> None:
        """Serve the files in *folder*, and let them import their own where modules of another folder have the names."""
        others = [other for other in self.folders if other != folder]
        for path in (*folder.glob("*.py"), *folder.glob("*/__init__.py")) if others else ():
            name = path.parent.name if path.stem == "__init__" else path.stem
            origin = getattr(sys.modules.get(name), "__file__", None)
            if origin is not None and any(is_users(origin, other) for other in others):
                _forget(name)
        if folder in self.folders:
            self.folders.remove(folder)
        self.folders.insert(0, folder)
        if self not in sys.meta_path:
            sys.meta_path.insert(0, self)


BESIDE = BesideUsersFiles()
"""The one of this process: what imports find is a state of the process, whoever sets it."""


def _holds(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").is_file() or (folder / name).is_dir()


def _forget(name: str) -> None:
    for module in [found for found in sys.modules if found == name or found.startswith(f"{name}.")]:
        del sys.modules[module]


def _importer(frame: FrameType | None) -> str | None:
    """Return the file of the code that imports: the first caller outside Python's import machinery."""
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith("importlib"):
        frame = frame.f_back
    return None if frame is None else frame.f_code.co_filename


def _load(key: str, name: str) -> Callable[..., Any]:
    file, _, attribute = name.rpartition(":")
    path = Path(file).absolute()
    # Registered, as pickle and dataclasses expect of a module, by a name that no import statement means by chance.
    spec = importlib.util.spec_from_file_location(f"bitproof_user_{sha256_of_bytes(bytes(path))[:16]}", path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise InputError(f"{key} = {name!r}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    BESIDE.add(path.parent)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        raise InputError(f"{key} = {name!r}: {path} cannot be imported: {where_raised(error, path.parent)}") from error
    function = getattr(module, attribute, None)
    if not callable(function):
        known = ", ".join(name for name, value in vars(module).items() if callable(value) and not name.startswith("_"))
        raise InputError(f"{key} = {name!r}: {path} has no function {attribute!r}; it has {known or 'none'}")
    return function  # type: ignore[no-any-return]  # what a user's file holds is known at run time only
