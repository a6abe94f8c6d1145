"""The kinds of targets: the table, and the way from a spec in a configuration to a target."""

from __future__ import annotations

import difflib
from pathlib import Path

from pydantic import ValidationError

from bitproof.export.onnx_int8.target import OnnxInt8Target
from bitproof.export.program.target import Target
from bitproof.hw.finn.target import FinnTarget
from bitproof.hw.mcu.target import CTarget
from bitproof.pipeline.errors import ConfigError
from bitproof.pipeline.target import TargetSpec, parse_spec

TARGETS: tuple[type[Target], ...] = (
    OnnxInt8Target,
    CTarget,
    FinnTarget,
)
"""One line per kind."""


def target_of(spec: TargetSpec, folder: Path | None = None) -> Target:
    """Return the target that *spec* stands for; files that it names may lie in *folder*, beside a configuration.

    Raises:
        ValueError: there is no such kind or option, or a value is not allowed.
    """
    kinds = {target.kind: target for target in TARGETS}
    if spec.kind not in kinds:
        near = difflib.get_close_matches(spec.kind, kinds, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown target {spec.kind!r} in {str(spec)!r}{hint or '.'} Known: {', '.join(kinds)}")
    kind = kinds[spec.kind]
    try:
        return kind.model_validate(dict(spec.options), context=folder)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        known = ", ".join(kind.model_fields) or "none"
        message = problem["msg"].removeprefix("Value error, ")
        raise ValueError(f"target {str(spec)!r}: {key} = {problem['input']!r}: {message} (options: {known})") from error


def check_targets(specs: tuple[TargetSpec, ...], folder: Path | None = None) -> tuple[TargetSpec, ...]:
    """Return *specs* with all their options, defaults included; files that they name may lie in *folder*.

    Raises:
        ValueError: one is not valid, or two would have one name within a run.
    """
    seen: dict[str, TargetSpec] = {}
    for target in (target_of(spec, folder) for spec in specs):
        if target.name in seen:
            raise ValueError(f"targets {seen[target.name]} and {target} would both be called {target.name!r}; keep one")
        seen[target.name] = target.spec
    return tuple(seen.values())


def require_target(text: str) -> Target:
    """Return the target that *text* names on the command line.

    Raises:
        ConfigError: it is not valid.
    """
    try:
        return target_of(parse_spec(text))
    except ValueError as error:
        raise ConfigError(str(error)) from error
