"""Programs that are a chain of matrix products on vectors: what a target that has no other form takes its plan from."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from bitproof.export.integer import INPUT, Affine, MatMul, Node, Ranges, Reshape, Threshold, Transpose
from bitproof.export.integer.analysis import Value
from bitproof.export.program.order import places
from bitproof.export.program.program import Program
from bitproof.export.program.step import Step
from bitproof.pipeline import StageError

OPERATIONS = "matmul, threshold, bias"


@dataclass(frozen=True, slots=True)
class Layer:
    """A matrix product with what its step does to the accumulators.

    Attributes:
        product: its weights.
        takes: what is known of the codes that it takes.
        accumulators: intervals of its accumulators, one per channel.
        thresholds: its activation; None: the last layer gives accumulators.
        bias: what is added to the accumulators of the last layer; None: nothing.
        sums: intervals of the accumulators with the bias, one per channel.
    """

    product: MatMul
    takes: Value
    accumulators: Ranges
    thresholds: Threshold | None
    bias: Affine | None
    sums: Ranges


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Layers in a chain.

    Attributes:
        recoding: one factor and one offset by which all input codes are replaced first; None: they are not.
        layers: in the order of the data.
    """

    recoding: Affine | None
    layers: tuple[Layer, ...]


def perceptron_of(program: Program, target: str, *, recodes: bool = False) -> Perceptron:
    """Return the layers of *program*; shapes alone cost nothing, so that any number of views may lie between them.

    Args:
        program: what is carried out.
        target: what has a form for products, activations and a bias of the outputs.
        recodes: it also has one for a recoding of the input.

    Raises:
        StageError: the program is no chain of matrix products, each with an activation behind it, of which the last may
            have none, or a bias instead; the message names the nodes for which *target* has no form.
    """
    recoding = _recoding(program) if recodes else None
    steps = program.steps if recoding is None else program.steps[1:]
    _require_operations(steps, target)
    held = INPUT if recoding is None else recoding.name
    for step in steps:
        if {program.values[name].storage for name in step.takes} != {held}:
            raise StageError(f"{target} takes vectors that go through one chain of {OPERATIONS}; the network branches")
        if isinstance(step.main, MatMul):
            _require_in_place(program, held, step.takes[0], step.before[0], target)
        held = step.makes
    if program.values[program.output].storage != held:
        raise StageError(f"{target} gives what the last layer makes; the output {program.output!r} is another value")
    _require_in_place(program, held, program.output, (), target)
    layers = tuple(_layer(program, step, target) for step in steps)
    if not layers:
        raise StageError(f"the network has no matrix product; {target} takes chains of {OPERATIONS}")
    for layer, behind in pairwise(layers):
        if layer.thresholds is None:
            name = layer.bias.name if layer.bias is not None else layer.product.name
            raise StageError(
                f"layer {behind.product.name!r} takes the accumulators of layer {name!r}; {target} takes codes: put a "
                "quantized activation between them"
            )
    return Perceptron(recoding, layers)


def _require_in_place(program: Program, held: str, name: str, moved: tuple[Node, ...], target: str) -> None:
    """Refuse a value that, after the nodes *moved*, is not the stored value *held* code for code: a vector is.

    A view keeps its codes where they are in memory, in an order that may be another than that of a vector.
    """
    value = program.values[name]
    codes = places(value.shape, value.order)
    for node in moved:
        codes = node.apply(codes)
    if (codes.ravel() == np.arange(codes.size)).all():
        return
    sources, node_name = [node.name for node in moved], name
    while node_name != held and program.values[node_name].storage != node_name:
        sources.append(node_name)
        (node_name,) = program.model.sources(node_name)
    moving = [node for node in program.model.nodes if node.name in sources and isinstance(node, Transpose)]
    named = ", ".join(f"{node.name} ({node.op})" for node in moving)
    raise StageError(f"{target} has no form for {named}, which moves codes; it takes chains of {OPERATIONS}")


def _recoding(program: Program) -> Affine | None:
    """Return what replaces every input code by another, the same for all, as a first step; None: nothing does."""
    first = program.steps[0] if program.steps else None
    if first is None or not isinstance(first.main, Affine) or first.after:
        return None
    node = first.main
    same = bool((node.factors == node.factors[0]).all() and (node.offsets == node.offsets[0]).all())
    from_input = program.values[first.takes[0]].storage == INPUT
    return node if same and node.factors[0] > 0 and from_input else None


def _require_operations(steps: tuple[Step, ...], target: str) -> None:
    problems = []
    for node in (node for step in steps for node in step.carried_out):
        if isinstance(node, Reshape):  # what is moved, a Transpose beside it moves
            continue
        if not isinstance(node, MatMul | Threshold | Affine):
            problems.append(f"{node.name} ({node.op})")
        elif isinstance(node, Affine) and not node.is_bias:
            problems.append(f"{node.name} (affine with factors other than 1)")
    if problems:
        raise StageError(f"{target} has no form for {', '.join(problems)}; it takes chains of {OPERATIONS}")


def _layer(program: Program, step: Step, target: str) -> Layer:
    product, after = step.main, step.after
    if not isinstance(product, MatMul):
        raise StageError(
            f"layer {product.name!r} is {_article(product)} that follows no matrix product; {target} takes matrix "
            "products, each with one activation behind it, and at most one bias at the end"
        )
    thresholds, bias = step.thresholds, next((node for node in after if isinstance(node, Affine)), None)
    if bias is not None and (thresholds is not None or len(after) > 1):
        raise StageError(
            f"layer {bias.name!r} adds a bias inside of the network, which {target} has no form for; a bias before an "
            "activation belongs into its thresholds, and one of the outputs comes last"
        )
    values = program.model.values
    source = values[program.model.sources(product.name)[0]]
    accumulators = values[product.name].ranges
    return Layer(product, source, accumulators, thresholds, bias, values[bias.name].ranges if bias else accumulators)


def _article(node: Node) -> str:
    return (
        "an activation" if isinstance(node, Threshold) else "a recoding" if isinstance(node, Affine) else f"a {node.op}"
    )
