"""The cause of a layer's other codes: each test is decided by exact integers, the most specific first."""

from __future__ import annotations

from bitproof.export.divergence.cause import Cause, Finding
from bitproof.export.divergence.codes import find_wrong_codes
from bitproof.export.divergence.displaced import find_input_order, find_permutation
from bitproof.export.divergence.locate import Evidence
from bitproof.export.divergence.too_narrow import find_narrow_accumulator
from bitproof.export.divergence.weights import find_wrong_weight
from bitproof.export.integer import IntegerModel, Threshold
from bitproof.export.proofs import Activations


def classify(
    model: IntegerModel, evidence: Evidence, executor: object, activations: Activations, *, floats: bool
) -> Finding:
    """Return why *executor* gives other codes at the node of *evidence*; *floats*: it computes with floats."""
    found = find_permutation(evidence)
    if found is None and isinstance(evidence.node, Threshold):
        found = find_wrong_codes(model, evidence, activations.get(evidence.node.name), floats=floats)
    elif found is None:
        found = (
            find_narrow_accumulator(evidence)
            or find_input_order(model, evidence)
            or find_wrong_weight(model, evidence, executor)
        )
    return found or Finding(Cause.UNKNOWN, _not_explained(evidence))


def _not_explained(evidence: Evidence) -> str:
    if evidence.inputs_agree:
        return "the same inputs give other codes, and none of the known causes explains all of them"
    return "what goes into the layer cannot be seen in this executor, and no cause within the layer explains all codes"
