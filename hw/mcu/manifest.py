"""``manifest.json``: what a folder of generated C sources, and the firmware made from them, hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from bitproof.hw.mcu.byte_codes import ByteCodes
from bitproof.hw.mcu.cores import CoreName
from bitproof.hw.mcu.weight_layout import LayoutKind, WeightLayout
from bitproof.pipeline import IntegrityError
from bitproof.pipeline.record import Record

FILE = "manifest.json"
FORMAT: Literal[2] = 2


Method = Literal["multiply-shift", "rounding-shift", "multiply-shift-64", "thresholds"]
"""How codes are computed from accumulators; see :mod:`bitproof.export.integer.requantize`."""


class MatMulEntry(Record):
    """One matrix product.

    Attributes:
        bits_per_weight: width of a field in flash.
        layout: how the fields are packed, see :class:`bitproof.hw.mcu.weight_layout.WeightLayout`.
        codes: what the bytes that it takes stand for.
        symbol: the C array that holds the words.
    """

    kind: Literal["matmul"] = "matmul"
    name: str
    inputs: int
    outputs: int
    bits_per_weight: int
    layout: LayoutKind
    zero_point: int
    codes: ByteCodes
    macs: int
    weight_bytes: int
    symbol: str

    @property
    def weight_layout(self) -> WeightLayout:
        """Where each weight lies in the array of words."""
        return WeightLayout(self.layout, self.outputs, self.inputs, self.zero_point)


class ActivationEntry(Record):
    """One requantizing layer and how it is computed.

    Attributes:
        method: ``thresholds`` only if no constants of another form equal them on every reachable accumulator.
        shift: None of thresholds.
        codes: what the bytes that it gives stand for.
    """

    kind: Literal["activation"] = "activation"
    name: str
    inputs: int
    outputs: int
    method: Method
    shift: int | None
    levels: int
    codes: ByteCodes
    table_bytes: int


Entry = Annotated[MatMulEntry | ActivationEntry, Field(discriminator="kind")]


class Manifest(Record):
    """The network as it was generated; layers in execution order.

    Attributes:
        input: what the bytes of the input stand for.
        signed_input: its caller gives the codes themselves, as int8_t; else those bytes.
    """

    format: Literal[2] = FORMAT
    generator: str
    target: str
    core: CoreName
    prefix: str
    model_sha256: str
    inputs: int
    input: ByteCodes
    signed_input: bool
    outputs: int
    scratch_bytes: int
    sources: tuple[str, ...]
    layers: tuple[Entry, ...]

    @property
    def matmuls(self) -> tuple[MatMulEntry, ...]:
        """The matrix products, in execution order."""
        return tuple(entry for entry in self.layers if isinstance(entry, MatMulEntry))

    @property
    def activations(self) -> tuple[ActivationEntry, ...]:
        """The requantizing layers, in execution order."""
        return tuple(entry for entry in self.layers if isinstance(entry, ActivationEntry))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(entry.macs for entry in self.matmuls)

    def save(self, folder: Path) -> None:
        """Write the manifest into *folder*."""
        text = json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True)
        (folder / FILE).write_text(text + "\n")

    @classmethod
    def load(cls, folder: Path) -> Manifest:
        """Read the manifest of *folder*.

        Raises:
            IntegrityError: it is missing or malformed.
        """
        try:
            return cls.model_validate_json((folder / FILE).read_text())
        except (OSError, ValidationError) as error:
            raise IntegrityError(f"{folder / FILE} cannot be read: {error}. Run the stage again") from error
