"""What a calibration works on: a device, and labelled images."""

from __future__ import annotations

from typing import Any

from bitproof.pipeline.errors import ConfigError, InputError
from bitproof.pipeline.plan import Plan
from bitproof.pipeline.registry import FUNCTIONS, resolve
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.target_device import INTEGER, TargetDevice, chain_of, programmable
from bitproof.pipeline.vectors import load_vectors


def device_of(run: RunFolder, executor: str, faults: str, fault_seed: int, model: Any) -> Any:  # noqa: ANN401
    """Return the device *executor* of *run*: the integer model on a simulated chip, or a target that is built anew.

    Raises:
        ConfigError: there is no such executor, the fault spec is bad, or the executor simulates no faults.
    """
    plan = Plan(run.config())
    spec = resolve(FUNCTIONS, "fault-spec").parse(faults)
    if executor == INTEGER:
        return spec.draw(model, fault_seed)
    step = plan.executor(executor)
    if step is None:
        raise ConfigError(f"this run has no executor {executor!r}; calibrate one of: {', '.join(programmable(plan))}")
    chain_of(plan, step)
    if str(spec):
        raise ConfigError(
            f"faults {faults!r} on {executor!r}: faults are simulated by the executor {INTEGER!r} only; leave out "
            "--faults or --executor"
        )
    return TargetDevice(run, step, run.path / "scratch" / f"calibrate-{step.slot}", model)


def samples_of(run: RunFolder, split: str, limit: int | None) -> Any:  # noqa: ANN401
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
    return resolve(FUNCTIONS, "calibration-samples")(vectors.codes, vectors.labels, vectors.origin)
