"""The networks that the loss of a classifier can calibrate: those that give one accumulator per class."""

from __future__ import annotations

from math import prod

from bitproof.export.integer import INPUT, IntegerModel, Threshold, TopK
from bitproof.pipeline import InputError


def require_class_accumulators(model: IntegerModel) -> None:
    """Refuse a *model* whose outputs are no logits: a sum for each class, all of one scale.

    Raises:
        InputError: its outputs are indices, codes of an activation, of several scales, or not one per class.
    """
    for node in model.nodes:
        if isinstance(node, TopK):
            raise InputError(
                f"layer {node.name!r} of {model.name!r} gives indices of classes, from which no loss can be computed; "
                "calibration needs output accumulators: leave the layer out of the network"
            )
    for node in model.nodes:
        if isinstance(node, Threshold) and node.name in _made_by(model):
            raise InputError(
                f"the last layer {node.name!r} of {model.name!r} is an activation; calibration needs output "
                "accumulators: end the network with a matrix product, a convolution or a mean"
            )
    channels, *sizes = model.shapes()[model.nodes[-1].name]
    if channels < 2 or prod(sizes) != 1:
        raise InputError(
            f"{model.name!r} gives outputs of shape {(channels, *sizes)}; calibration needs one output a class, at "
            "least 2"
        )
    if model.output_codings:
        raise InputError(
            f"the outputs of {model.name!r} have scales or offsets of their own; calibration needs one scale for all: "
            "leave the bias of the last layer out, and give its weights one scale"
        )


def _made_by(model: IntegerModel) -> set[str]:
    """Return the names of the sums, activations and inputs that the outputs are, perhaps moved or chosen from."""
    found, pending = set(), [model.nodes[-1].name]
    nodes = {node.name: node for node in model.nodes}
    while pending:
        name = pending.pop()
        if name == INPUT or nodes[name].adds or isinstance(nodes[name], Threshold):
            found.add(name)
        else:
            pending.extend(model.sources(name))
    return found
