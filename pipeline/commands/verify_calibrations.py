"""Check the calibrations of a ledger again: the artifacts by their digests, the losses by measuring them."""

from __future__ import annotations

import typer

from pipeline.artifact import Artifact
from pipeline.commands.calibration_inputs import device_of, samples_of
from pipeline.ledger import Ledger
from pipeline.registry import FUNCTIONS, resolve
from pipeline.run_folder import RunFolder
from pipeline.target_device import INTEGER


def verify_calibrations(run: RunFolder, ledger: Ledger) -> list[str]:
    """Hash every calibrated model again, measure before and after again, and return what is not as recorded.

    A model that was not kept left no artifact: there only the original is measured again.
    """
    integer = run.artifact(INTEGER)
    model = resolve(FUNCTIONS, "load-integer-model")(integer.path)
    reasons = []
    for entry in ledger.calibrations:
        where = f"calibration on {entry.executor}"
        if entry.made_from != integer.sha256:
            reasons.append(f"{where}: it was made from another integer model; run 'bitproof run' again")
            continue
        calibrated = None
        if entry.path is not None:
            artifact = Artifact.load(run.path / entry.path)
            artifact.verify()
            if artifact.sha256 != entry.sha256:
                reasons.append(f"{where}: {artifact.path} is not the artifact of the ledger; calibrate again")
                continue
            calibrated = resolve(FUNCTIONS, "load-integer-model")(artifact.path)
        device = device_of(run, entry.executor, entry.faults, entry.fault_seed, model)
        held_out = samples_of(run, "validation", entry.samples)
        original = resolve(FUNCTIONS, "calibration-original")(model, entry.parameters)
        for name, measured, recorded in (("before", original, entry.before), ("after", calibrated, entry.after)):
            if measured is None:
                continue
            loss = resolve(FUNCTIONS, "calibration-loss")(device, measured, held_out)
            typer.echo(f"{where}: loss {name} {loss}, recorded {recorded}", err=True)
            if loss != recorded:
                reasons.append(f"{where}: the loss {name} is {loss}, the ledger has {recorded}")
    return reasons
