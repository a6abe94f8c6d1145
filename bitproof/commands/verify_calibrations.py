"""The second check of a ledger's calibrations: artifacts by their digests, losses by measuring them again."""

from __future__ import annotations

import typer

from bitproof.commands.calibration_entry import contradictions
from bitproof.commands.calibration_inputs import device_of, samples_of
from bitproof.export.integer import load
from bitproof.hw.calibrate import held_out_loss, original_of
from bitproof.pipeline.artifact import Artifact
from bitproof.pipeline.errors import ConfigError, InputError, IntegrityError, StageError
from bitproof.pipeline.ledger import CalibrationEntry, Ledger
from bitproof.pipeline.run_folder import RunFolder
from bitproof.plan import INTEGER


def verify_calibrations(run: RunFolder, again: RunFolder, ledger: Ledger) -> list[str]:
    """Check what every entry says, hash its model, measure its losses again, and return what is not as recorded.

    The calibrated models are those of *run*; the devices are made of what *again* holds.

    An entry that cannot be right is not measured. A model that was not kept left no artifact: there only the original
    is measured again.
    """
    integer = again.artifact(INTEGER)
    reasons: list[str] = []
    for entry, found in zip(ledger.calibrations, contradictions(again, ledger.calibrations), strict=True):
        wrong = found or _measured_again(run, again, entry, integer)
        reasons.extend(f"calibration on {entry.executor}: {line}" for line in wrong)
    return reasons


def _measured_again(run: RunFolder, again: RunFolder, entry: CalibrationEntry, integer: Artifact) -> list[str]:
    try:
        return _artifact(run, entry, integer) or _losses(run, again, entry, integer)
    except (ConfigError, InputError) as error:  # what whoever wrote the entry gave, not the user of this command
        return [f"it cannot be carried out: {error}"]


def _artifact(run: RunFolder, entry: CalibrationEntry, integer: Artifact) -> list[str]:
    """Return what is wrong with the model that *entry* names, if it names one, and with what it was made from."""
    if entry.made_from != integer.sha256:
        return [f"made_from = {entry.made_from} is another integer model; run 'bitproof run' again"]
    if entry.path is None:
        return []
    try:
        artifact = Artifact.load(run.path / entry.path)
        artifact.verify()
    except IntegrityError as error:
        return [f"path = {entry.path!r}: {error}"]
    if artifact.sha256 != entry.sha256:
        return [f"sha256 = {entry.sha256} is not the artifact at {artifact.path}; calibrate again"]
    if (artifact.kind, artifact.made_from) != (integer.kind, (integer.sha256,)):
        return [f"path = {entry.path!r} is {artifact.kind!r}, made from something else than the run's integer model"]
    return []


def _losses(run: RunFolder, again: RunFolder, entry: CalibrationEntry, integer: Artifact) -> list[str]:
    """Measure before, and after if there is a model, and return what is not the loss of the ledger."""
    model = load(integer.path)
    try:
        device = device_of(again, entry.executor, entry.faults, entry.fault_seed, model)
        original = original_of(model, entry.parameters)
    except StageError as error:  # nothing was run yet: a network of this kind cannot have been calibrated
        return [f"made_from = {entry.made_from} cannot be calibrated: {error}"]
    held_out = samples_of(again, "validation", entry.samples)
    measured = [("before", original, entry.before)]
    if entry.path is not None:
        calibrated = load(run.path / entry.path)
        measured.append(("after", calibrated, entry.after))
    reasons = []
    for name, candidate, recorded in measured:
        loss = held_out_loss(device, candidate, held_out)
        typer.echo(f"calibration on {entry.executor}: loss {name} {loss}, recorded {recorded}", err=True)
        if loss != recorded:
            reasons.append(f"the loss {name} is {loss}, the ledger has {name} = {recorded}")
    return reasons
