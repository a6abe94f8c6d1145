"""The comparison of an executor with the integer model down to the first layer that differs, and the reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np

from bitproof.export.divergence.cause import Cause, Finding
from bitproof.export.divergence.classify import classify
from bitproof.export.divergence.describe import Divergence, describe
from bitproof.export.divergence.displaced import find_permutation
from bitproof.export.divergence.locate import Search, UnreadableError, search_outputs, search_trace, search_units
from bitproof.export.divergence.reference import explain_unexplained
from bitproof.export.float_reference import walk_reference
from bitproof.export.integer import IntegerModel, load, require_codes, run
from bitproof.export.lower import activations_of
from bitproof.export.proofs import Activations
from bitproof.pipeline import Codes, Executor, FloatReference, LayerTracer, MatrixUnit, Requantizer, StageError

Method = Literal["layers", "units", "outputs"]
"""How far one can look into an executor: into its layers, into units that are run alone, at its outputs."""
BETWEEN = "its units agree with the model when they are run alone: the difference is between them (streaming, layout)"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What the comparison of one executor with the integer model gave.

    Attributes:
        executor: its name.
        method: how far it was looked into.
        samples: how many were run.
        compared: how many codes of outputs and layers were compared.
        differing_outputs: how many output codes differ.
        divergence: where the two diverge; None: nowhere.
        note: why its layers could not be looked into; empty if they could, or if it shows none.
        rounded: of a float reference, how many codes of each layer its rounding errors explain.
    """

    executor: str
    method: Method
    samples: int
    compared: int
    differing_outputs: int
    divergence: Divergence | None
    note: str = ""
    rounded: Mapping[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Every code was equal, or floats round it the other way, and there was at least one."""
        return self.divergence is None and self.compared > 0

    def lines(self) -> list[str]:
        """Return what was found, for a reader."""
        note = f"; its layers cannot be shown: {self.note}" if self.note else ""
        head = f"{self.executor}: {self.compared} codes of {self.samples} samples compared ({self.method}{note})"
        rounded = ", ".join(f"{layer} ({count})" for layer, count in self.rounded.items())
        order = (
            f"{Cause.FLOAT_ORDER}: given the codes that it gave before each layer, codes of {rounded} lie within its "
            "rounding errors of a boundary, on whose other side its sums come out"
        )
        if self.divergence is not None:
            lines = [f"{head}, {self.differing_outputs} outputs differ", *self.divergence.lines()]
            return [*lines, f"  other codes: {order}"] if self.rounded else lines
        if self.rounded:
            return [f"{head}, {self.differing_outputs} outputs differ, all explained", f"  cause: {order}"]
        return [f"{head}, all equal"]

    def as_json(self) -> Mapping[str, object]:
        """Return what was found, as plain JSON values."""
        return {
            "executor": self.executor,
            "ok": self.ok,
            "method": self.method,
            "samples": self.samples,
            "compared": self.compared,
            "differing_outputs": self.differing_outputs,
            "note": self.note or None,
            "rounded": dict(self.rounded),
            "divergence": None if self.divergence is None else self.divergence.as_json(),
        }


def explain(
    executor: Executor,
    model: IntegerModel,
    codes: Codes,
    *,
    activations: Activations | None = None,
    floats: bool = False,
    units: bool = True,
) -> Explanation:
    """Compare *executor* with *model* on *codes*, shape (N, inputs), and explain the first difference.

    Args:
        executor: what is compared.
        model: the integer model.
        codes: input codes.
        activations: the exact activations of the model, by which ties and float errors are told.
        floats: the executor computes with floats.
        units: run single units even if the outputs are equal.

    Raises:
        StageError: the executor fails, or shows layers of another shape.
    """
    require_codes(model, codes)
    outputs, expected = np.asarray(executor(codes)), run(model, codes)
    if outputs.shape != expected.shape:
        raise StageError(
            f"{executor.name} gives outputs of shape {outputs.shape}, the integer model {expected.shape}: they are not "
            "of one network; run it again"
        )
    differing = int((outputs != expected).sum())
    note = ""
    try:
        method, search = _search(executor, model, codes, outputs, deep=units or differing > 0)
    except UnreadableError as error:
        note = str(error)
        method, search = _search_closed(executor, model, codes, outputs, deep=units or differing > 0)
    compared = outputs.size + (0 if method == "outputs" else search.compared)
    evidence, finding = search.evidence, None
    if evidence is None and differing:
        # Layers or units agree, the whole does not: what lies between them is at fault.
        evidence = search_outputs(model, outputs, codes).evidence
        assert evidence is not None, "outputs differ"
        finding = find_permutation(evidence) or Finding(Cause.UNKNOWN, BETWEEN)
    if evidence is not None and finding is None:
        finding = classify(model, evidence, executor, activations or {}, floats=floats)
    divergence = None if evidence is None or finding is None else describe(model, evidence, finding)
    return Explanation(executor.name, method, len(codes), compared, differing, divergence, note)


def _search(
    executor: Executor, model: IntegerModel, codes: Codes, outputs: Codes, *, deep: bool
) -> tuple[Method, Search]:
    if not isinstance(executor, LayerTracer):
        return _search_closed(executor, model, codes, outputs, deep=deep)
    search = search_trace(model, executor, codes)
    if search.evidence is None and deep and isinstance(executor, MatrixUnit):  # its weights are not seen
        return _search_closed(executor, model, codes, outputs, deep=deep)
    hidden = search.evidence is not None and not search.evidence.inputs_agree
    if hidden and isinstance(executor, MatrixUnit | Requantizer):
        search = _look_behind(executor, model, codes, search)
    return "layers", search


def _search_closed(
    executor: Executor, model: IntegerModel, codes: Codes, outputs: Codes, *, deep: bool
) -> tuple[Method, Search]:
    """Compare an executor that does not show its layers."""
    if deep and isinstance(executor, MatrixUnit | Requantizer):
        return "units", search_units(model, executor, codes)
    return "outputs", search_outputs(model, outputs, codes)


def _look_behind(executor: Executor, model: IntegerModel, codes: Codes, search: Search) -> Search:
    """Run the units up to the layer that differs, since what goes into it cannot be seen."""
    assert search.evidence is not None, "a layer differs"
    names = [node.name for node in model.nodes]
    behind = search_units(model, executor, codes, names[: names.index(search.evidence.node.name) + 1])
    return Search(search.compared + behind.compared, behind.evidence or search.evidence)


def explain_run(executor: Executor, integer: Path, qonnx: Path, codes: Codes, *, units: bool) -> Explanation:
    """Explain *executor* by the artifact folders *integer* and *qonnx* of a run; see :func:`explain`."""
    model = load(integer)
    if isinstance(executor, FloatReference):
        return _explain_reference(executor, model, qonnx, codes)
    return explain(executor, model, codes, activations=activations_of(model, qonnx), units=units)


def _explain_reference(executor: FloatReference, model: IntegerModel, qonnx: Path, codes: Codes) -> Explanation:
    """Walk along the layers of a float reference; what its rounding errors do not explain is classified."""
    activations = cache(lambda: activations_of(model, qonnx))
    found, outputs = walk_reference(executor, model, activations, codes)
    differing = int((outputs != run(model, codes)).sum())
    divergence = None
    if found.first is not None:
        evidence, finding = explain_unexplained(executor, model, activations(), codes, found)
        divergence = describe(model, evidence, finding)
    return Explanation(
        executor.name, "layers", len(codes), found.compared, differing, divergence, rounded=found.explained
    )
