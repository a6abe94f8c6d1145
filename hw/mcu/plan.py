"""The plan of the C back-end for a network: a layout and a kernel for every layer, or an error that names the layer.

Everything that a kernel relies on is decided here, before any text is written: the order of the layers, the ranges of
the codes, that every accumulator fits 32 bits, and which requantization equals the thresholds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from bitproof.export.integer import (
    Affine,
    IntegerModel,
    IntegerType,
    Interval,
    MatMul,
    MultiplyShift,
    Ranges,
    Requantization,
    RoundingShift,
    Threshold,
    hull,
    solve_requantization,
)
from bitproof.export.program.perceptron import Layer, perceptron_of
from bitproof.export.program.schedule import schedule
from bitproof.hw.mcu.byte_codes import MOST_CODES, ByteCodes
from bitproof.hw.mcu.manifest import Method
from bitproof.hw.mcu.weight_layout import TERNARY_SECOND_ROW, WeightLayout, Words
from bitproof.pipeline import Codes, StageError

INT32_MAX = (1 << 31) - 1
INT32_MIN = -(1 << 31)
BYTES_OF_FORM: Mapping[Method, int] = {"multiply-shift": 8, "multiply-shift-64": 12, "rounding-shift": 4}
"""Constants of one channel in the forms whose size does not depend on the number of levels."""


@dataclass(frozen=True, slots=True)
class PlannedMatMul:
    """One matrix product.

    Attributes:
        words: its packed weights.
        codes: what the bytes that it takes stand for.
        ternary_run: words that may be accumulated before the rows of a ternary layout are told apart; else 0.
        outputs: hull of its accumulators.
    """

    node: MatMul
    layout: WeightLayout
    words: Words
    codes: ByteCodes
    ternary_run: int
    outputs: Interval

    @property
    def row_offsets(self) -> Codes:
        """What the codes of the bytes 0 give in each row, shape (outputs,); see ``bitproof_decode.h``."""
        offsets: Codes = self.codes.lowest * self.node.weights.sum(axis=1)
        return offsets


@dataclass(frozen=True, slots=True)
class PlannedActivation:
    """One requantization.

    Attributes:
        node: its thresholds, with bytes for codes.
        codes: what these bytes stand for.
        constants: None: only the thresholds themselves are exact.
    """

    node: Threshold
    codes: ByteCodes
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
    """Return how many thresholds a channel of *levels* has in memory: the next 2**n - 1.

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
class NetworkPlan:
    """The network, ready to be written as C.

    Attributes:
        model: what it equals.
        input: what the bytes of the input stand for; the first product may take them for other codes.
        matmuls: its matrix products, in execution order.
        activations: what follows each, except the last of a network that gives accumulators.
        bias: what is added to the output accumulators; None: nothing.
    """

    prefix: str
    model: IntegerModel
    input: ByteCodes
    matmuls: tuple[PlannedMatMul, ...]
    activations: tuple[PlannedActivation, ...]
    bias: PlannedBias | None

    @property
    def signed_input(self) -> bool:
        """The caller gives signed codes, of which bytes are made first; else the bytes themselves."""
        return takes_signed(self.input)

    @property
    def output_codes(self) -> ByteCodes | None:
        """What the bytes of the last activation stand for; None: the network gives accumulators."""
        return self.activations[-1].codes if len(self.activations) == len(self.matmuls) else None

    @property
    def outputs(self) -> Interval:
        """Hull of the outputs."""
        if self.output_codes is not None:
            return Interval(self.output_codes.codes[0], self.output_codes.codes[-1])
        return self.matmuls[-1].outputs if self.bias is None else self.bias.outputs

    @property
    def accumulators(self) -> int:
        """Most accumulators that are kept between a product and its activation; the outputs have a place already."""
        return most_accumulators(planned.node for planned in self.matmuls)

    @property
    def bytes_of_codes(self) -> int:
        """Most codes that are kept between two layers, or behind the last."""
        return most_codes(self.input, (planned.node for planned in self.matmuls), (p.node for p in self.activations))

    @property
    def scratch_bytes(self) -> int:
        """Accumulators and codes, rounded up to whole words."""
        return self.accumulators * 4 + -(-self.bytes_of_codes // 4) * 4


def takes_signed(codes: ByteCodes) -> bool:
    """Tell whether a caller gives the input as signed codes: these are not bytes as they are, but fit int8_t."""
    return not codes.as_they_are and codes.fit_int8


def most_accumulators(products: Iterable[MatMul]) -> int:
    """Return how many accumulators of *products*, in their order, are kept in scratch at once."""
    return max((node.outputs for node in list(products)[:-1]), default=0)


def most_codes(codes: ByteCodes, products: Iterable[MatMul], activations: Iterable[Threshold]) -> int:
    """Return how many bytes of codes are kept in scratch at once, those of a signed input among them."""
    copied = next(iter(products)).inputs if takes_signed(codes) else 0
    return max((copied, *(node.channels for node in activations)))


@dataclass(frozen=True, slots=True)
class DraftLayer:
    """What is known of one layer before its weights are packed and its requantization is solved.

    Attributes:
        layer: of the program.
        layout: of its weights.
        codes: what the bytes that it takes stand for.
        activation: its thresholds with bytes for codes; None: it has none.
        gives: what these bytes stand for.
    """

    layer: Layer
    layout: WeightLayout
    codes: ByteCodes
    activation: Threshold | None
    gives: ByteCodes | None


@dataclass(frozen=True, slots=True)
class Draft:
    """The network, checked: each layer has a form.

    Attributes:
        model: what it equals.
        input: what the bytes of its input stand for.
        layers: in the order of the data.
    """

    model: IntegerModel
    input: ByteCodes
    layers: tuple[DraftLayer, ...]

    @property
    def products(self) -> tuple[MatMul, ...]:
        """The matrix products."""
        return tuple(draft.layer.product for draft in self.layers)

    @property
    def activations(self) -> tuple[Threshold, ...]:
        """The thresholds, with bytes for codes."""
        return tuple(draft.activation for draft in self.layers if draft.activation is not None)


def draft_network(model: IntegerModel) -> Draft:
    """Check that every layer of *model* has a form, without packing or solving anything: in seconds for any size.

    Raises:
        StageError: a layer cannot be carried out with codes of a byte and 32-bit accumulators; the message names it.
    """
    perceptron = perceptron_of(schedule(model), "the C back-end", recodes=True)
    codes = _byte_codes(model.allowed_codes, "the network takes", "quantize the network's input to 8 bits or fewer")
    if codes.as_they_are and model.input.maximum < MOST_CODES:  # whatever its type holds is taken
        codes = ByteCodes.of(range(model.input.maximum + 1))
    source = codes
    if perceptron.recoding is not None:  # the bytes stay, and stand for other codes
        codes = codes.recoded(int(perceptron.recoding.factors[0]), int(perceptron.recoding.offsets[0]))
        _check_recoding(perceptron.recoding, codes, perceptron.layers[0].product)
    drafts = []
    for layer in perceptron.layers:
        layout = WeightLayout.of(layer.product)
        _check_accumulators(layer.product, hull(layer.accumulators))
        if layer.bias is not None:
            _check_sums(layer.bias, hull(layer.sums))
        if layer.thresholds is None:
            drafts.append(DraftLayer(layer, layout, codes, None, None))
            break
        node = layer.thresholds
        gives = _byte_codes(
            model.values[node.name].codes, f"layer {node.name!r} gives", "quantize its activation to 8 bits or fewer"
        )
        drafts.append(DraftLayer(layer, layout, codes, _in_bytes(node, gives), gives))
        codes = gives
    return Draft(model, source, tuple(drafts))


def plan_network(model: IntegerModel) -> NetworkPlan:
    """Decide layout and kernel of every layer of *model*.

    Raises:
        StageError: a layer cannot be carried out with codes of a byte and 32-bit accumulators; the message names it.
    """
    draft = draft_network(model)
    matmuls = tuple(_plan_matmul(layer) for layer in draft.layers)
    activations = tuple(
        _plan_activation(layer.activation, layer.gives, layer.layer.accumulators)
        for layer in draft.layers
        if layer.activation is not None and layer.gives is not None
    )
    last = draft.layers[-1].layer
    bias = None if last.bias is None else PlannedBias(last.bias, hull(last.sums))
    return NetworkPlan(prefix_of(model.name), model, draft.input, matmuls, activations, bias)


def prefix_of(name: str) -> str:
    """Return the C identifier that all public names of the network *name* start with.

    >>> prefix_of("Fashion-MNIST mlp")
    'fashion_mnist_mlp'
    >>> prefix_of("64x64")
    'net_64x64'
    """
    words = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return words if re.match(r"[a-z]", words) and not words.startswith("bitproof") else f"net_{words}"


def _byte_codes(codes: range, what: str, advice: str) -> ByteCodes:
    try:
        return ByteCodes.of(codes)
    except ValueError as error:
        raise StageError(f"{what} {error}, in which the C back-end keeps each code: {advice}") from error


def _in_bytes(node: Threshold, codes: ByteCodes) -> Threshold:
    """Return *node* with the byte of each of its codes in its place."""
    if codes.as_they_are:
        return node
    return replace(node, lowest=0, step=1, output=IntegerType.smallest_for(0, node.levels))


def _check_recoding(node: Affine, codes: ByteCodes, product: MatMul) -> None:
    offsets = codes.lowest * product.weights.sum(axis=1, dtype=object)
    largest = max(codes.step, *(abs(int(offset)) for offset in offsets))
    if largest > INT32_MAX:
        raise StageError(
            f"layer {node.name!r} makes codes {codes.codes[0]} to {codes.codes[-1]} of the input, for which "
            f"{product.name!r} needs the constant {largest}; allowed are {INT32_MAX} at most: use smaller factors"
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


def _plan_matmul(draft: DraftLayer) -> PlannedMatMul:
    node, layout, codes = draft.layer.product, draft.layout, draft.codes
    run = 0
    if layout.kind == "ternary":
        largest_sum_of_word = 2 * (codes.count - 1) * layout.columns_per_word
        run = ((1 << TERNARY_SECOND_ROW) - 1) // max(1, largest_sum_of_word)
    outputs = hull(draft.layer.accumulators)
    return PlannedMatMul(node, layout, layout.pack(node.weights), codes, run, outputs)


def _plan_activation(node: Threshold, codes: ByteCodes, reachable: Ranges) -> PlannedActivation:
    return PlannedActivation(node, codes, solve_requantization(node, reachable))
