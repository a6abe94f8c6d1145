"""What the lowering cannot bring into integers exactly is refused, all of it at once, with what would work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from qonnx_files import QonnxFile
from small_graphs import (
    THRESHOLDS,
    Case,
    Sizes,
    agree,
    convolution,
    image,
    multi_threshold,
    product,
    subject_of,
    vector,
    whole,
)

from bitproof.export.integer import MaxPool, Rounding
from bitproof.export.lowering.graph import UnsupportedError
from bitproof.export.lowering.operations import OPERATIONS
from bitproof.export.lowering.windows import window_of
from bitproof.pipeline import Codes, InputError


def test_scales_without_a_small_common_measure_are_refused(tmp_path: Path) -> None:
    file, source = vector()
    one, two = (file.quant(product(file, source, i), scale, 4, signed=1) for i, scale in ((0, 0.1), (1, 2.0**-9 / 3)))
    joined = file.add("Concat", [one, two], axis=1)
    graph = Case(file, (6,), product(file, joined, 2, 8, 3), (3,))
    with pytest.raises(InputError) as caught:
        subject_of(tmp_path, graph)
    assert str(caught.value) == (
        f"{tmp_path / 'net' / 'm.onnx'} holds 1 node that cannot be lowered to integers exactly:\n"
        f"  {graph.output} (Gemm): adds terms of scales such as 0.000325521 and 0.05, whose ratio is no small "
        "fraction; give its inputs one scale, or scales that are powers of two"
    )


def test_a_wide_quantizer_that_saturates_is_refused(tmp_path: Path) -> None:
    file, source = vector()
    middle = file.quant(product(file, source, 1), 0.125, 9, signed=1)
    agree(tmp_path, Case(file, (6,), middle, (4,)))
    file, source = vector(8)
    graph = Case(file, (6,), file.quant(product(file, source, 1), 0.125, 9, signed=1), (4,))
    with pytest.raises(InputError, match="9 bits on an activation; supported: 1 to 8, or more where they change no"):
        subject_of(tmp_path, graph)


def test_rows_of_thresholds_along_another_axis_than_the_channels_are_refused(tmp_path: Path) -> None:
    file, source = image()
    graph = Case(file, (3, 5), multi_threshold(THRESHOLDS)(file, convolution(file, source, 1, (4, 3, 2))), (4, 4))
    with pytest.raises(
        InputError, match=r"4 rows of thresholds along axis 2 of \(N, 4, 4\); supported: one row, or one"
    ):
        subject_of(tmp_path, graph)


def test_all_nodes_without_an_exact_form_are_listed_at_once(tmp_path: Path) -> None:
    file, source = vector()
    middle = product(file, source, 1)
    nine = file.quant(middle, 0.3, 9, signed=1)
    sine = file.add("Sin", [file.add("Identity", [middle])])
    scaled = file.add("Gemm", [source, file.weights(whole(2, 4, 6))], transB=1, alpha=0.5)
    rounded = file.quant(middle, 0.5, 4, signed=1, mode="NEAREST")
    squared = file.add("Mul", [middle, middle])
    halves = file.quant(middle, 0.5, 4, signed=1, zero=0.5)
    bits = file.quant(middle, 0.5, 40, signed=1)
    open_weights = file.add("MatMul", [source, file.constant(np.full((6, 4), np.pi / np.arange(1, 25).reshape(6, 4)))])
    behind = file.add("Relu", [sine])
    # Nothing of the sum can be lowered, but each cause is listed once and what is behind it is not.
    total = behind
    for tensor in (nine, scaled, rounded, squared, halves, bits, open_weights):
        total = file.add("Add", [total, tensor])
    with pytest.raises(InputError) as caught:
        subject_of(tmp_path, Case(file, (6,), total, (4,)))
    assert caught.value.exit_code == 2
    rounding = f"rounding mode 'NEAREST' is not one of QONNX: {', '.join(Rounding.__members__)}, HALF_EVEN"
    wide = "9 bits on an activation; supported: 1 to 8, or more where they change no number that can occur"
    unquantized = "put a Quant node between them and the product (or give multiples of one number, below 32768 of it)"
    assert str(caught.value).split("\n") == [
        f"{tmp_path / 'net' / 'm.onnx'} holds 8 nodes that cannot be lowered to integers exactly:",
        f"  {nine} (Quant): {wide}",
        f"  {sine} (Sin): not supported",
        f"  {scaled} (Gemm): alpha = 0.5; supported: 1.0",
        f"  {rounded} (Quant): {rounding}",
        f"  {squared} (Mul): is a product of two computed values; supported: of one and a constant",
        f"  {halves} (Quant): zero point is not a whole number; 0 would have no code",
        f"  {bits} (Quant): bit width 40; supported: 1 to 32",
        f"  {open_weights} (MatMul): its weights are not quantized: {unquantized}",
        f"supported operations: {', '.join(OPERATIONS)}",
    ]


def refused(folder: Path, make: Callable[[QonnxFile, str], str], *, sizes: Sizes = (3, 4, 4)) -> str:
    """Return what is said of the node that *make* appends to a convolution, without path and name."""
    file, source = image()
    output = make(file, convolution(file, source, 1, (4, *sizes[:1], *(2,) * (len(sizes) - 1))))
    with pytest.raises(InputError) as caught:
        subject_of(folder, Case(file, sizes, output, (-1,)))
    return str(caught.value).split("\n", 1)[1]


REFUSALS: dict[str, tuple[Callable[[QonnxFile, str], str], str]] = {
    "mean that leaves padding out": (
        lambda f, x: f.add("AveragePool", [x], kernel_shape=[2, 2], pads=[1, 1, 0, 0]),
        "pads = [1, 1, 0, 0] that the mean does not count; supported: no padding, or count_include_pad = 1",
    ),
    "product of an image by weights of another size": (
        lambda f, x: f.add("MatMul", [x, f.weights(whole(2, 5, 2))]),
        "5 weight columns for 3 input channels",
    ),
    "product of four axes": (
        lambda f, x: f.add("MatMul", [f.add("Unsqueeze", [x, f.integers(4)]), f.weights(whole(2, 1, 2))]),
        "multiplies values of shape (4, 3, 3, 1); supported: up to three axes",
    ),
    "softmax over an image": (
        lambda f, x: f.add("Softmax", [x], axis=1),
        "axis = 1 of samples of shape (4, 3, 3); supported: the classes",
    ),
    "pad with ones": (
        lambda f, x: f.add("Pad", [x, f.integers(0, 0, 1, 0, 0, 0, 0, 0), f.constant(1.0)]),
        "pads with 1.0; supported: 0",
    ),
    "pad of the channels": (
        lambda f, x: f.add("Pad", [x, f.integers(0, 1, 0, 0, 0, 0, 0, 0)]),
        "pads = [0, 1, 0, 0, 0, 0, 0, 0]; supported: 0 or more around the spatial axes alone",
    ),
    "concatenation along a spatial axis": (
        lambda f, x: f.add("Concat", [x, x], axis=2),
        "axis = 2; supported: the channels",
    ),
    "mean over a part of the axes": (
        lambda f, x: f.add("ReduceMean", [x, f.integers(2)]),
        "axes = [2]; supported: all spatial axes, [2, 3]",
    ),
    "transpose of the batch": (
        lambda f, x: f.add("Transpose", [x], perm=[1, 0, 2, 3]),
        "perm = [1, 0, 2, 3] moves the batch axis; it must stay first",
    ),
    "reshape of the batch": (
        lambda f, x: f.add("Reshape", [x, f.integers(2, -1)]),
        "gives (N, 4, 3, 3) the shape [2, -1]; the batch must stay",
    ),
    "zero points that differ": (
        lambda f, x: f.quant(x, 0.5, 4, signed=0, zero=np.array([1.0, 2, 3, 4]).reshape(1, 4, 1, 1)),
        "channels with different zero points; supported: one for all",
    ),
    "quantizer along a spatial axis": (
        lambda f, x: f.quant(x, np.array([0.5, 1.0, 2.0]), 4, signed=1),
        "scales of shape (3,) do not follow the channels of its input",
    ),
    "thresholds of no effect": (
        multi_threshold(THRESHOLDS, out_scale=0.0, out_bias=0.5),
        "out_scale = 0, which makes one constant of all numbers",
    ),
    "division by 0": (lambda f, x: f.add("Div", [x, f.constant(0.0)]), "divides by 0"),
    "division by what is computed": (
        lambda f, x: f.add("Div", [f.constant(1.0), x]),
        "divides by what is computed, which is not affine",
    ),
}


@pytest.mark.parametrize("name", list(REFUSALS))
def test_a_refusal_says_what_would_work(tmp_path: Path, name: str) -> None:
    make, words = REFUSALS[name]
    said = refused(tmp_path, make)
    assert said.split("): ", 1)[1] == words


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(st.data())
def test_a_window_is_where_onnxruntime_puts_it_or_is_refused(data: st.DataObject) -> None:
    kernel, stride, dilation = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4)), data.draw(st.integers(1, 3))
    size, auto = data.draw(st.integers(1, 10)), data.draw(st.sampled_from(["", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    attributes: dict[str, object] = {"kernel_shape": [kernel], "strides": [stride], "dilations": [dilation]}
    if not auto:
        pads = [data.draw(st.integers(0, kernel - 1)) for _ in range(2)]
        attributes = attributes | {"pads": pads, "ceil_mode": data.draw(st.integers(0, 1))}
    node = helper.make_node("MaxPool", ["x"], ["y"], **attributes, **({"auto_pad": auto} if auto else {}))
    differ = auto.startswith("SAME") and (dilation > 1 or ((size - 1) // stride) * stride + kernel < size)
    if differ:
        with pytest.raises(UnsupportedError, match="where runtimes differ"):
            window_of(node, (kernel,), (size,))
    else:
        window = window_of(node, (kernel,), (size,))
        codes = np.random.default_rng(size).integers(-90, -1, size=(1, 1, size))
        if min(window.output_sizes((size,))) >= 1 and window.meets_data((size,)):
            pooled = MaxPool("pool", window).apply(codes)
            np.testing.assert_array_equal(pooled, by_onnxruntime(node, codes), strict=True)


def by_onnxruntime(node: onnx.NodeProto, codes: Codes) -> Codes:
    taken = helper.make_tensor_value_info("x", TensorProto.FLOAT, codes.shape)
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", [taken], [made])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (outputs,) = session.run(None, {"x": codes.astype(np.float32)})
    integers: Codes = outputs.astype(np.int64)
    return integers
