"""What the C back-end makes of an integer model: a layout and a kernel for every layer, or an error that names it.

Everything that a kernel relies on is decided here, before any text is written: the order of the layers, the ranges of
the codes, that every accumulator fits 32 bits, and which requantization equals the thresholds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bitproof.export.integer import (
    Affine,
    IntegerModel,
    Interval,
    MatMul,
    MultiplyShift,
    Requantization,
    RoundingShift,
    Threshold,
    hull,
    require_operations,
    solve_requantization,
    without_moves,
)
from bitproof.hw.mcu.manifest import Method
from bitproof.hw.mcu.weight_layout import TERNARY_SECOND_ROW, WeightLayout, Words
from bitproof.pipeline import Codes, StageError

INT32_MAX = (1 << 31) - 1
INT32_MIN = -(1 << 31)
CODE_BITS = 8
BYTES_OF_FORM: Mapping[Method, int] = {"multiply-shift": 8, "multiply-shift-64": 12, "rounding-shift": 4}
"""Constants of one channel in the forms whose size does not depend on the number of levels."""


@dataclass(frozen=True, slots=True)
class PlannedMatMul:
    """One matrix product.

    Attributes:
        words: its packed weights.
        ternary_run: words that may be accumulated before the rows of a ternary layout are told apart; else 0.
        outputs: hull of its accumulators.
    """

    node: MatMul
    layout: WeightLayout
    words: Words
    ternary_run: int
    outputs: Interval


@dataclass(frozen=True, slots=True)
class PlannedActivation:
    """One requantization; *constants* is None where only the thresholds themselves are exact."""

    node: Threshold
    constants: Requantization | None

    @property
    def method(self) -> Method:
        """How the codes are computed."""
        match self.constants:
            case MultiplyShift(word_bits=64):
                return "multiply-shift-64"
            case MultiplyShift():
                return "multiply-shift"
            case RoundingShift():
                return "rounding-shift"
            case _:
                return "thresholds"

    @property
    def kernel(self) -> str:
        """What the type and the function of that method are called in C, behind their prefixes."""
        return self.method.replace("-", "_")

    @property
    def table_bytes(self) -> int:
        """Size of the constants of all channels."""
        if self.constants is None:
            return 4 * self.padded_thresholds.size
        return BYTES_OF_FORM[self.method] * self.node.channels

    @property
    def padded_thresholds(self) -> Codes:
        """The thresholds, shape (channels, 2**n - 1), with levels added that no accumulator reaches."""
        missing = padded_levels(self.node.levels) - self.node.levels
        return np.pad(self.node.thresholds, ((0, 0), (0, missing)), constant_values=INT32_MAX)


def padded_levels(levels: int) -> int:
    """Return how many thresholds a channel of *levels* has where they are stored: the next 2**n - 1.

    >>> [padded_levels(levels) for levels in (1, 2, 3, 4, 15)]
    [1, 3, 3, 7, 15]
    """
    return (1 << levels.bit_length()) - 1


@dataclass(frozen=True, slots=True)
class PlannedBias:
    """What is added to the output accumulators; *outputs* is the hull of the sums."""

    node: Affine
    outputs: Interval


@dataclass(frozen=True, slots=True)
class Plan:
    """The network, ready to be written as C; *bias* is None where nothing is added to the output accumulators."""

    prefix: str
    model: IntegerModel
    matmuls: tuple[PlannedMatMul, ...]
    activations: tuple[PlannedActivation, ...]
    bias: PlannedBias | None = None

    @property
    def outputs(self) -> Interval:
        """Hull of the output accumulators, bias included."""
        return self.matmuls[-1].outputs if self.bias is None else self.bias.outputs

    @property
    def widest_hidden(self) -> int:
        """Most channels of a hidden layer."""
        return max((planned.node.channels for planned in self.activations), default=0)

    @property
    def scratch_bytes(self) -> int:
        """Accumulators and codes of one hidden layer, rounded up to whole words."""
        return self.widest_hidden * 4 + -(-self.widest_hidden // 4) * 4


@dataclass(frozen=True, slots=True)
class Draft:
    """What is known of the network before its weights are packed and its requantizations solved.

    Attributes:
        model: the network, without what moves nothing.
        layouts: of each matrix product, by its name.
    """

    model: IntegerModel
    layouts: Mapping[str, WeightLayout]


def draft_network(model: IntegerModel) -> Draft:
    """Check that every layer of *model* has a form, without packing or solving anything: in seconds for any size.

    Raises:
        StageError: a layer cannot be carried out with 8-bit codes and 32-bit accumulators; the message names it.
    """
    model = without_moves(model)
    require_operations(model, "the C back-end", (MatMul, Threshold, Affine))
    _check_codes(model)
    _check_order(model)
    for node in model.nodes:
        if isinstance(node, MatMul):
            _check_accumulators(node, hull(model.values[node.name].ranges))
        elif isinstance(node, Affine):
            _check_sums(node, hull(model.values[node.name].ranges))
    return Draft(model, {node.name: WeightLayout.of(node) for node in model.nodes if isinstance(node, MatMul)})


def plan_network(model: IntegerModel) -> Plan:
    """Decide layout and kernel of every layer of *model*.

    Raises:
        StageError: a layer cannot be carried out with 8-bit codes and 32-bit accumulators; the message names it.
    """
    model = without_moves(model)
    draft = draft_network(model)
    model = draft.model
    matmuls = []
    activations = []
    bias = None
    largest_code = model.input.maximum
    for node in model.nodes:
        outputs = hull(model.values[node.name].ranges)
        if isinstance(node, MatMul):
            matmuls.append(_plan_matmul(node, draft.layouts[node.name], outputs, largest_code))
        elif isinstance(node, Affine):
            bias = PlannedBias(node, outputs)
        elif isinstance(node, Threshold):
            reachable = model.values[model.sources(node.name)[0]].ranges
            activations.append(PlannedActivation(node, solve_requantization(node, reachable)))
            largest_code = node.lowest + node.levels
    return Plan(prefix_of(model.name), model, tuple(matmuls), tuple(activations), bias)


def prefix_of(name: str) -> str:
    """Return the C identifier that all public names of the network *name* start with.

    >>> prefix_of("Fashion-MNIST mlp")
    'fashion_mnist_mlp'
    >>> prefix_of("64x64")
    'net_64x64'
    """
    words = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return words if re.match(r"[a-z]", words) and not words.startswith("bitproof") else f"net_{words}"


def _check_codes(model: IntegerModel) -> None:
    if model.input.signed or model.input.bits > CODE_BITS:
        raise StageError(
            f"the network takes {model.input} codes; the C back-end takes uint1 to uint{CODE_BITS}: "
            "quantize the network's input without a sign"
        )
    for node in model.nodes_of(Threshold):
        if node.output.signed or node.output.bits > CODE_BITS:
            raise StageError(
                f"layer {node.name!r} gives {node.output} codes; the C back-end takes uint1 to uint{CODE_BITS}: "
                "use an activation whose codes are not negative, such as ReLU"
            )


def _check_order(model: IntegerModel) -> None:
    # A bias is taken at the very end only: before an activation it belongs into the thresholds.
    nodes = model.nodes[:-1] if isinstance(model.nodes[-1], Affine) else model.nodes
    for index, node in enumerate(nodes):
        wanted = MatMul if index % 2 == 0 else Threshold
        if not isinstance(node, wanted):
            raise StageError(
                f"layer {node.name!r} is a {type(node).__name__} at place {index}; the C back-end takes matrix "
                "products and activations in turn, starting with a matrix product, and at most one bias at the end"
            )
    last = nodes[-1]
    if not isinstance(last, MatMul):
        raise StageError(
            f"the last layer {last.name!r} is an activation; the C back-end returns 32-bit accumulators: "
            "end the network with a matrix product"
        )


def _check_accumulators(node: MatMul, outputs: Interval) -> None:
    # A threshold that is never met is the largest accumulator plus one, so that must fit as well.
    if outputs.low < INT32_MIN or outputs.high + 1 > INT32_MAX:
        raise StageError(
            f"accumulators of layer {node.name!r} reach [{outputs.low}, {outputs.high}]; allowed are "
            f"{INT32_MIN} to {INT32_MAX - 1}: use fewer inputs or fewer bits"
        )


def _check_sums(node: Affine, outputs: Interval) -> None:
    if outputs.low < INT32_MIN or outputs.high > INT32_MAX:
        raise StageError(
            f"sums of layer {node.name!r} reach [{outputs.low}, {outputs.high}]; allowed are {INT32_MIN} to "
            f"{INT32_MAX}: use smaller offsets"
        )


def _plan_matmul(node: MatMul, layout: WeightLayout, outputs: Interval, largest_code: int) -> PlannedMatMul:
    run = 0
    if layout.kind == "ternary":
        largest_sum_of_word = 2 * largest_code * layout.columns_per_word
        run = ((1 << TERNARY_SECOND_ROW) - 1) // largest_sum_of_word
    return PlannedMatMul(node, layout, layout.pack(node.weights), run, outputs)
