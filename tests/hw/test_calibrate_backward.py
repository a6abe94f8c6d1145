"""What an operation sends back is its transposed linear map: the whole matrix, in integers, equal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import numpy as np
import pytest
import torch
from integer_graphs import TERNARY, every_operation, graph_codes, residual_network
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from bitproof.export.integer import (
    INPUT,
    Add,
    Affine,
    Concat,
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Reshape,
    Shape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
    Window,
    run,
)
from bitproof.hw.calibrate import Parameters, backpropagation
from bitproof.hw.calibrate.backpropagation import backpropagate
from bitproof.hw.calibrate.backward import backward, by_weights
from bitproof.hw.calibrate.parameters import RELATIVE_STEP
from bitproof.pipeline import Codes

Reals = NDArray[np.float64]
GENERATOR = np.random.default_rng(0)


def random_integers(*shape: int, most: int = 9) -> Codes:
    return GENERATOR.integers(-most, most, shape, endpoint=True)


def conv(shape: Shape, window: Window, groups: int = 1) -> Node:
    return Conv("n", random_integers(*shape, *window.kernel, most=1), TERNARY, window, groups)


SQUARE = Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
UNEVEN = Window((2, 3), (2, 1), (1, 0), (0, 2), (1, 2))  # nothing is the same on both axes, or before and after
SPARE = Window((2, 2), (3, 3), (0, 0), (0, 0), (1, 1))  # the last rows and columns are met by no window
LINE = Window((3,), (2,), (2,), (1,), (2,))

LINEAR: dict[str, tuple[Node, tuple[Shape, ...]]] = {
    "matmul": (MatMul("n", random_integers(3, 5, most=1), TERNARY), ((5,),)),
    "conv": (conv((3, 2), SQUARE), ((2, 4, 4),)),
    "conv, uneven": (conv((3, 2), UNEVEN), ((2, 5, 6),)),
    "conv, grouped": (conv((4, 3), UNEVEN, 2), ((6, 5, 6),)),
    "conv, depthwise": (conv((3, 1), SQUARE, 3), ((3, 4, 5),)),
    "conv, depthwise, two outputs each": (conv((6, 1), UNEVEN, 3), ((3, 4, 5),)),
    "conv, one output a group": (conv((2, 3), UNEVEN, 2), ((6, 4, 5),)),
    "conv, spare": (conv((3, 2), SPARE), ((2, 4, 6),)),
    "conv, line": (conv((3, 2), LINE), ((2, 7),)),
    "affine": (Affine("n", np.array([3, -2]), np.array([7, 1])), ((2, 3, 2),)),
    "affine of a vector": (Affine("n", np.array([3, -2]), np.array([7, 1])), ((2,),)),
    "bias": (Affine.bias("n", np.array([3, -2])), ((2, 3),)),
    "add": (Add("n"), ((2, 3, 2), (2, 3, 2))),
    "concat": (Concat("n"), ((2, 2, 2), (1, 2, 2), (3, 2, 2))),
    "concat of vectors": (Concat("n"), ((2,), (3,))),
    "sum-pool": (SumPool("n", UNEVEN), ((2, 5, 6),)),
    "sum-pool, spare": (SumPool("n", SPARE), ((2, 4, 6),)),
    "sum-pool, line": (SumPool("n", LINE), ((2, 7),)),
    "reshape": (Reshape("n", (2, 3, 4), (6, 4)), ((2, 3, 4),)),
    "transpose": (Transpose("n", (2, 3, 4), (2, 0, 1)), ((2, 3, 4),)),
    "pad": (Pad("n", (1, 0), (0, 2)), ((2, 3, 4),)),
    "pad of a line": (Pad("n", (2,), (1,)), ((2, 3),)),
}


def columns(node: Node, shapes: Sequence[Shape], which: int) -> Codes:
    """The matrix of *node* by its input *which*: one row an input element, each the output of that element being 1."""
    size = prod(shapes[which])
    inputs = [np.zeros((size, *shape), dtype=np.int64) for shape in shapes]
    constant = node.apply(*inputs)
    inputs[which] = np.eye(size, dtype=np.int64).reshape(size, *shapes[which])
    return (node.apply(*inputs) - constant).reshape(size, -1)


@pytest.mark.parametrize("name", LINEAR)
def test_a_gradient_goes_back_by_the_transposed_matrix(name: str) -> None:
    node, shapes = LINEAR[name]
    inputs = [random_integers(3, *shape) for shape in shapes]
    gradient = random_integers(*node.apply(*inputs).shape)
    sent = backward(node, inputs, gradient.astype(np.float64))
    assert len(sent) == len(shapes)
    for which, (given, part) in enumerate(zip(inputs, sent, strict=True)):
        expected = gradient.reshape(3, -1) @ columns(node, shapes, which).T
        assert (part == expected.reshape(given.shape)).all()
        assert part.any()


@pytest.mark.parametrize("name", LINEAR)
def test_gradient_and_image_are_adjoint(name: str) -> None:
    """``<y, A x> = <A^T y, x>``, in integers."""
    node, shapes = LINEAR[name]
    inputs = [random_integers(3, *shape) for shape in shapes]
    constant = node.apply(*(np.zeros_like(given) for given in inputs))
    image = node.apply(*inputs) - constant
    gradient = random_integers(*image.shape)
    sent = backward(node, inputs, gradient.astype(np.float64))
    right = sum(int((part * given).sum()) for part, given in zip(sent, inputs, strict=True))
    assert int((gradient * image).sum()) == right != 0


@pytest.mark.parametrize("name", [name for name, (node, _) in LINEAR.items() if isinstance(node, Conv | MatMul)])
def test_a_weight_is_given_what_the_outputs_that_it_feeds_are_given(name: str) -> None:
    node, (shape,) = LINEAR[name]
    assert isinstance(node, Conv | MatMul)
    source = random_integers(4, *shape)
    gradient = random_integers(*node.apply(source).shape)
    found = by_weights(node, source, gradient.astype(np.float64))
    assert found.shape == node.weights.shape
    for index in np.ndindex(*node.weights.shape):
        alone = np.zeros_like(node.weights)
        alone[index] = 1
        unit = (
            MatMul("n", alone, TERNARY)
            if isinstance(node, MatMul)
            else Conv("n", alone, TERNARY, node.window, node.groups)
        )
        assert found[index] == (gradient * unit.apply(source)).sum()


@pytest.mark.parametrize(
    ("window", "shape"),
    [
        (Window((2, 2), (2, 2), (0, 0), (0, 0), (1, 1)), (2, 4, 4)),
        (Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1)), (2, 4, 5)),
        (Window((2, 3), (2, 1), (1, 0), (0, 2), (1, 2)), (2, 5, 6)),
        (Window((3,), (2,), (2,), (1,), (2,)), (2, 9)),
        (SPARE, (2, 4, 6)),
    ],
)
def test_a_maximum_gives_all_to_the_first_largest(window: Window, shape: Shape) -> None:
    """Codes of three values, negative ones too, so that most windows have a tie and padding must not win."""
    codes = GENERATOR.integers(-3, -1, (5, *shape), endpoint=True)
    node = MaxPool("n", window)
    gradient = random_integers(*node.apply(codes).shape)
    expected = np.zeros_like(codes)
    for at in np.ndindex(*gradient.shape):
        met = []
        for tap in product(*(range(k) for k in window.kernel)):
            steps = zip(at[2:], window.strides, tap, window.dilations, window.begin, strict=True)
            place = tuple(i * stride + t * dilation - begin for i, stride, t, dilation, begin in steps)
            if all(0 <= p < size for p, size in zip(place, shape[1:], strict=True)):
                met.append((*at[:2], *place))
        chosen = max(met, key=lambda place: int(codes[place]))  # of equal ones max() takes the first
        expected[chosen] += gradient[at]
    (sent,) = backward(node, [codes], gradient.astype(np.float64))
    assert (sent == expected).all()


def test_what_has_no_gradient_says_so() -> None:
    top, codes = TopK("top", 3, 1), np.array([[1, 2, 3]])
    with pytest.raises(TypeError, match=r"'top' \(top-k\) sends no gradient back"):
        backward(top, [codes], np.ones((1, 1)))


class Staircases(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
    """*model* in torch, float64: staircases whose derivative is that of the line through them, by every parameter."""

    def __init__(self, parameters: Parameters) -> None:
        super().__init__()
        self.model, self.weights = parameters.model, {}
        self.stretch, self.shift = {}, {}
        for node in self.model.nodes:
            if isinstance(node, Conv | MatMul):
                self.weights[node.name] = torch.tensor(node.weights, dtype=torch.float64, requires_grad=True)
            elif isinstance(node, Threshold):
                pair = (torch.zeros(node.channels, dtype=torch.float64, requires_grad=True) for _ in range(2))
                self.stretch[node.name], self.shift[node.name] = pair
        self.spacing = {node.name: torch.tensor(parameters.spacing(node)) for node in self.model.nodes_of(Threshold)}

    def forward(self, codes: Codes) -> Tensor:
        values = {INPUT: torch.tensor(codes, dtype=torch.float64).reshape(len(codes), *self.model.shape)}
        for node, sources in self.model.wired():
            values[node.name] = self._node(node, *(values[source] for source in sources))
        return values[self.model.nodes[-1].name].flatten(1)

    def _node(self, node: Node, *taken: Tensor) -> Tensor:
        source = taken[0]
        match node:
            case MatMul():
                return source @ self.weights[node.name].T
            case Conv(window=window):
                padded = functional.pad(source, _around(window.begin, window.end))
                weights = self.weights[node.name]
                strides, dilations = window.strides, window.dilations
                return functional.conv2d(padded, weights, None, strides, 0, dilations, node.groups)
            case MaxPool(window=window):
                padded = functional.pad(source, _around(window.begin, window.end), value=-torch.inf)
                return functional.max_pool2d(padded, window.kernel, window.strides, 0, window.dilations)
            case SumPool(window=window):
                padded = functional.pad(source, _around(window.begin, window.end))
                return functional.avg_pool2d(padded, window.kernel, window.strides, divisor_override=1)
            case Threshold():
                return self._threshold(node, source)
            case Affine():
                column = (-1, *(1,) * (source.ndim - 2))
                return source * torch.tensor(node.factors).reshape(column) + torch.tensor(node.offsets).reshape(column)
            case Add():
                return source + taken[1]
            case Concat():
                return torch.cat(taken, 1)
            case Reshape():
                return source.reshape(-1, *node.shape)
            case Transpose():
                return source.permute(0, *(axis + 1 for axis in node.axes))
            case Pad():
                return functional.pad(source, _around(node.begin, node.end))
        raise AssertionError(node.op)

    def _threshold(self, node: Threshold, source: Tensor) -> Tensor:
        column = (-1, *(1,) * (source.ndim - 2))
        thresholds = torch.tensor(node.thresholds, dtype=torch.float64)
        rows = [thresholds[:, i].reshape(column) for i in range(node.levels)]
        code = node.lowest + node.step * sum((source >= row).double() for row in rows)
        spacing, stretch, shift = (part[node.name].reshape(column) for part in (self.spacing, self.stretch, self.shift))
        centre = thresholds.mean(1).reshape(column)
        wider = 1 + RELATIVE_STEP * stretch if node.levels > 1 else 1.0
        line = node.step * (source - centre - shift * spacing) / (spacing * wider)
        inside = (source >= rows[0] - spacing / 2) & (source < rows[-1] + spacing / 2)
        return code.detach() + torch.where(inside, line - line.detach(), 0.0)


def _around(begin: Shape, end: Shape) -> list[int]:
    return [size for pair in reversed(list(zip(begin, end, strict=True))) for size in pair]


@pytest.mark.parametrize("model", [residual_network(), every_operation()], ids=["residual", "all"])
@pytest.mark.parametrize("at_once", [1 << 24, 5000])
def test_the_gradients_of_a_graph_are_those_of_torch(
    model: IntegerModel, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether all samples go backward together or in groups.

    Both sum at most 40 * 36 * 54 float64 products along at most 8 layers; the numbers stay below 10^4, so rounding
    stays below 10^4 * 80,000 * 2^-53 * 8 = 7e-7, and a term of a sum is above that.
    """
    monkeypatch.setattr(backpropagation, "ELEMENTS_AT_ONCE", at_once)
    parameters, inputs = Parameters(model, "thresholds"), graph_codes(model, 40)
    error = random_integers(40, 4) / 8
    network = Staircases(parameters)
    outputs = network(inputs)
    assert (outputs.detach().numpy() == run(model, inputs)).all()
    (float(model.output_scale) * outputs * torch.tensor(error)).sum().backward()
    gradient, weights = backpropagate(parameters, model, inputs, run(model, inputs), error)
    for node, a, b in parameters.slices(gradient):
        assert np.abs(b - network.shift[node.name].grad.numpy()).max() <= 1e-6
        stretch = network.stretch[node.name].grad
        assert np.abs(a - (0.0 if stretch is None else stretch.numpy())).max() <= 1e-6
        assert b.any()
    assert set(weights) == set(network.weights)
    for name, found in weights.items():
        assert np.abs(found - network.weights[name].grad.numpy()).max() <= 1e-6
        assert np.abs(found).max() > 1e-3


def test_a_branch_that_reaches_no_output_gets_no_gradient() -> None:
    small = IntegerType(2, signed=False)
    dead, last = (MatMul(name, np.ones((2, 3), dtype=np.int64), TERNARY) for name in ("dead", "last"))
    wiring = ((INPUT,), (INPUT,))
    model = IntegerModel(
        "n", small, residual_network().input_scale, (3,), (dead, last), residual_network().output_scale, wiring
    )
    inputs = np.array([[1, 2, 3]])
    _, weights = backpropagate(Parameters(model), model, inputs, run(model, inputs), np.ones((1, 2)))
    assert not weights["dead"].any()
    assert weights["last"].all()
