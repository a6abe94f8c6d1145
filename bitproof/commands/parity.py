"""The parity stage: gathers artifacts, checks and proofs into the ledger, and judges it."""

from __future__ import annotations

import json
from typing import Any

from bitproof.check import CheckResult, accuracy_percent, reference_outputs, run_vectors
from bitproof.pipeline.artifact import Artifact, sha256_of_bytes
from bitproof.pipeline.errors import IntegrityError
from bitproof.pipeline.import_config import ImportConfig
from bitproof.pipeline.ledger import (
    ArtifactEntry,
    CheckEntry,
    FailureEntry,
    Ledger,
    ProofEntry,
    head_of,
    read_ledger,
    recorded_calibrations,
    recorded_deployments,
    write_ledger,
)
from bitproof.pipeline.run_folder import RunFolder, config_to_json
from bitproof.pipeline.toolchain import distribution_version
from bitproof.plan import RunPlan

PROOFS = "proofs.json"
METRICS = "metrics.json"


def record_ledger(run: RunFolder) -> Ledger:
    """Write ``ledger.json`` from what the run holds; what failed is recorded as such."""
    from bitproof.export.integer import load

    config = run.config()
    plan = RunPlan(config)
    failures = run.failures()
    failed = {entry.stage for entry in failures}
    executors = [
        executor
        for executor in plan.executors
        if not failed & {executor.check, *(stage.name for stage in plan.chain(executor.source))}
    ]
    results = {e.name: CheckResult.model_validate_json(run.check(e.file_name).read_text()) for e in executors}
    artifacts = _artifacts(run, plan, failed)
    lowered = json.loads((run.path / "integer" / PROOFS).read_text())
    proofs = [ProofEntry.model_validate(entry) for entry in lowered]
    for result in results.values():
        proofs.extend(result.proofs)
    model = load(run.artifact("integer").path)
    content: dict[str, Any] = {
        "run": config.name,
        "created_by": f"bitproof {distribution_version('bitproof')}",
        "tools": _tools(artifacts, results),
        "inputs": {
            "config": sha256_of_bytes(config_to_json(config).encode()),
            "data": run.artifact("data").sha256,
            **({"source": config.source.sha256} if isinstance(config, ImportConfig) else {}),
            **{name: file.sha256 for name, file in plan.inputs.items()},
        },
        "artifacts": [_entry(artifact) for artifact in artifacts],
        "checks": [result.check for result in results.values()],
        "proofs": proofs,
        "accuracy": _accuracy(run, results),
        "resources": {
            **_measured(plan, artifacts),
            **{name: result.resources for name, result in results.items() if result.resources},
        },
        "layers": [layer for result in results.values() for layer in result.layers],
        "costs": [part for result in results.values() for part in result.costs],
        "failures": failures,
        "gates": config.gates.model_dump(),
        "heads": {name: (place.start, place.stop) for name, place in model.head_places.items()},
        "calibrations": recorded_calibrations(run.ledger, run.artifact("integer").sha256),
        "deployments": recorded_deployments(run.ledger, {a.stage: a.sha256 for a in artifacts}.get("rtl")),
    }
    return write_ledger(content, run.ledger)


def _measured(plan: RunPlan, artifacts: list[Artifact]) -> dict[str, dict[str, int | float | str]]:
    """Return by stage what those of *artifacts* cost that say so themselves."""
    made = {artifact.path.name: artifact.path for artifact in artifacts}
    return {s.name: dict(s.measure(made[s.name])) for s in plan.stages if s.measure is not None and s.name in made}


def _artifacts(run: RunFolder, plan: RunPlan, failed: set[str]) -> list[Artifact]:
    artifacts = []
    broken = set(failed)
    for stage in plan.stages:
        if stage.name in broken or stage.source in broken:
            broken.add(stage.name)  # an older artifact in its folder is not part of this run
            continue
        artifacts.append(run.artifact(stage.name))
    return artifacts


def _entry(artifact: Artifact) -> ArtifactEntry:
    return ArtifactEntry(
        stage=artifact.stage,
        kind=artifact.kind,
        path=artifact.path.name,
        sha256=artifact.sha256,
        made_from=artifact.made_from,
    )


def _tools(artifacts: list[Artifact], results: dict[str, CheckResult]) -> dict[str, str]:
    tools: dict[str, str] = {}
    for versions in (*(artifact.tools for artifact in artifacts), *(result.tools for result in results.values())):
        tools.update(versions)
    return dict(sorted(tools.items()))


def _accuracy(run: RunFolder, results: dict[str, CheckResult]) -> dict[str, float | int]:
    """Return all accuracies in percent; ``samples`` counts the test images behind every figure but the baseline's.

    ``float`` and ``quantized`` come from training, if there was one, and always cover the whole test split.
    """
    vectors = run_vectors(run)
    accuracy: dict[str, float | int] = {"samples": len(vectors)}
    stages = RunPlan(run.config()).stage_names
    for name, stage in (("float", "train-float"), ("quantized", "train")):
        if stage not in stages:
            continue
        metrics = json.loads((run.path / stage / METRICS).read_text())
        accuracy[name] = float(metrics["test_accuracy"])
        accuracy["test_samples"] = int(metrics["test_samples"])
    if vectors.labels is not None:
        accuracy["integer"] = accuracy_percent(run, reference_outputs(run, vectors), vectors.labels)
    accuracy.update({name: result.accuracy for name, result in results.items() if result.accuracy is not None})
    return accuracy


def _reason(ledger: Ledger, check: CheckEntry) -> str:
    return check.summary() + ("" if check.first is None else head_of(ledger, check.first["output"]))


def judge(ledger: Ledger, config_targets: tuple[str, ...]) -> list[str]:
    """Return why the run fails its gates, one line each; empty: it passes.

    *config_targets* names the executors that the configuration asks for; one without a check is not counted here, since
    its failure is recorded under ``failures``.
    """
    strict = ledger.gates.get("float_reference") == "strict"
    reasons = [_reason(ledger, check) for check in ledger.checks if not check.ok]
    reasons += [entry.summary() for entry in ledger.deployments if entry.differing]
    empty = [name for name in ("checks", "proofs") if not getattr(ledger, name)]
    reasons += [f"the ledger holds no {name}: nothing was compared or proven" for name in empty]
    reasons += [
        f"gate float_reference = strict: {_reason(ledger, check)}"
        for check in ledger.checks
        if strict and check.ok and check.rounded
    ]
    for proof in ledger.proofs:
        if not proof.holds:
            where = f", first at {proof.first}" if proof.first else ""
            reasons.append(
                f"proof fails: layer {proof.layer}, {proof.actual}: {proof.claim}: "
                f"{proof.failing} of {proof.cases} cases contradict it{where}"
            )
    accuracy, gates = ledger.accuracy, ledger.gates
    needed = [key for one, key in (("float", "quantized"), ("integer", "samples")) if one in accuracy]
    missing = [key for key in needed if key not in accuracy]
    if missing or ("integer" in accuracy and "quantized_vs_target" not in gates):
        held = ", ".join(sorted(accuracy))
        return [*reasons, f"the ledger cannot be judged: it holds the figures {held}, the gates {dict(gates)}"]
    loss = accuracy["float"] - accuracy["quantized"] if "float" in accuracy else 0.0
    if loss > float(gates.get("float_vs_quantized", 0.0)):
        reasons.append(
            f"gate float_vs_quantized: the quantized network loses {loss:.2f} points "
            f"({accuracy['float']:.2f} % to {accuracy['quantized']:.2f} %); "
            f"allowed {float(gates['float_vs_quantized']):.2f}"
        )
    rounded = {check.actual for check in ledger.checks if check.ok and check.rounded}  # it is no target
    for target in config_targets:
        if target not in accuracy or "integer" not in accuracy or target in rounded:
            continue
        loss = accuracy["integer"] - accuracy[target]
        if loss > float(gates["quantized_vs_target"]):
            reasons.append(
                f"gate quantized_vs_target: {target} loses {loss:.2f} points ({accuracy['integer']:.2f} % to "
                f"{accuracy[target]:.2f} %) on {int(accuracy['samples'])} images; "
                f"allowed {float(gates['quantized_vs_target']):.2f}"
            )
    return reasons


def worst_failure(failures: tuple[FailureEntry, ...]) -> int:
    """Return the exit code that stands for all *failures*: a bug of ours, then a failed stage, then the others."""
    codes = {failure.exit_code for failure in failures}
    return next(code for code in (70, 4, 2, 3, 1) if code in codes)


def require_ledger(run: RunFolder) -> Ledger:
    """Return the run's ledger.

    Raises:
        IntegrityError: there is none yet, or it was edited.
    """
    if not run.ledger.is_file():
        raise IntegrityError(f"{run.path} has no ledger yet; finish the run with 'bitproof run' first")
    return read_ledger(run.ledger)
