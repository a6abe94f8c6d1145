"""The reason why a float reference gives a code that its rounding errors do not explain."""

from __future__ import annotations

import numpy as np

from bitproof.export.divergence.cause import Cause, Finding
from bitproof.export.divergence.classify import classify
from bitproof.export.divergence.locate import Evidence, first_site
from bitproof.export.float_reference import Walk, values_beside
from bitproof.export.integer import IntegerModel, MaxPool, Node, Product
from bitproof.export.proofs import Activations
from bitproof.pipeline import Codes, FloatReference, LayerTracer, StageError

MAX_SAMPLES = 1024
"""At most so many samples are looked at, the first at fault among them."""


def explain_unexplained(
    executor: FloatReference, model: IntegerModel, activations: Activations, codes: Codes, found: Walk
) -> tuple[Evidence, Finding]:
    """Return the evidence on the first unexplained code of *found*, and its cause.

    The product before the layer comes first, if the reference shows what it gave: a wrong weight shows there.

    Args:
        executor: the reference.
        model: the integer model.
        activations: its exact activations.
        codes: the input codes of the walk.
        found: what the walk found; something is unexplained.
    """
    assert found.first is not None, "something is unexplained"
    start = max(0, found.first.sample - MAX_SAMPLES // 2)
    chosen = codes[start : start + MAX_SAMPLES]
    observation = executor.observe(chosen)
    node = next(node for node in model.nodes if node.name == found.first.layer)
    values = values_beside(model, chosen, observation, node.name)
    actual = observation.layers.get(node.name, observation.codes.reshape(values[node.name].shape))
    evidence = _evidence(model, node, values, actual, start)
    assert evidence is not None, "the layer differs"
    for candidate in (_product_before(executor, model, node, values, chosen, start), evidence):
        if candidate is not None:
            finding = classify(model, candidate, executor, activations, floats=False)
            if finding.cause is not Cause.UNKNOWN:
                return candidate, finding
    where = f"no cause explains all codes of {node.name}, given the codes that {executor.name} itself gave before it"
    return evidence, Finding(Cause.UNKNOWN, where)


def _evidence(model: IntegerModel, node: Node, values: dict[str, Codes], actual: Codes, offset: int) -> Evidence | None:
    differs = actual != values[node.name]
    if not differs.any():
        return None
    sources = tuple(values[source] for source in model.sources(node.name))
    # What the reference gave before the layer was taken over, so both see it.
    seen = (True,) * len(sources)
    return Evidence(node, sources, seen, values[node.name], actual.astype(np.int64), first_site(differs), offset)


def _product_before(
    executor: FloatReference,
    model: IntegerModel,
    node: Node,
    values: dict[str, Codes],
    codes: Codes,
    offset: int,
) -> Evidence | None:
    """Return the evidence on the product that *node* takes, if the reference shows its sums as integers."""
    names = {node.name: node for node in model.nodes}
    product = names.get(model.sources(node.name)[0])
    while isinstance(product, MaxPool):
        product = names.get(model.sources(product.name)[0])
    if not isinstance(product, Product) or not isinstance(executor, LayerTracer):
        return None
    try:
        traced = executor.trace(codes)
    except StageError:
        return None
    return _evidence(model, product, values, traced[product.name], offset) if product.name in traced else None
