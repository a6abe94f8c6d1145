"""The table of measured times that the choice between constructions of a product is made from.

A file of JSON holds, for layers of some shapes, how long onnxruntime takes for each construction of that layer on one
machine; ``bitproof tune`` measures one, and one is shipped. What a layer takes is estimated by the measured layer of
its kind with the nearest shape, scaled by the multiply-accumulates. All of it is integer arithmetic: a table gives the
same choice on every machine, so that a file that was made with it can be made again.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Annotated, Literal, Protocol, Self, get_args

from pydantic import Field, ValidationError, model_validator

from bitproof.export.integer import Conv, MatMul
from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.errors import ConfigError
from bitproof.pipeline.plain_file import read_bytes
from bitproof.pipeline.record import Record

Way = Literal["quantized-int8", "quantized-uint8", "carried", "single-steps"]
"""A construction of a product and its activation, with the type that weights are stored in, if it matters."""
Kind = Literal["matrix", "convolution", "pointwise", "depthwise"]
"""Of a product: operators have other code for convolutions of one code, and for those of single channels."""

SHIPPED = Path(__file__).parent / "costs.json"
MAX_BYTES = 1 << 20
LOG_STEPS = 64
"""Steps of a logarithm to the base 2 between a number and its double."""
MEASURE = "'bitproof tune --out FILE' measures one"

Count = Annotated[int, Field(ge=1, le=1 << 40, strict=True)]
Text = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f]+$")]


class Costs(Protocol):
    """What estimates how long the constructions of a layer take."""

    def estimate_ps(self, node: Conv | MatMul, positions: int) -> Mapping[Way, int]:
        """Return picoseconds a sample by construction of *node*, whose output has so many *positions* in a channel."""
        ...


def ways_of(kind: Kind) -> tuple[Way, ...]:
    """Return the constructions that products of *kind* have."""
    return tuple(way for way in get_args(Way) if way != "carried" or kind != "matrix")


class LayerShape(Record):
    """What the time of a product depends on.

    Attributes:
        kind: of the product.
        inputs: channels that one output channel meets.
        outputs: channels.
        window: places that a window covers.
        positions: of the output in one channel.
    """

    kind: Kind
    inputs: Count
    outputs: Count
    window: Count
    positions: Count

    @classmethod
    def of(cls, node: Conv | MatMul, positions: int) -> LayerShape:
        """Return the shape of *node*, whose output has so many *positions* in a channel."""
        if isinstance(node, MatMul):
            return cls(kind="matrix", inputs=node.weights.shape[1], outputs=node.outputs, window=1, positions=1)
        inputs, *kernel = node.weights.shape[1:]
        kind: Kind = "pointwise" if prod(kernel) == 1 else "convolution"
        if node.groups > 1 and inputs == 1:
            kind = "depthwise"
        return cls(kind=kind, inputs=inputs, outputs=node.outputs, window=prod(kernel), positions=positions)

    @property
    def multiplies(self) -> int:
        """Multiply-accumulates of a sample."""
        return self.inputs * self.outputs * self.window * self.positions

    def distance(self, other: LayerShape) -> int:
        """Return how far *other* is: the sum of the distances of all sizes, each in steps of its logarithm."""
        sizes = ("inputs", "outputs", "window", "positions")
        return sum(abs(_log(getattr(self, size)) - _log(getattr(other, size))) for size in sizes)


def _log(number: int) -> int:
    """Return the logarithm of *number* to the base 2 in steps of 1/64, rounded down; exact, as floats' is not."""
    steps: int = (number**LOG_STEPS).bit_length() - 1
    return steps


class MeasuredLayer(Record):
    """A layer that was measured.

    Attributes:
        shape: what it is.
        samples: in a call.
        times_ps: picoseconds a sample, by construction.
    """

    shape: LayerShape
    samples: Count
    times_ps: dict[Way, Count]

    @model_validator(mode="after")
    def _require_all(self) -> Self:
        missing = [way for way in ways_of(self.shape.kind) if way not in self.times_ps]
        unknown = [way for way in self.times_ps if way not in ways_of(self.shape.kind)]
        if missing or unknown:
            raise ValueError(
                f"a {self.shape.kind} layer has times for {', '.join(self.times_ps) or 'nothing'}; it needs those for "
                f"{', '.join(ways_of(self.shape.kind))}"
            )
        return self


class CostTable(Record):
    """Measured layers, and what they were measured on.

    Attributes:
        format: of the file.
        machine: the processor.
        onnxruntime: its version.
        date: of the measurement, as in 2026-01-31.
        layers: at least one of every kind.
    """

    format: Literal[1] = 1
    machine: Text
    onnxruntime: Text
    date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$")]
    layers: Annotated[tuple[MeasuredLayer, ...], Field(max_length=4096)]

    @model_validator(mode="after")
    def _require_kinds(self) -> Self:
        missing = sorted(set(get_args(Kind)) - {layer.shape.kind for layer in self.layers})
        if missing:
            raise ValueError(f"no layer of the kind {', '.join(missing)}; it needs one of each of {_kinds()}")
        if len({layer.shape for layer in self.layers}) < len(self.layers):
            raise ValueError("two layers have one shape")
        return self

    @property
    def about(self) -> str:
        """What it was measured on, in a few words."""
        return f"{self.machine}, onnxruntime {self.onnxruntime}, {self.date}"

    def estimate_ps(self, node: Conv | MatMul, positions: int) -> Mapping[Way, int]:
        """Return the times of the measured layer that is nearest to *node*, the first of equals, scaled by products."""
        shape = LayerShape.of(node, positions)
        same = [layer for layer in self.layers if layer.shape.kind == shape.kind]
        nearest = min(same, key=lambda layer: shape.distance(layer.shape))
        return {way: -(-time * shape.multiplies // nearest.shape.multiplies) for way, time in nearest.times_ps.items()}

    def to_json(self) -> str:
        """Return the text of its file."""
        return self.model_dump_json(indent=1) + "\n"


def _kinds() -> str:
    return ", ".join(get_args(Kind))


def ranked(times_ps: Mapping[Way, int]) -> list[Way]:
    """Return the constructions that *times_ps* has, the fastest first; equal ones in the order of :data:`Way`."""
    return sorted((way for way in get_args(Way) if way in times_ps), key=lambda way: times_ps[way])


def parse_table(content: bytes, source: str) -> CostTable:
    """Return the table in *content*, which came from *source*.

    Raises:
        ConfigError: it is none.
    """
    try:
        return CostTable.model_validate_json(content)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"])) or "the file"
        value = problem["input"]
        given = repr(value.decode("utf-8", "replace") if isinstance(value, bytes) else value)[:80]
        why = problem["msg"].removeprefix("Value error, ")
        raise ConfigError(f"{source} is not a table of times: {place} = {given}: {why}; {MEASURE}") from error


def read_table(path: Path, sha256: str | None = None) -> CostTable:
    """Return the table in the file at *path*, whose content has the digest *sha256* if one is given.

    Raises:
        ConfigError: there is none, it is not valid, or it is another.
    """
    content = table_bytes(path)
    if sha256 is not None and sha256_of_bytes(content) != sha256:
        raise ConfigError(
            f"{path} holds the table with the SHA-256 {sha256_of_bytes(content)}; the run was configured with "
            f"{sha256}: put that table back, or run the configuration again"
        )
    return parse_table(content, str(path))


def table_bytes(path: Path) -> bytes:
    """Return what the file of a table at *path* holds.

    Raises:
        ConfigError: it cannot be read, or is larger than any table.
    """
    try:
        return read_bytes(path, MAX_BYTES)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the table of times {path} cannot be read: {error}; {MEASURE}") from error


def absolute_table(name: str, folder: Path | None) -> Path:
    """Return the path of the table *name*, which may lie in *folder*, else in the current one.

    Raises:
        ConfigError: a spec of a target could not hold it.
    """
    beside = Path(name) if folder is None else folder / name
    path = beside if beside.exists() else Path(name)
    if set(str(path.absolute())) & set(",{}") or str(path.absolute()).strip() != str(path.absolute()):
        raise ConfigError(
            f"the table {str(path.absolute())!r} cannot be named in an option: ',', '{{', '}}' and spaces at its ends "
            "are not allowed there; move it"
        )
    return path.absolute()


def digest_of_table(path: Path) -> str:
    """Return the SHA-256 of the table at *path*.

    Raises:
        ConfigError: it is none.
    """
    content = table_bytes(path)
    parse_table(content, str(path))
    return sha256_of_bytes(content)


def shipped_table() -> CostTable:
    """Return the table that this package brings."""
    return read_table(SHIPPED)
