"""A Dockerfile as data, of the few instructions that :mod:`benchmarks.lab.image_root` carries out without an engine.

It is read strictly: what is not understood is refused, so that nothing is measured but what an engine would build.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from bitproof.pipeline.errors import InputError


@dataclass(frozen=True, slots=True)
class Run:
    """``RUN``: a line for ``/bin/sh``, carried out as root."""

    line: str


@dataclass(frozen=True, slots=True)
class Copy:
    """``COPY``: files of the project, into a folder of the image.

    Attributes:
        sources: paths of files, relative to the project.
        folder: an absolute path.
    """

    sources: tuple[str, ...]
    folder: str


@dataclass(frozen=True, slots=True)
class Image:
    """What a Dockerfile says.

    Attributes:
        base: the name of the image that it starts from.
        layers: what adds files, in order.
        user: user and group of what runs, as numbers.
        port: that it listens at.
        health: the argument list that succeeds as long as it works.
        command: the argument list that runs.
    """

    base: str
    layers: tuple[Run | Copy, ...]
    user: str
    port: int
    health: tuple[str, ...]
    command: tuple[str, ...]


LAYERS = ("RUN", "COPY")


def read(text: str) -> Image:
    """Return the image that the Dockerfile *text* describes.

    Raises:
        InputError: it has an instruction or a form that is not known, or lacks one that an image has here.
    """
    layers: list[Run | Copy] = []
    once: dict[str, str] = {}
    for number, name, rest in _instructions(text):
        try:
            _require_place(name, once)
            if name in LAYERS:
                layers.append(_run(rest) if name == "RUN" else _copy(rest))
            else:
                READERS[name](rest)
                once[name] = rest
        except ValueError as error:
            raise InputError(f"line {number} of the Dockerfile has {error}") from error
    missing = [name for name in READERS if name not in once]
    if missing:
        raise InputError(f"the Dockerfile has no {missing[0]}; needed: {', '.join(READERS)}")
    return Image(
        base=_base(once["FROM"]),
        layers=tuple(layers),
        user=_user(once["USER"]),
        port=_port(once["EXPOSE"]),
        health=_health(once["HEALTHCHECK"]),
        command=_arguments(once["CMD"]),
    )


def _instructions(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield number, name and rest of each instruction; lines that end with a backslash go on in the next.

    Raises:
        InputError: the file ends within one, or asks for another parser.
    """
    started, whole = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        if re.match(r"#\s*(syntax|escape|check)\s*=", line):
            raise InputError(f"line {number} of the Dockerfile asks for another parser: {line!r}; take it out")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        started = started or number
        whole += line.rstrip().removesuffix("\\")
        if not line.rstrip().endswith("\\"):
            name, _, rest = whole.strip().partition(" ")
            yield started, name, rest.strip()
            started, whole = 0, ""
    if started:
        raise InputError(f"the Dockerfile ends within the instruction of line {started}")


def _require_place(name: str, before: Collection[str]) -> None:
    """Refuse an instruction that is not known or, after those *before*, not in its place."""
    if name not in READERS and name not in LAYERS:
        raise ValueError(f"the instruction {name!r}; known: {', '.join((*LAYERS, *READERS))}")
    if name in before:
        raise ValueError(f"a second {name}; one is allowed")
    if (name == "FROM") == bool(before):
        raise ValueError(f"{name} in the wrong place; FROM is the first")
    if name in LAYERS and "USER" in before:
        raise ValueError(f"{name} behind USER; what adds files comes before it")


def _base(rest: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9./_-]*:[A-Za-z0-9._-]+", rest):
        raise ValueError(f"the base {rest!r}; expected NAME:TAG and nothing else")
    return rest


def _run(rest: str) -> Run:
    if not rest or rest.startswith(("[", "--")) or "<<" in rest:
        raise ValueError(f"RUN {rest!r}; expected a line for the shell, without options and here-documents")
    return Run(rest)


def _copy(rest: str) -> Copy:
    *sources, folder = rest.split()
    paths = [*sources, folder]
    if not sources or any(re.fullmatch(r"[A-Za-z0-9_./-]+", path) is None or ".." in path for path in paths):
        raise ValueError(f"COPY {rest!r}; expected names of files and a folder, without patterns, variables and '..'")
    if any(path.startswith(("-", "/")) for path in sources) or not (folder.startswith("/") and folder.endswith("/")):
        raise ValueError(f"COPY {rest!r}; expected relative sources, no options, and a folder as /PATH/")
    return Copy(tuple(str(PurePosixPath(source)) for source in sources), folder)


def _user(rest: str) -> str:
    if re.fullmatch(r"[1-9][0-9]*:[1-9][0-9]*", rest) is None:
        raise ValueError(f"USER {rest!r}; expected USER:GROUP as numbers that are not root's, 0")
    return rest


def _port(rest: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", rest) or not 0 < int(rest) < 1 << 16:
        raise ValueError(f"EXPOSE {rest!r}; expected one port, 1..65535")
    return int(rest)


def _health(rest: str) -> tuple[str, ...]:
    matched = re.fullmatch(r"(?:--(?:interval|timeout|start-period|retries)=[0-9]+s? )*CMD (.+)", rest)
    if matched is None:
        raise ValueError(f"HEALTHCHECK {rest!r}; expected options in seconds and CMD")
    return _arguments(matched[1])


def _arguments(rest: str) -> tuple[str, ...]:
    try:
        words = json.loads(rest)
    except ValueError:
        words = None
    if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
        raise ValueError(f"CMD {rest!r}; expected a JSON list of words")
    return tuple(words)


READERS: dict[str, Callable[[str], object]] = {
    "FROM": _base,
    "USER": _user,
    "EXPOSE": _port,
    "HEALTHCHECK": _health,
    "CMD": _arguments,
}
"""What every image has once."""


def pinned(image: Image) -> dict[str, str]:
    """Return the version of each Python distribution that a line of *image* installs as ``NAME==VERSION``."""
    lines = " ".join(layer.line for layer in image.layers if isinstance(layer, Run))
    return dict(re.findall(r"\b([A-Za-z0-9_-]+)==([0-9.]+)", lines))
