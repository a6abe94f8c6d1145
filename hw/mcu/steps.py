"""The steps of a network as C carries them out: what each reads, what it makes of it, and its constants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from math import prod

import numpy as np

from bitproof.export.integer import Conv, Interval, MatMul, Shape, Window
from bitproof.hw.mcu.activation import PlannedActivation
from bitproof.hw.mcu.byte_codes import ByteCodes
from bitproof.hw.mcu.forms import POSITIONS, QUAD, Form
from bitproof.hw.mcu.storage import NUMBER_BYTES, Stored
from bitproof.hw.mcu.weight_layout import DepthwiseLayout, WeightLayout, Words
from bitproof.pipeline import Codes

DILATIONS = ("dilation_height", "dilation_width")
MEMBERS = (
    *("height", "width", "channels", "rows", "columns", "kernel_height", "kernel_width"),
    *("stride_height", "stride_width", *DILATIONS, "top", "left", "groups", "outside", "size"),
)
"""Of ``bitproof_window``, in their order."""
NOWHERE = 0xFFFF_FFFF
"""Stands for what no stored code is moved to: the code 0."""


@dataclass(frozen=True, slots=True)
class CWindow:
    """A window over an image as ``bitproof_window`` describes it; a sequence is an image of one row."""

    image: Shape
    positions: Shape
    window: Window
    groups: int
    outside: int
    number_bytes: int

    @classmethod
    def over(cls, shape: Shape, window: Window, *, groups: int = 1, outside: int = 0, number_bytes: int = 1) -> CWindow:
        """Return *window* over a value of *shape*, whose padding is stored as *outside*."""
        return cls(shape, window.output_sizes(shape[1:]), window, groups, outside, number_bytes)

    @property
    def named(self) -> Mapping[str, int]:
        """The members of the structure, by their names."""
        return dict(zip(MEMBERS, self.fields, strict=True))

    @property
    def fields(self) -> tuple[int, ...]:
        """The members of the structure, in their order."""
        one = (1,) * (2 - len(self.window.kernel))
        none = (0,) * len(one)
        w = self.window
        return (
            *(*one, *self.image[1:], self.image[0]),
            *(*one, *self.positions),
            *(*one, *w.kernel),
            *(*one, *w.strides),
            *(*one, *w.dilations),
            *(*none, *w.begin),
            self.groups,
            self.outside,
            self.number_bytes,
        )


@dataclass(frozen=True, slots=True)
class Rescaling:
    """``factors[c] * number + offsets[c]`` in each channel."""

    factors: Codes
    offsets: Codes


@dataclass(frozen=True, slots=True)
class Finish:
    """What is stored of the sums at one position.

    Attributes:
        channels: how many sums there are.
        rescaling: what they pass first; None: nothing.
        activation: makes bytes of them; None: they are stored as numbers.
    """

    channels: int
    rescaling: Rescaling | None
    activation: PlannedActivation | None

    @property
    def stride(self) -> int:
        """Bytes that are stored for one position."""
        return self.channels * (NUMBER_BYTES if self.activation is None else 1)

    @property
    def constant_bytes(self) -> int:
        """Of the rescaling."""
        return 0 if self.rescaling is None else 2 * NUMBER_BYTES * self.channels


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """What all steps have.

    Attributes:
        name: of the main node.
        takes: the values that it reads.
        makes: the value that it writes.
    """

    name: str
    takes: tuple[Stored, ...]
    makes: Stored

    @property
    def sums(self) -> int:
        """Numbers that it keeps in the work memory."""
        return 0

    @property
    def shown(self) -> int:
        """Bytes that it keeps there."""
        return 0


def depthwise_layout(node: MatMul | Conv, codes: ByteCodes) -> DepthwiseLayout | None:
    """Return the layout of *node* if each output sees one channel, stored as *codes*, and each channel has one output.

    None: it is no such convolution, or its weights have no such layout; its groups are then a matrix each.
    """
    if not isinstance(node, Conv) or node.groups == 1 or not node.groups == node.channels == node.outputs:
        return None
    *height, width = node.window.kernel
    return DepthwiseLayout.of(node.weights.reshape(node.outputs, prod(height), width), codes.count - 1)


@dataclass(frozen=True)
class PlannedProduct(PlannedStep):
    """A product with weights: of a matrix, or of a convolution, whose groups are a matrix each.

    Attributes:
        node: of the integer model.
        columns: of a matrix: for each byte that it takes the number of the weight of an output that it meets; None of a
            convolution, which takes tap after tap, all channels of each.
        window: of a convolution; None: a matrix.
        pool: the max pool of the sums behind it.
        finish: what is stored.
        outputs: hull of its accumulators.
    """

    node: MatMul | Conv
    columns: Codes | None
    window: CWindow | None
    pool: CWindow | None
    finish: Finish
    outputs: Interval

    @property
    def groups(self) -> int:
        """How many matrices there are."""
        return self.node.groups if isinstance(self.node, Conv) and not self.is_depthwise else 1

    @property
    def is_depthwise(self) -> bool:
        """``bitproof_depthwise.h`` takes it."""
        return depthwise_layout(self.node, self.takes[0].bytes) is not None

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of the kernel of a convolution, that of a sequence has height 1; (1, 1) of a matrix."""
        if self.window is None:
            return 1, 1
        *height, width = self.window.window.kernel
        return prod(height), width

    @property
    def taps(self) -> int:
        """Of the kernel."""
        return prod(self.kernel)

    @cached_property
    def matrices(self) -> tuple[Codes, ...]:
        """The weights of each group as they meet the bytes, shape (rows, columns).

        Of a convolution a row of the kernel, tap after tap with all channels of each, is filled up to whole quads of
        columns, so that what a window shows is copied by whole words.
        """
        flat = self.node.weights.reshape(self.node.outputs, -1)
        if self.is_depthwise:
            return (flat,)
        if self.columns is not None:
            return (flat[:, self.columns],)
        filler = -self._packing.zero_point if self._packing.bits == 1 else 0  # one bit: the weight of the field 0
        members, height, width = self.node.weights.shape[1], *self.kernel
        taps = self.node.weights.reshape(self.node.outputs, members, height, width).transpose(0, 2, 3, 1)
        rows = taps.reshape(self.node.outputs, height, width * members)
        more = -(width * members) % QUAD
        filled = np.pad(rows, ((0, 0), (0, 0), (0, more)), constant_values=filler)
        return tuple(np.split(filled.reshape(self.node.outputs, -1), self.groups))

    @cached_property
    def layout(self) -> WeightLayout | DepthwiseLayout:
        """Of each of the matrices."""
        depthwise = depthwise_layout(self.node, self.takes[0].bytes)
        if depthwise is not None:
            return depthwise
        rows, columns = self.matrices[0].shape
        return replace(self._packing, rows=rows, columns=columns)

    @cached_property
    def _packing(self) -> WeightLayout:
        """The layout of all weights as one matrix; each group has one of its kind."""
        weights, largest = self.node.weights.reshape(self.node.outputs, -1), self.takes[0].bytes.count - 1
        slides = self.window is not None
        return WeightLayout.of(self.node.name, weights, self.node.weight_type, largest, slides=slides)

    @property
    def run(self) -> int:
        """How many words of a row are accumulated at once, see ``bitproof_kernels.h``."""
        assert isinstance(self.layout, WeightLayout), "not depthwise"
        return self.layout.run_of(self.takes[0].bytes.count - 1, self.matrices)

    @cached_property
    def words(self) -> Words:
        """The packed weights, one matrix behind the other."""
        return np.concatenate([self.layout.pack(matrix) for matrix in self.matrices])

    @property
    def inputs(self) -> int:
        """Bytes that a unit takes of a vector, or of one position."""
        return len(self.columns) if self.columns is not None else self.taps * self.node.weights.shape[1] * self._repeats

    @property
    def _repeats(self) -> int:
        """How often the channels of a weight lie side by side in an image."""
        return self.node.groups if isinstance(self.node, Conv) else 1

    @property
    def form(self) -> Form:
        """By what it is multiplied at once."""
        if self.window is None:
            return "matrix"
        if self.is_depthwise:
            return "depthwise"
        return "square" if self._has_squares else "pair"

    @property
    def _has_squares(self) -> bool:
        """``bitproof_squares.h`` takes it."""
        if self.window is None or self.pool is None or self.layout.bits != 8:
            return False
        window, pool = self.window.named, self.pool.named
        ones = (window[key] for key in ("channels", "stride_height", "stride_width", *DILATIONS))
        twos = (pool[key] for key in ("kernel_height", "kernel_width", "stride_height", "stride_width"))
        return (
            window["kernel_height"] == window["kernel_width"] == 3
            and all(size == 1 for size in ones)
            and all(size == 2 for size in twos)
            and all(pool[key] == 1 for key in DILATIONS)
            and pool["top"] == pool["left"] == 0
        )

    @property
    def positions(self) -> int:
        """How many vectors, or positions, a unit multiplies at once."""
        return POSITIONS[self.form]

    @property
    def call_inputs(self) -> int:
        """Bytes of all positions that are multiplied at once; windows that overlap share them."""
        if self.form == "square":
            return (self.kernel[0] + 1) * (self.kernel[1] + 1)
        return self.positions * self.inputs

    @property
    def kernel_name(self) -> str:
        """What the file of the kernel is called, behind its prefix."""
        match self.form:
            case "square":
                return "squares"
            case "depthwise":
                return f"depthwise_{self.layout.bits}"
            case "matrix" | "pair":
                assert isinstance(self.layout, WeightLayout), "not depthwise"
                return f"multiply_{'pair_' if self.form == 'pair' else ''}{self.layout.kind}"

    @property
    def quads(self) -> int:
        """Fours of bytes that the kernel of a convolution takes of one position: those of whole words of weights."""
        assert isinstance(self.layout, WeightLayout), "not depthwise"
        return -(-self.layout.columns // self.layout.columns_per_word) * self.layout.columns_per_word // QUAD

    @property
    def shared(self) -> int:
        """Words of a row of the kernel in two windows, if positions one above the other share rows; else 0.

        They do in a pool of 2 x 2; see ``bitproof_convolve.h``.
        """
        if self.window is None or self.pool is None or self.form != "pair" or self.layout.kind == "binary":
            return 0
        window, pool = self.window.named, self.pool.named
        ones = (window["groups"], window["stride_height"], window["dilation_height"], *(pool[key] for key in DILATIONS))
        if (pool["kernel_height"], pool["kernel_width"], pool["top"], pool["left"]) != (2, 2, 0, 0) or set(ones) != {1}:
            return 0
        return self.positions * 2 * -(-window["kernel_width"] * window["channels"] // QUAD)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample."""
        return self.node.weights.size * (1 if self.window is None else prod(self.window.positions))

    @property
    def row_offsets(self) -> Codes:
        """What the codes of the bytes 0 give in each row, shape (outputs,); see ``bitproof_decode.h``."""
        weights = self.node.weights.reshape(self.node.outputs, -1)
        offsets: Codes = self.takes[0].bytes.lowest * weights.sum(axis=1)
        return offsets

    @property
    def is_direct(self) -> bool:
        """Its accumulators are stored as they are made."""
        return self.window is None and self.finish.rescaling is None and self.finish.activation is None

    @property
    def sums(self) -> int:
        """Of one vector, or of the positions that are multiplied at once; of these a pool keeps the largest alone."""
        if self.is_direct:
            return 0
        if self.form == "depthwise":
            return self.node.outputs * (1 if self.pool is None else 2)
        return self.node.outputs * (self.positions if self.pool is None else 1)

    @property
    def shown(self) -> int:
        """What the windows show that are multiplied at once: bytes, or lanes of 16 bits of a group and sums."""
        match self.form:
            case "matrix":
                return 0
            case "depthwise":
                return self.inputs
            case "square":
                return NUMBER_BYTES * (self.positions + 2 * (self.kernel[0] + 1))
            case "pair":
                return NUMBER_BYTES * (self.positions + 2 * self.positions * self.quads + self.shared)


@dataclass(frozen=True)
class PlannedSumPool(PlannedStep):
    """Sums of windows."""

    window: CWindow
    finish: Finish

    @property
    def sums(self) -> int:
        """One for each channel."""
        return self.finish.channels


@dataclass(frozen=True)
class PlannedMaxPool(PlannedStep):
    """The largest bytes of windows."""

    window: CWindow


@dataclass(frozen=True)
class PlannedSum(PlannedStep):
    """The sum of one value or two, each multiplied in each channel.

    Attributes:
        factors: of each value, shape (channels,).
        offsets: added to their sum.
        finish: what is stored.
    """

    factors: tuple[Codes, ...]
    offsets: Codes
    finish: Finish

    @property
    def sums(self) -> int:
        """One for each channel."""
        return self.finish.channels


@dataclass(frozen=True)
class PlannedJoin(PlannedStep):
    """Channels of several values, one behind the other.

    Attributes:
        recodes: for each value what its bytes become, 256 of them; or what they stand for, if numbers are made of them;
            None: all stays as it is.
    """

    recodes: tuple[tuple[int, ...] | ByteCodes | None, ...]


@dataclass(frozen=True)
class PlannedMove(PlannedStep):
    """Codes at other places.

    Attributes:
        origins: for each stored code of what it makes, where it was; :data:`NOWHERE`: the code 0.
        outside: how that is stored.
    """

    origins: Codes
    outside: int


@dataclass(frozen=True)
class PlannedSelect(PlannedStep):
    """The indices of the largest."""

    count: int
