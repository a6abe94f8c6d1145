"""The proofs of a lowering: everything that is proven of an integer model from the graph and the model alone."""

from __future__ import annotations

from bitproof.export.integer import Threshold, hull
from bitproof.export.lowering.lower import Lowered
from bitproof.export.proofs.constants import warn_of_constants
from bitproof.export.proofs.float_order import prove_order
from bitproof.export.proofs.thresholds import prove_thresholds
from bitproof.export.proofs.widths import prove_widths
from bitproof.pipeline.ledger import ProofEntry
from bitproof.pipeline.progress import Progress, silent


def prove_lowering(lowered: Lowered, progress: Progress = silent) -> list[ProofEntry]:
    """Prove thresholds, float order, widths and weights of *lowered*; what was dropped at the end is said here, too."""
    model = lowered.model
    values, entries = model.values, []
    nodes = model.nodes_of(Threshold)
    for number, node in enumerate(nodes):
        progress(f"thresholds of {node.name}", number, len(nodes))
        source = values[model.sources(node.name)[0]]
        activations = lowered.activations[node.name]
        entries.append(prove_thresholds(node, activations, source.ranges))
        if any(activation.chain.floats is None for activation in activations):
            entries.append(_unknown_order(node.name))
        else:
            terms = (source.sums.terms,) * node.channels
            entries.append(prove_order(node.name, activations, source.ranges, source.sums.magnitudes, terms))
    entries += prove_widths(model)
    entries += warn_of_constants(model, {name: span.target for name, span in lowered.spans.items()})
    entries += [_weights(*weights) for weights in lowered.unequal_weights]
    entries += [_dropped(name, op, hull(values[model.nodes[-1].name].ranges).magnitude) for name, op in lowered.dropped]
    return entries


def _unknown_order(layer: str) -> ProofEntry:
    return ProofEntry(
        layer=layer,
        claim="nothing is claimed of the order of float32 sums: a mean, or a curve such as Tanh, stands before the "
        "quantizer",
        method="none",
        cases=0,
        holds=True,
    )


def _weights(tensor: str, count: int, unequal: int) -> ProofEntry:
    return ProofEntry(
        layer=tensor,
        claim="the codes are those of float32 division and rounding, as torch and qonnx quantize; exact division "
        f"would give {unequal or 'none'} of {count} otherwise",
        method="every number was divided both ways",
        cases=count,
        holds=True,
        exact_differs=unequal,
    )


def _dropped(name: str, operation: str, largest: int) -> ProofEntry:
    return ProofEntry(
        layer=name,
        claim=f"the final {operation} is left out: it rises with each output, so the order of the classes is that of "
        "the codes before it",
        method=f"{operation} is strictly increasing in exact arithmetic (of outputs up to {largest} steps)",
        cases=1,
        holds=True,
    )
