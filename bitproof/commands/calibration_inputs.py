"""The inputs of a calibration: a device, and labelled images."""

from __future__ import annotations

from bitproof.export.integer import IntegerModel
from bitproof.hw.calibrate import Device, Samples
from bitproof.hw.faults import FaultSpec
from bitproof.pipeline.errors import ConfigError, InputError
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.vectors import load_vectors
from bitproof.plan import INTEGER, RunPlan
from bitproof.target_device import TargetDevice, chain_of, programmable


def device_of(run: RunFolder, executor: str, faults: str, fault_seed: int, model: IntegerModel) -> Device:
    """Return the device *executor* of *run*: the integer model on a simulated chip, or a target that is built anew.

    Raises:
        ConfigError: there is no such executor, the fault spec is bad, or the executor simulates no faults.
    """
    plan = RunPlan(run.config())
    spec = FaultSpec.parse(faults)
    if executor == INTEGER:
        return spec.draw(model, fault_seed)
    target = plan.executor(executor)
    if target is None:
        raise ConfigError(f"this run has no executor {executor!r}; calibrate one of: {', '.join(programmable(plan))}")
    chain_of(plan, target)
    if str(spec):
        raise ConfigError(
            f"faults {faults!r} on {executor!r}: faults are simulated by the executor {INTEGER!r} only; leave out "
            "--faults or --executor"
        )
    return TargetDevice(run, target, run.path / "scratch" / f"calibrate-{target.file_name}", model)


def samples_of(run: RunFolder, split: str, limit: int | None) -> Samples:
    """Return the first *limit* labelled images of *split*, or all of them.

    Raises:
        InputError: there is none, they have no labels, or the network is no classifier.
        IntegrityError: the data set was changed after it was made.
    """
    if not run.config().labelled:
        raise InputError(f"the network of {run.path} names no class; calibration lowers the loss of a classifier")
    dataset = run.artifact("data")
    dataset.verify()
    vectors = load_vectors(dataset, split)
    if limit is not None:
        if limit < 1:
            raise InputError(f"held-out images = {limit} is not possible; it must be at least 1")
        vectors = vectors.head(limit)
    if vectors.labels is None:
        raise InputError(f"the split {split!r} has no labels; calibration needs labelled images")
    return Samples(vectors.codes, vectors.labels, vectors.origin)
