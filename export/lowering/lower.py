"""The walk that lowers a graph to the integer model, in which each tensor is known by what it means."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import onnx

from bitproof.export.importer.input_quantizer import ANY_QUANTIZER
from bitproof.export.importer.join_heads import heads_of
from bitproof.export.integer import INPUT, Activation, Affine, Coding, Concat, Head, IntegerModel, TopK
from bitproof.export.lowering.builder import Builder, Origin
from bitproof.export.lowering.codes import affine, in_order
from bitproof.export.lowering.effort import Effort, TooLargeError
from bitproof.export.lowering.graph import InputCoding, Lowering, Span, UnsupportedError, name_of
from bitproof.export.lowering.known import GraphInput, Rounded, Tensor, linear_of, unit_of
from bitproof.export.lowering.operations import (
    ON_INTEGERS,
    OPERATIONS,
    QONNX_DOMAINS,
    QONNX_OPERATIONS,
    STANDARD_DOMAINS,
    hint_on,
)
from bitproof.pipeline import InputError

ACCUMULATOR_BITS = 32
"""An output bias becomes part of the codes if they stay within this, and of their decoding elsewhere."""

UNKNOWN = "not supported"
"""Said of an operation that no function lowers; the list of those that are known follows once."""

MAX_LISTED = 1_000
"""Refused nodes that a message names."""


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """What the lowering of one graph gives.

    Attributes:
        model: the integer model.
        activations: for each of its activations the exact chains and quantizers, one per channel, all rising.
        spans: for each activation the part of the graph that it stands for.
        origins: for each node that equals a tensor of the graph, which.
        input: the tensor of the graph that holds the input codes.
        output: the tensor of the graph that the output codes stand for.
        dropped: nodes at the end that keep the order of the outputs and were left out: name and operation.
        unequal_weights: for each weight quantizer its output tensor, the number of weights, and how many codes exact
            division would give otherwise than the float32 division that defines them.
    """

    model: IntegerModel
    activations: dict[str, list[Activation]]
    spans: dict[str, Span]
    origins: dict[str, Origin]
    input: str
    output: str
    dropped: tuple[tuple[str, str], ...]
    unequal_weights: tuple[tuple[str, int, int], ...]


def lower_graph(model: onnx.ModelProto, path: Path, name: str, most_effort: int | None = None) -> Lowered:
    """Lower *model*, normalized; *path* is for messages, *name* is the network's.

    *most_effort*: units of :mod:`bitproof.export.lowering.effort` that it may take, if they are not its own limit.

    Raises:
        InputError: some nodes cannot be lowered exactly; the message lists them, up to :data:`MAX_LISTED`. Or the
            network asks for more arithmetic than :mod:`bitproof.export.lowering.effort` allows.
    """
    opset = {entry.domain: entry.version for entry in model.opset_import}
    lowering = Lowering(model.graph, path, opset, Builder(Effort(most_effort)))
    source = _graph_input(model.graph, path)
    lowering.known[source.name] = GraphInput(_sample_shape(source, path))
    refusals = [refusal for node in model.graph.node if (refusal := _lower_node(lowering, node)) is not None]
    if refusals:
        listing = "\n".join(f"  {refusal}" for refusal in refusals[:MAX_LISTED])
        if len(refusals) > MAX_LISTED:
            listing += f"\n  and {len(refusals) - MAX_LISTED} more"
        nodes = "1 node" if len(refusals) == 1 else f"{len(refusals)} nodes"
        listing = "\n".join([listing, *_hints(model.graph, refusals)])
        raise InputError(f"{path} holds {nodes} that cannot be lowered to integers exactly:\n{listing}")
    return _finish(lowering, name, heads_of(model))


def _hints(graph: onnx.GraphProto, refusals: list[str]) -> Iterator[str]:
    """Yield what is to be said once about *refusals*, however many nodes it concerns."""
    if not any(node.op_type in ANY_QUANTIZER for node in graph.node):
        yield (
            "the file holds no quantizer: it is a float network. Train or calibrate a quantized one, and export that "
            "(in Brevitas by export_qonnx)"
        )
    if any(refusal.endswith(UNKNOWN) for refusal in refusals):
        yield f"supported operations: {', '.join(OPERATIONS)}"


def _graph_input(graph: onnx.GraphProto, path: Path) -> onnx.ValueInfoProto:
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise InputError(f"{path} has {len(inputs)} inputs and {len(graph.output)} outputs; one each is supported")
    return inputs[0]


def _sample_shape(value: onnx.ValueInfoProto, path: Path) -> tuple[int, ...]:
    sizes = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)[1:]
    if not sizes or min(sizes) < 1:
        raise InputError(
            f"{path}: input {value.name!r} has samples of shape {sizes}; all sizes but that of the batch must be given"
        )
    return sizes


def _lower_node(lowering: Lowering, node: onnx.NodeProto) -> str | None:
    """Lower *node* and note what its output means; return why it cannot be, if it cannot.

    A supported node behind one that was refused is left out: only causes are listed.
    """
    operation, hint = OPERATIONS.get(node.op_type), hint_on(node)
    if hint is not None:
        return f"{name_of(node)} ({node.op_type}): {hint}"
    if operation is None:
        return f"{name_of(node)} ({node.op_type}): {UNKNOWN}"
    if node.domain not in (QONNX_DOMAINS if node.op_type in QONNX_OPERATIONS else STANDARD_DOMAINS):
        return f"{name_of(node)} ({node.op_type}): is of the domain {node.domain!r}, whose operations are not supported"
    taken = [name for name in node.input if name]
    if any(name not in lowering.known and name not in lowering.rounded for name in taken):
        return None
    rounded = next((name for name in taken if name in lowering.rounded), None)
    if rounded is not None and (node.op_type not in ON_INTEGERS or node.input[0] != rounded):
        return (
            f"{name_of(node)} ({node.op_type}): takes {rounded!r}, the integers of a QuantizeLinear; supported on them "
            f"are {', '.join(sorted(ON_INTEGERS))}; put this node behind the DequantizeLinear"
        )
    try:
        known, made = operation(lowering, node), _made(node)
        if isinstance(known, Rounded):
            lowering.rounded[made] = known
            return None
        # A node that only passes on what it is given shares the integer value with everything that uses its output.
        if isinstance(known, Tensor) and known.private and not lowering.private(made):
            known = replace(known, private=False)
        lowering.known[made] = known
        _note_origin(lowering, made)
    except TooLargeError as error:  # what comes behind it is not looked at
        raise InputError(f"{lowering.path}: node {name_of(node)!r} ({node.op_type}): {error}") from error
    except UnsupportedError as error:
        return f"{name_of(node)} ({node.op_type}): {error}"
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, ArithmeticError) as error:
        return f"{name_of(node)} ({node.op_type}): is not a valid {node.op_type}: {error!r}"
    return None


def _made(node: onnx.NodeProto) -> str:
    """Return the output that the lowering of *node* gives the meaning of: the indices of TopK, else the first."""
    made: str = node.output[1] if node.op_type == "TopK" else node.output[0]
    return made


def _note_origin(lowering: Lowering, tensor: str) -> None:
    """Note that the node behind *tensor* equals it, if its codes are the tensor's real numbers in a scale."""
    known = lowering.known[tensor]
    if not isinstance(known, Tensor) or known.node in lowering.builder.origins or known.node == INPUT:
        return
    linear = known.linear()
    if linear is not None and all(scale for scale, _ in linear):
        scales, offsets = (tuple(pair[i] for pair in linear) for i in (0, 1))
        lowering.builder.origins[known.node] = Origin(tensor, known.axes, scales, offsets)


def _finish(lowering: Lowering, name: str, heads: Heads) -> Lowered:
    output = lowering.graph.output[0].name
    if lowering.input is None:
        raise InputError(f"{lowering.path}: the output {output!r} is not computed from a quantized input")
    if heads:
        tensor, codings = _joined(lowering, heads)
    else:
        tensor, codings = _decoded_output(lowering, output, output)
    builder = lowering.builder
    if tensor.node == INPUT:
        raise InputError(f"{lowering.path}: the output {output!r} is the input; the network computes nothing")
    kept = _needed(tensor.node, builder.wiring)
    nodes = tuple(node for node_name, node in builder.nodes.items() if node_name in kept)
    same = set(codings) == {Coding(codings[0].scale)}
    coding: InputCoding = lowering.input
    model = IntegerModel(
        name=name,
        input=coding.kind,
        input_scale=_input_scale(lowering),
        shape=coding.shape,
        nodes=nodes,
        output_scale=codings[0].scale,
        wiring=tuple(builder.wiring[node.name] for node in nodes),
        input_codes=coding.codes,
        output_codings=() if same else tuple(codings),
        heads=tuple(Head(head, shape) for head, _, shape in heads),
        rounds_input=coding.rounds,
    )
    if tensor.node not in builder.origins:
        if any(coding.root != 1 for coding in codings):
            raise InputError(f"{lowering.path}: no tensor of the file equals the integers of the output {output!r}")
        scales, offsets = tuple(c.scale for c in codings), tuple(c.offset for c in codings)
        real = lowering.dropped[0].input[0] if lowering.dropped else output
        builder.origins[tensor.node] = Origin(real, tensor.axes, scales, offsets)
    dropped = tuple((name_of(node), node.op_type) for node in lowering.dropped)
    return Lowered(
        model=model,
        activations={key: value for key, value in lowering.activations.items() if key in kept},
        spans=lowering.spans,
        origins={key: value for key, value in builder.origins.items() if key in kept},
        input=coding.tensor,
        output=builder.origins[tensor.node].tensor,
        dropped=dropped,
        unequal_weights=tuple(lowering.unequal_weights),
    )


Heads = list[tuple[str, str, tuple[int, ...]]]
"""Name, flattened tensor and shape of a sample of each of several outputs."""


def _joined(lowering: Lowering, heads: Heads) -> tuple[Tensor, list[Coding]]:
    """Return all *heads* as one vector, each decoded for itself, and what each of its codes stands for."""
    decoded = [_decoded_output(lowering, flat, name) for name, flat, _ in heads]
    builder = lowering.builder
    made = Concat(builder.name(Concat))
    for (name, _, _), (tensor, _) in zip(heads, decoded, strict=True):
        if isinstance(builder.nodes.get(tensor.node), TopK):
            raise InputError(
                f"{lowering.path}: the output {name!r}, one of {len(heads)}, holds indices of classes; with several "
                "outputs each has to give numbers: leave its TopK or ArgMax out"
            )
    builder.emit(made, *(tensor.node for tensor, _ in decoded))
    codings = [coding for _, codings in decoded for coding in codings]
    chains = tuple(chain for tensor, _ in decoded for chain in tensor.chains)
    return Tensor(made.name, (0,), chains, private=False), codings


def _decoded_output(lowering: Lowering, tensor: str, name: str) -> tuple[Tensor, list[Coding]]:
    """Return the output *tensor*, called *name* in a user's file, and what its codes stand for."""
    known = lowering.known.get(tensor)
    if not isinstance(known, Tensor):
        raise InputError(f"{lowering.path}: the output {name!r} is not computed from a quantized input")
    try:
        return _decoded(lowering, in_order(lowering, known))
    except UnsupportedError as error:
        raise InputError(f"{lowering.path}: the output {name!r} {error}") from error


def _input_scale(lowering: Lowering) -> Fraction:
    assert lowering.input is not None, "the input was quantized"
    known = lowering.known[lowering.input.tensor]
    assert isinstance(known, Tensor), "the input quantizer makes codes"
    linear = linear_of(known.chains[0])
    assert linear is not None, "codes have a scale"
    return linear[0]


def _needed(output: str, wiring: dict[str, tuple[str, ...]]) -> set[str]:
    """Return the names of the nodes that *output* is computed from, itself included."""
    needed, pending = set(), [output]
    while pending:
        name = pending.pop()
        if name not in needed and name != INPUT:
            needed.add(name)
            pending += wiring[name]
    return needed


def _decoded(lowering: Lowering, tensor: Tensor) -> tuple[Tensor, list[Coding]]:
    """Return the output and what its codes stand for, one coding per channel.

    A bias, or a scale per channel, is brought into the codes if they stay small; else it stays with the decoding.
    """
    linear = tensor.linear()
    if linear is None:
        return tensor, _normalized(tensor)
    if len(set(linear)) == 1:
        return _rising(lowering, tensor), [Coding(abs(linear[0][0]), linear[0][1])] * len(linear)
    unit = unit_of([number for pair in linear for number in pair])
    factors, offsets = ([pair[i] / unit for pair in linear] for i in (0, 1))
    largest = max(i.magnitude for i in lowering.builder.ranges[tensor.node])
    if max(abs(f) * largest + abs(o) for f, o in zip(factors, offsets, strict=True)) < 1 << (ACCUMULATOR_BITS - 1):
        node = lowering.builder.emit(affine(lowering.builder.name(Affine), factors, offsets), tensor.node)
        codings = [Coding(unit)] * len(linear)
        return Tensor(node, tensor.axes, tensor.chains, private=False), codings
    return tensor, [Coding(scale, offset) for scale, offset in linear]


def _normalized(tensor: Tensor) -> list[Coding]:
    """Return the codings of channels behind a batch norm, whose square root they hold."""
    clamped = any(chain.low is not None or chain.high is not None or chain.curve is not None for chain in tensor.chains)
    codings = [] if clamped else [Coding.of(chain.slope, chain.intercept) for chain in tensor.chains]
    known = [coding for coding in codings if coding is not None]
    if clamped or len(known) < len(codings):
        raise UnsupportedError(
            f"is made of real numbers behind {'a ReLU, clip or curve' if clamped else 'several batch norms'} that no "
            "Quant node has turned into codes, which has no integer form; end the network with a matrix product, with "
            "one batch norm behind it, or with a Quant node"
        )
    return known


def _rising(lowering: Lowering, tensor: Tensor) -> Tensor:
    rising, _ = lowering.builder.rising(tensor)
    return rising
