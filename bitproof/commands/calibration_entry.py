"""The rules of a calibration entry: possible, in agreement with itself and with its run; every doubt names its field.

The digest of a ledger does not protect it from anyone who edits it and seals it again. Losses are measured again
elsewhere; here is everything that can be decided without the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import isfinite

from bitproof.hw.faults import FaultSpec
from bitproof.pipeline.errors import ConfigError
from bitproof.pipeline.ledger import CalibrationEntry
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.vectors import Vectors, load_vectors
from bitproof.plan import INTEGER, RunPlan
from bitproof.target_device import programmable


def contradictions(run: RunFolder, entries: tuple[CalibrationEntry, ...]) -> tuple[tuple[str, ...], ...]:
    """Return for each of *entries* what of it cannot be as recorded, one line for each field; empty: nothing."""
    if not entries:
        return ()
    plan, dataset = RunPlan(run.config()), run.artifact("data")
    training, validation = (load_vectors(dataset, split) for split in ("train", "validation"))
    found = []
    for index, entry in enumerate(entries):
        twice = any(_device(entry) == _device(other) for other in entries[:index])
        lines = (*_faults(entry), *_executor(plan, entry, twice=twice), *_result(entry))
        found.append((*lines, *_budget(entry, len(training)), *_held_out(entry, validation)))
    return tuple(found)


def _device(entry: CalibrationEntry) -> tuple[str, str, int]:
    return entry.executor, entry.faults, entry.fault_seed


def _faults(entry: CalibrationEntry) -> Iterator[str]:
    try:
        faults = str(FaultSpec.parse(entry.faults))
    except ConfigError as error:
        yield f"faults = {entry.faults!r} is no fault spec: {error}"
        return
    if faults != entry.faults:
        yield f"faults = {entry.faults!r} would have been recorded as {faults!r}"
    if faults and entry.executor != INTEGER:
        yield f"faults = {faults!r} on {entry.executor!r}: faults are simulated by the executor {INTEGER!r} only"
    if entry.fault_seed and not faults:
        yield f"fault_seed = {entry.fault_seed} draws nothing where faults is empty; allowed: 0"


def _executor(plan: RunPlan, entry: CalibrationEntry, *, twice: bool) -> Iterator[str]:
    allowed = programmable(plan)
    if entry.executor not in allowed:
        yield f"executor = {entry.executor!r} cannot be calibrated in this run; allowed: {', '.join(allowed)}"
    if twice:
        chip = f"faults = {entry.faults!r}, fault_seed = {entry.fault_seed}"
        yield f"executor = {entry.executor!r}, {chip}: this device is recorded twice; a device has one calibration"
    executor = plan.executor(entry.executor)
    if executor is not None and not executor.takes_output_bias and entry.parameters != "thresholds":
        yield f"parameters = {entry.parameters!r}: {entry.executor} takes no output bias; allowed: thresholds"
    if entry.weights and (entry.access, entry.parameters) != ("logits", "all"):
        yield (
            f"weights = True with access = {entry.access!r} and parameters = {entry.parameters!r}; allowed: with "
            "access to logits and all parameters"
        )


def _result(entry: CalibrationEntry) -> Iterator[str]:
    for name, loss in (("before", entry.before), ("after", entry.after)):
        if not isfinite(loss) or loss < 0:
            yield f"{name} = {loss} is no cross-entropy; allowed: finite, at least 0"
    if entry.kept is not (entry.after < entry.before):
        yield f"kept = {entry.kept}, but after = {entry.after} and before = {entry.before}; kept is after < before"
    for name, value in (("path", entry.path), ("sha256", entry.sha256)):
        if (value is not None) is not entry.kept:
            yield f"{name} = {value!r}, but kept = {entry.kept}; a calibration that is kept has one, no other has"


def _budget(entry: CalibrationEntry, training_images: int) -> Iterator[str]:
    if entry.pairs < 1:
        yield f"pairs = {entry.pairs} is not possible; allowed: at least 1"
    elif entry.access == "scalar" and entry.evaluations % (2 * entry.pairs):
        yield f"evaluations = {entry.evaluations} is no multiple of {2 * entry.pairs}, twice the pairs = {entry.pairs}"
    if entry.seed < 0:
        yield f"seed = {entry.seed} is not possible; allowed: at least 0"
    batch, rest = divmod(entry.images, entry.evaluations)
    if rest or not 1 <= batch <= training_images:
        yield (
            f"images = {entry.images} is not evaluations = {entry.evaluations} times a batch; allowed: batches of 1 to "
            f"{training_images} images"
        )


def _held_out(entry: CalibrationEntry, validation: Vectors) -> Iterator[str]:
    first = validation.head(entry.samples)
    if entry.samples != len(first):
        yield f"samples = {entry.samples}, but {validation.origin} is all that there is"
    if entry.held_out != first.origin:
        yield f"held_out = {entry.held_out!r} with samples = {entry.samples}; expected {first.origin!r}"
