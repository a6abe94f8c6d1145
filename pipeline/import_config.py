"""The configuration of a run that begins with a user's QONNX file instead of a training."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError, field_validator

from bitproof.pipeline.config import RUN_NAME, BaseConfig, FloatReferenceGate, Percent, Section
from bitproof.pipeline.errors import ConfigError, InputError
from bitproof.pipeline.input_type import parse_input_type
from bitproof.pipeline.target import CheckTargets

MAX_BYTES = 1 << 32


class SourceFile(Section):
    """A user's file, as it was when the run was configured; another content is not accepted later."""

    path: Annotated[Path, Field(strict=False)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]

    def require_unchanged(self) -> Path:
        """Return the path.

        Raises:
            InputError: the file has gone, or holds something else than when the run was configured.
        """
        if source_file(self.path).sha256 != self.sha256:
            raise InputError(f"{self.path} was changed while the run was working on it; import it again")
        return self.path


class ImportGates(Section):
    """Largest accepted loss of accuracy, in percentage points, and what is accepted of a float executor."""

    quantized_vs_target: Percent = 0.0
    float_reference: FloatReferenceGate = "explained"


class ImportConfig(BaseConfig):
    """One run, from a QONNX file to the report."""

    source: SourceFile
    """The QONNX file."""
    input: str | None = None
    """Type of the input codes, for a file whose input is not quantized."""
    vectors: SourceFile | None = None
    """Inputs to compare on, .npy; null: codes drawn by the seed."""
    labels: SourceFile | None = None
    """Class of each of the vectors, .npy; null: no accuracy."""
    gates: ImportGates = ImportGates()

    @property
    def split(self) -> str:
        """Name of the vectors in the data artifact and in the ledger."""
        return "drawn" if self.vectors is None else "vectors"

    @property
    def labelled(self) -> bool:
        """Vectors may have classes as labels."""
        return True

    @field_validator("input")
    @classmethod
    def _parse_input(cls, text: str | None) -> str | None:
        if text is not None:
            parse_input_type(text)
        return text


def source_file(path: Path) -> SourceFile:
    """Return *path* with the digest of what it holds now.

    Raises:
        InputError: it is not a readable file, is empty, or is larger than :data:`MAX_BYTES`.
    """
    try:
        if not path.exists():
            raise InputError(f"there is no file {path}")
        if not path.is_file():
            raise InputError(f"{path} is not a regular file")
        size = path.stat().st_size
        if not 0 < size <= MAX_BYTES:
            raise InputError(f"{path} has {size} bytes; a file of 1 to {MAX_BYTES} bytes is expected")
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    return SourceFile(path=path.absolute(), sha256=digest)


NAME_REFUSED = (
    "the run cannot be called {!r}; allowed are letters, digits, '_', '.' and '-', at most 100, the first a letter or "
    "digit; give --name NAME"
)


def require_run_name(name: str) -> None:
    """Check that *name* may be that of a run, and so of a folder.

    Raises:
        ConfigError: it may not.
    """
    if re.fullmatch(RUN_NAME, name) is None:
        raise ConfigError(NAME_REFUSED.format(name))


def make_config(content: dict[str, object], check_targets: CheckTargets) -> ImportConfig:
    """Validate what the command line asks for; *check_targets* knows which targets there are.

    Raises:
        ConfigError: one line for every option that is not valid.
    """
    try:
        return ImportConfig.model_validate(content, context=check_targets)
    except ValidationError as error:
        raise ConfigError("\n".join(_explain(error))) from error


def _explain(error: ValidationError) -> Iterator[str]:
    options = {"parity": "samples", "targets": "target", "gates": "float-reference", "": "target"}
    for problem in error.errors(include_url=False):
        key = str(problem["loc"][0]) if problem["loc"] else ""
        if key == "name":
            yield NAME_REFUSED.format(problem["input"])
        else:
            value = problem["input"] if isinstance(problem["input"], str | int) else "..."
            yield f"--{options.get(key, key)} {value}: {problem['msg'].removeprefix('Value error, ')}"
