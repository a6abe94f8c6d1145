"""The reader of configurations: from parsed YAML to an object, every mistake named, overrides by their dotted keys."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ValidationError

from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.errors import ConfigError
from bitproof.pipeline.target import CheckTargets


def validate(content: object, *, file: Path, check_targets: CheckTargets) -> RunConfig:
    """Check the parsed *content* of the YAML *file*; *check_targets* knows which targets there are.

    Raises:
        ConfigError: one line for every key that is unknown, missing, of the wrong type or out of range.
    """
    if not isinstance(content, Mapping):
        raise ConfigError(
            f"{file}: the file holds {type(content).__name__}; it must hold a mapping with the key 'name'"
        )
    try:
        return RunConfig.model_validate(content, context=check_targets)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(file, error))) from error


def _explain(file: Path, error: ValidationError) -> Iterator[str]:
    for problem in error.errors(include_url=False):
        path = [str(part) for part in problem["loc"] if not str(part).startswith(("constrained-", "function-"))]
        key = ".".join(path) or "the file"
        value = problem["input"]
        if problem["type"] == "extra_forbidden":
            known = _known_keys(path[:-1])
            near = difflib.get_close_matches(path[-1], known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield f"{file}: unknown key {key!r} (value {value!r}){hint} Known here: {', '.join(known)}"
        elif problem["type"] == "missing":
            yield f"{file}: key {key!r} is missing"
        elif problem["type"] == "model_type":
            yield f"{file}: {key} = {value!r}: must be a section; its keys: {', '.join(_known_keys(path))}"
        elif problem["type"] == "tuple_type":
            yield f"{file}: {key} = {value!r}: must be a list, for example [64, 64]"
        else:
            yield f"{file}: {key} = {value!r}: {problem['msg'].removeprefix('Value error, ')}"


def _known_keys(path: list[str]) -> list[str]:
    section: type[BaseModel] = RunConfig
    for part in path:
        annotation = section.model_fields[part].annotation
        section = next(
            t for t in (annotation, *get_args(annotation)) if isinstance(t, type) and issubclass(t, BaseModel)
        )
    return sorted(section.model_fields)


def override(content: Mapping[str, object], assignments: tuple[tuple[str, object], ...]) -> dict[str, object]:
    """Return *content* with dotted keys replaced, for example ``("train.epochs", 3)``; *content* is not edited.

    Raises:
        ConfigError: a dotted name is malformed or leads through something that is not a mapping.
    """
    result = dict(content)
    for dotted, value in assignments:
        if not re.fullmatch(r"\w+(\.\w+)*", dotted):
            raise ConfigError(f"cannot set {dotted!r}: write section.key=value, for example train.epochs=3")
        section = result
        *parents, last = dotted.split(".")
        for parent in parents:
            child = section.get(parent, {})
            if not isinstance(child, Mapping):
                raise ConfigError(f"cannot set {dotted!r}: {parent!r} holds {child!r}, not a section")
            section[parent] = dict(child)
            section = section[parent]  # type: ignore[assignment]  # just made a dict
        section[last] = value
    return result
