"""The ledger: what a run made, what was compared and proven, and what came out. A contract, version 1.

``ledger.json`` holds the digest of its own content and that of the ledger it replaced, so a chain of runs can be
audited. Its JSON Schema is ``pipeline/ledger.schema.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Field, ValidationError, model_validator

from bitproof.pipeline.artifact import sha256_of_bytes
from bitproof.pipeline.errors import IntegrityError, one_line
from bitproof.pipeline.parity import Mismatch, ParityReport, Unexplained
from bitproof.pipeline.plain_file import read_json
from bitproof.pipeline.record import Record

SCHEMA = 1
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


LARGEST = (1 << 53) - 1
"""The largest integer that every reader of JSON takes exactly."""
Count = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]
Code = Annotated[int, Field(strict=True, ge=-(1 << 63), le=(1 << 63) - 1)]
Measured = Count | Annotated[float, Field(strict=True, ge=0, le=float(LARGEST), allow_inf_nan=False)]
Name = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,39}$")]
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f-\x9f]{0,200}$")]
"""Text without control characters: it goes to a terminal."""
Timing = Annotated[dict[Name, Measured], Field(max_length=32)]
Versions = Annotated[dict[Name, Annotated[str, Field(pattern="^[ -~]{0,100}$")]], Field(max_length=32)]


class ArtifactEntry(Record):
    """One artifact; *path* is relative to the run's folder."""

    stage: str
    kind: str
    path: str
    sha256: Sha256
    made_from: tuple[Sha256, ...]


class UnexplainedEntry(Record):
    """The first code of a float reference that its rounding errors do not explain; see :class:`Unexplained`."""

    layer: str
    sample: int
    channel: int
    position: tuple[int, ...]
    accumulator: int
    expected: int
    actual: int


class CheckEntry(Record):
    """One comparison of an executor with the integer model.

    *compared*, *differing* and *explained* count output codes. Of a float reference a difference may be explained by
    rounding errors; *explained_layers* counts those of each layer, *unexplained* is the first that is not.
    """

    expected: str
    actual: str
    vectors: str
    samples: Annotated[int, Field(ge=0)]
    compared: Annotated[int, Field(ge=0)]
    differing: Annotated[int, Field(ge=0)]
    first: dict[str, int] | None
    outputs_sha256: Sha256
    explained: Annotated[int, Field(ge=0)] = 0
    explained_layers: dict[str, int] = Field(default={})
    unexplained: UnexplainedEntry | None = None

    @property
    def ok(self) -> bool:
        """Every code was equal or its difference is explained, and there was at least one."""
        return self.report().ok

    @property
    def rounded(self) -> int:
        """How many codes of layers and outputs differ by the rounding errors of floats."""
        return sum(self.explained_layers.values())

    @property
    def verdict(self) -> str:
        """Say in a few words what came out."""
        if not self.ok:
            return f"{self.differing} differ" if self.differing else "a layer differs"
        if self.differing:
            return f"{self.differing}, all explained by float rounding"
        return f"0, {self.rounded} inside explained" if self.rounded else "0, all equal"

    @classmethod
    def of(cls, report: ParityReport) -> CheckEntry:
        """Return the ledger's form of *report*."""
        return cls(
            expected=report.expected,
            actual=report.actual,
            vectors=report.origin,
            samples=report.samples,
            compared=report.compared,
            differing=report.differing,
            first=None if report.first is None else mismatch_to_json(report.first),
            outputs_sha256=report.outputs_sha256,
            explained=report.explained,
            explained_layers=dict(report.explained_layers),
            unexplained=None if report.unexplained is None else UnexplainedEntry(**asdict(report.unexplained)),
        )

    def summary(self) -> str:
        """Say in one line what was compared, and the first code that differs."""
        return self.report().summary()

    def report(self) -> ParityReport:
        """Return the report that this is the ledger's form of."""
        return ParityReport(
            self.expected,
            self.actual,
            self.vectors,
            self.samples,
            self.compared,
            self.differing,
            None if self.first is None else Mismatch(**self.first),
            self.outputs_sha256,
            self.explained,
            self.explained_layers,
            None if self.unexplained is None else Unexplained(**self.unexplained.model_dump()),
        )


def mismatch_to_json(first: Mismatch) -> dict[str, int]:
    """Return the first differing code as plain numbers."""
    return {"sample": first.sample, "output": first.output, "expected": first.expected, "actual": first.actual}


class ProofEntry(Record):
    """A claim that was checked completely, not on samples.

    Attributes:
        layer: name of the layer, or ``model``.
        claim: what is claimed, in one sentence.
        method: how every case was decided.
        cases: how many cases were decided.
        holds: no case contradicts the claim.
        order_dependent: cases that a float chain decides differently depending on its order of summation.
        actual: the executor the claim is about; ``integer`` for the model itself.
        first: where the claim fails first, or null.
        failing: how many cases contradict it; of a float reference whose claim holds, how many its rounding errors
            decide otherwise.
        exact_differs: cases that exact arithmetic would decide otherwise, where binary32 is the definition: codes of
            weights and biases.
        warning: it holds, and is seldom what was wanted: the run's summary says it.
    """

    layer: str
    claim: str
    method: str
    cases: Annotated[int, Field(ge=0)]
    holds: bool
    order_dependent: Annotated[int, Field(ge=0)] = 0
    actual: str = "integer"
    first: dict[str, int] | None = None
    failing: Annotated[int, Field(ge=0)] = 0
    exact_differs: Annotated[int, Field(ge=0)] = 0
    warning: bool = False


class LayerEntry(Record):
    """How an executor that has several constructions of a layer carries it out.

    Attributes:
        executor: its name in the ledger.
        layer: name of the activation that the layer ends with.
        construction: the kind.
        method: its operators and constants, in words.
        time_ps: picoseconds a sample, estimated by measured layers; null: no such layer was measured.
        proof: how it was proven to be equal to the integer model; empty: it was not.
    """

    executor: str
    layer: str
    construction: str
    method: str
    time_ps: Annotated[int, Field(ge=1)] | None
    proof: str = ""


class CostEntry(Record):
    """The cost of one part of what an executor runs, measured on one sample; the parts of an executor add up.

    Attributes:
        executor: its name in the ledger.
        kind: ``layer``, or ``code`` that layers share.
        part: name of the layer, or of that code.
        flash_bytes: of its constants, or of the code.
        ram_bytes: of the lent memory that the layer reads, writes and works in; layers share it.
        macs: multiply-accumulates.
        instructions: executed.
        stack_bytes: the most that was used from the call until its end.
    """

    executor: str
    kind: Literal["layer", "code"]
    part: str
    flash_bytes: Annotated[int, Field(ge=0)]
    ram_bytes: Annotated[int, Field(ge=0)] = 0
    macs: Annotated[int, Field(ge=0)] = 0
    instructions: Annotated[int, Field(ge=0)] = 0
    stack_bytes: Annotated[int, Field(ge=0)] = 0


class FailureEntry(Record):
    """A stage that could not be carried out; the rest of the run is recorded all the same."""

    stage: str
    exit_code: int
    message: str


class CalibrationEntry(Record):
    """One calibration of the integer model by what an executor gave back; losses are cross-entropies in nats.

    Attributes:
        executor: the device, by its name in the ledger.
        faults: spec of the simulated faults, empty for none; *fault_seed* draws the chip.
        access: what was read: ``scalar`` or ``logits``.
        parameters: what was calibrated; *weights* tells whether all weights were, too.
        pairs: antithetic pairs per step, with access to a scalar.
        evaluations: programmings of the device, each followed by one batch of calibration images.
        images: device images that these cost.
        seed: of batches and directions.
        held_out: the images that decided, none of which took part; *samples* of them.
        before: loss of the original on them.
        after: loss of the calibrated model on them.
        kept: *after* is smaller, and the calibrated model is the artifact at *path*; else the original stays.
        sha256: of that artifact; null if there is none.
        made_from: digest of the integer model.
    """

    executor: str
    faults: str
    fault_seed: Annotated[int, Field(ge=0)]
    access: Literal["scalar", "logits"]
    parameters: Literal["output", "thresholds", "all"]
    weights: bool
    pairs: int
    evaluations: Annotated[int, Field(ge=1)]
    images: Annotated[int, Field(ge=1)]
    seed: int
    held_out: str
    samples: Annotated[int, Field(ge=1)]
    before: float
    after: float
    kept: bool
    path: Annotated[str, Field(pattern=r"^calibrated-[A-Za-z0-9-]+$")] | None
    sha256: Sha256 | None
    made_from: Sha256


class MismatchEntry(Record):
    """The first output code of a board that is not that of the integer model."""

    sample: Count
    output: Count
    expected: Code
    actual: Code

    @model_validator(mode="after")
    def _differs(self) -> Self:
        if self.expected == self.actual:
            raise ValueError(f"expected and actual are both {self.actual}, which is no mismatch")
        return self


class DeploymentEntry(Record):
    """One run on a board: nobody can derive it again without that board.

    Attributes:
        executor: what ran, for example ``pynq:pynq-z1``.
        vectors: which vectors, *samples* of them.
        compared: output codes, *differing* of which are not those of the integer model.
        first: the first that differs, or null.
        outputs_sha256: of what the board gave.
        design_id: number of the design, which the fabric says.
        bundle_sha256: digest of the bundle's SHA256SUMS.
        made_from: digest of the RTL artifact.
        timing: measured there.
        tools: versions there; ``pynq`` is ``simulated`` if there was no board.
    """

    executor: Line
    vectors: str
    samples: Annotated[Count, Field(ge=1)]
    compared: Annotated[Count, Field(ge=1)]
    differing: Count
    first: MismatchEntry | None
    outputs_sha256: Sha256
    design_id: Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
    bundle_sha256: Sha256
    made_from: Sha256
    timing: Timing
    tools: Versions

    @model_validator(mode="after")
    def _is_among_them(self) -> Self:
        at = self.first
        if at is not None and not (at.sample < self.samples and at.output < self.compared // self.samples):
            raise ValueError(f"first is sample {at.sample}, output {at.output}: not one of those that were compared")
        return self

    def summary(self) -> str:
        """Say in one line what came out."""
        head = f"{self.executor} against integer on {one_line(self.vectors)}"
        if self.first is None:
            return f"{head}: {self.compared} codes, all equal"
        at = self.first
        return (
            f"{head}: {self.differing} of {self.compared} codes differ, first at image {at.sample}, class "
            f"{at.output}: expected code {at.expected}, got {at.actual}"
        )


class Ledger(Record):
    """Everything a run leaves that another program may rely on.

    *heads* tells for each of several outputs of the network at which of the compared outputs it begins, and where it
    ends, that one left out; it is empty if the network has one output.
    """

    schema_version: Annotated[int, Field(alias="schema")] = SCHEMA
    run: str
    created_by: str
    tools: dict[str, str]
    inputs: dict[str, Sha256]
    artifacts: tuple[ArtifactEntry, ...]
    checks: tuple[CheckEntry, ...]
    proofs: tuple[ProofEntry, ...]
    accuracy: dict[str, float | int]
    resources: dict[str, dict[str, int | float | str]]
    failures: tuple[FailureEntry, ...] = ()
    gates: dict[str, float | str] = Field(default={})
    calibrations: tuple[CalibrationEntry, ...] = ()
    deployments: tuple[DeploymentEntry, ...] = ()
    heads: dict[str, tuple[int, int]] = Field(default={})
    layers: tuple[LayerEntry, ...] = ()
    costs: tuple[CostEntry, ...] = ()
    previous: Sha256 | None
    sha256: Sha256

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


def head_of(ledger: Ledger, output: int) -> str:
    """Return `` (output 3 of 'boxes')`` for a place in the outputs of a network with heads; nothing for one output."""
    for name, (first, stop) in ledger.heads.items():
        if first <= output < stop:
            return f" (output {output - first} of {name!r})"
    return ""


def warnings_of(proofs: Iterable[ProofEntry]) -> list[str]:
    """Return what a user should look at though it fails nothing, one sentence each."""
    return [f"{proof.layer}: {proof.claim}" for proof in proofs if proof.warning]


def canonical_bytes(content: dict[str, Any]) -> bytes:
    """Return *content* as canonical JSON: UTF-8, keys sorted, no white space, no field ``sha256``."""
    kept = {key: value for key, value in content.items() if key != "sha256"}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def canonical_sha256(content: dict[str, Any]) -> str:
    """Return the SHA-256 of the canonical bytes of *content*."""
    return sha256_of_bytes(canonical_bytes(content))


def write_ledger(content: dict[str, Any], path: Path) -> Ledger:
    """Fill in ``previous`` and ``sha256`` of *content*, write it to *path* by a rename, and return it.

    If *path* already holds a ledger that differs in nothing but ``previous``, that file is kept: a run that changed
    nothing leaves no trace. A damaged ledger is replaced.
    """
    replaced = _readable(path)
    if replaced is not None:
        candidate = _sealed({**content, "previous": replaced.previous})
        if candidate.sha256 == replaced.sha256:
            return replaced
    ledger = _sealed({**content, "previous": None if replaced is None else replaced.sha256})
    partial = path.with_suffix(".json.partial")
    partial.write_text(json.dumps(ledger.model_dump(mode="json"), indent=2, sort_keys=True, ensure_ascii=False) + "\n")
    partial.replace(path)
    return ledger


def replace_calibrations(path: Path, calibrations: tuple[CalibrationEntry, ...]) -> Ledger:
    """Write the ledger at *path* again with *calibrations* in the place of its own, and return it.

    Raises:
        IntegrityError: there is no readable ledger.
    """
    content = read_ledger(path).model_dump(mode="json")
    return write_ledger({**content, "calibrations": [entry.model_dump(mode="json") for entry in calibrations]}, path)


def recorded_calibrations(path: Path, integer_sha256: str | None = None) -> tuple[CalibrationEntry, ...]:
    """Return the calibrations that the ledger at *path* holds, those of the integer model *integer_sha256* if given."""
    ledger = _readable(path)
    entries = () if ledger is None else ledger.calibrations
    return tuple(entry for entry in entries if integer_sha256 in (None, entry.made_from))


def record_deployment(path: Path, entry: DeploymentEntry) -> Ledger:
    """Write the ledger at *path* again with *entry*, in the place of that of the same executor, and return it.

    Raises:
        IntegrityError: there is no readable ledger.
    """
    ledger = read_ledger(path)
    others = [other for other in ledger.deployments if other.executor != entry.executor]
    deployments = [other.model_dump(mode="json") for other in (*others, entry)]
    return write_ledger({**ledger.model_dump(mode="json"), "deployments": deployments}, path)


def recorded_deployments(path: Path, rtl_sha256: str | None) -> tuple[DeploymentEntry, ...]:
    """Return the deployments of the RTL artifact *rtl_sha256* in the ledger at *path*; None: there is no RTL."""
    ledger = _readable(path)
    return () if ledger is None else tuple(e for e in ledger.deployments if e.made_from == rtl_sha256)


def _readable(path: Path) -> Ledger | None:
    """Return the ledger at *path*; None if there is none, or a damaged one, which is no predecessor."""
    try:
        return read_ledger(path)
    except IntegrityError:
        return None


def _sealed(content: dict[str, Any]) -> Ledger:
    unsealed = Ledger.model_validate({**content, "sha256": "0" * 64})
    return unsealed.model_copy(update={"sha256": canonical_sha256(unsealed.model_dump(mode="json"))})


def read_ledger(path: Path) -> Ledger:
    """Read and check the ledger at *path*.

    Raises:
        IntegrityError: the file is missing or malformed, or its digest is not that of its content.
    """
    try:
        content = read_json(path)
        ledger = Ledger.model_validate(content)
    except PermissionError:
        raise
    except (OSError, ValueError, ValidationError, RecursionError) as error:
        raise IntegrityError(f"{path} is not a readable ledger: {error}") from error
    actual = canonical_sha256(content)
    if actual != ledger.sha256:
        raise IntegrityError(f"{path} was edited: SHA-256 of its content is {actual}, recorded {ledger.sha256}")
    return ledger


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema of ``ledger.json``."""
    return Ledger.model_json_schema(by_alias=True, mode="serialization")
