"""Where a network is deployed to: the ``name{key=value, ...}`` specs of a configuration.

A target is a chain of stages that starts at the integer model, and the executors that run what they made. The chains
themselves are listed in :mod:`bitproof.pipeline.registry`; this module knows their names and options, so that a spec
can be checked before anything heavy is imported.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from bitproof.pipeline.errors import ConfigError


class TargetOptions(BaseModel):
    """Options of one kind of target: immutable and complete, defaults included."""

    model_config = ConfigDict(extra="forbid", frozen=True)


SUFFIXES = {"": 1, "k": 1 << 10, "M": 1 << 20}


def parse_bytes(text: object) -> object:
    """Return the number of bytes that *text* means: digits, with ``k`` (1,024) or ``M`` (1,048,576) behind them.

    What is no text is returned as it is.

    >>> parse_bytes("256k"), parse_bytes("1M"), parse_bytes("4096")
    (262144, 1048576, 4096)

    Raises:
        ValueError: *text* is none.
    """
    if not isinstance(text, str):
        return text
    match = re.fullmatch(r"([0-9]{1,10})([kM]?)", text)
    if match is None:
        raise ValueError("write a number of bytes, such as 65536, 64k or 1M")
    return int(match.group(1)) * SUFFIXES[match.group(2)]


Bytes = Annotated[int, BeforeValidator(parse_bytes), Field(ge=1, le=1 << 30)]


class OnnxInt8Options(TargetOptions):
    """Packed-int8 ONNX for onnxruntime; no options."""


class COptions(TargetOptions):
    """Bare-metal C: *core* is the processor it is compiled for and run on in QEMU.

    *flash* and *ram* are the bytes that there are of each; None: as many as the emulated board has.
    """

    core: Literal["cortex-m0", "cortex-m3", "cortex-m4", "cortex-m7"] = "cortex-m4"
    flash: Bytes | None = None
    ram: Bytes | None = None


class FinnOptions(TargetOptions):
    """FINN dataflow RTL: *board*, the throughput aimed at in frames/s, and the depth of the FIFOs in words."""

    board: Literal["pynq-z1", "pynq-z2"] = "pynq-z1"
    fps: int = Field(100_000, ge=1, le=100_000_000)
    fifo_depth: int = Field(32, ge=2, le=1 << 15)


OPTIONS: Mapping[str, type[TargetOptions]] = {"onnx-int8": OnnxInt8Options, "c": COptions, "finn": FinnOptions}


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """One parsed target: its kind and its options."""

    kind: str
    options: TargetOptions

    @property
    def slot(self) -> str:
        """Name of the target within a run and in file names, for example ``c-cortex-m4``."""
        return f"c-{self.options.core}" if isinstance(self.options, COptions) else self.kind

    def __str__(self) -> str:
        given = self.options.model_dump(exclude_none=True)
        pairs = ", ".join(f"{key}={value}" for key, value in given.items())
        return f"{self.kind}{{{pairs}}}" if pairs else self.kind


def parse_target(spec: object) -> TargetSpec:
    """Parse ``name`` or ``name{key=value, key=value}``; a YAML mapping ``{kind: {key: value}}`` is not accepted.

    Raises:
        ValueError: the spec is malformed, or a name, key or value is not known.
    """
    match = re.fullmatch(r"\s*([\w-]+)\s*(?:\{([^{}]*)\})?\s*", spec) if isinstance(spec, str) else None
    if match is None:
        raise ValueError(f"{spec!r} is not a target; write for example onnx-int8 or c{{core=cortex-m4}}")
    kind, body = match.group(1), match.group(2) or ""
    if kind not in OPTIONS:
        near = difflib.get_close_matches(kind, OPTIONS, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"unknown target {kind!r} in {spec!r}{hint} Known: {', '.join(OPTIONS)}")
    values: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in body.split(","))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not key or not value or key in values:
            raise ValueError(f"{pair!r} in target {spec!r} is not key=value, or the key repeats")
        values[key] = value
    try:
        return TargetSpec(kind, OPTIONS[kind].model_validate(values))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        key = ".".join(map(str, problem["loc"]))
        known = ", ".join(OPTIONS[kind].model_fields) or "none"
        raise ValueError(
            f"target {spec!r}: {key} = {problem['input']!r}: {problem['msg']} (options: {known})"
        ) from error


def require_target(spec: str) -> TargetSpec:
    """Parse a target given on the command line.

    Raises:
        ConfigError: the spec is not valid.
    """
    try:
        return parse_target(spec)
    except ValueError as error:
        raise ConfigError(str(error)) from error
