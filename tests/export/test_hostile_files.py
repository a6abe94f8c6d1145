"""Files that are made to break the reader are refused by name, at once, and never end in a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign_files import CHANNELS_LAST, GENERAL, ForeignFile, weights

from bitproof.check import require_affordable
from bitproof.export.importer import find_input_quantizer, normalize
from bitproof.export.integer import IntegerModel, IntegerType, MatMul, Node, load, save
from bitproof.export.integer.ops import Reshape, Window
from bitproof.export.lowering import lower_graph
from bitproof.export.lowering.effort import (
    CHAIN,
    CHANNEL,
    LEVEL,
    MAX_CONSTANT_BITS,
    MAX_EFFORT,
    MAX_OPERATIONS,
    MAX_ROOTS,
    NODE,
    QUANTIZED_CHANNEL,
    WEIGHTS,
    Effort,
)
from bitproof.export.proofs import prove_lowering
from bitproof.export.qonnx_executor import execute
from bitproof.pipeline import InputError, StageError

Edit = Callable[[dict[str, Any]], object]


def product(file: ForeignFile, source: str, inputs: int = 3, outputs: int = 2) -> str:
    linear = file.quant(file.constant(weights((outputs, inputs), 1)), 0.5, 3)
    return file.add("Gemm", source, linear, transB=1)


def refusal(model: onnx.ModelProto) -> str:
    with pytest.raises(InputError) as caught:
        lower_graph(normalize(model), Path("net.onnx"), "net")
    return str(caught.value)


@pytest.mark.parametrize("domain", ["com.example", CHANNELS_LAST])
def test_an_operation_of_another_domain_is_not_the_standard_one_of_its_name(domain: str) -> None:
    file = ForeignFile()
    product(file, file.quant("input", 0.25, 4))
    file.nodes[-1].domain = domain
    model = file.model("t2", ["N", 3], None)
    assert f"Gemm_t2 (Gemm): is of the domain {domain!r}, whose operations are not supported" in refusal(model)


def test_an_axis_that_is_not_there_is_refused() -> None:
    file = ForeignFile()
    source = file.quant("input", 0.25, 4)
    model = file.model(file.add("Concat", source, source, axis=9), ["N", 3], None)
    assert "axis = 9 of 2 axes; allowed: -2 to 1" in refusal(model)


def test_parameters_of_a_batch_norm_that_are_no_vectors_are_refused() -> None:
    file = ForeignFile()
    tensor = product(file, file.quant("input", 0.25, 4))
    parameters = [file.constant(np.ones((1, 2))) for _ in range(4)]
    tensor = file.quant(file.add("BatchNormalization", tensor, *parameters), 0.5, 4)
    assert "2 channels need (2,)" in refusal(file.model(tensor, ["N", 3], None))


def test_more_axes_than_arrays_have_are_refused() -> None:
    file = ForeignFile()
    shape = file.constant([-1, 3] + [1] * 70, np.int64)
    model = file.model(file.add("Reshape", file.quant("input", 0.25, 4), shape), ["N", 3], None)
    assert "its samples have 71 axes; at most 16 are supported" in refusal(model)
    file = ForeignFile()
    tall: list[int | str] = ["N", *(1,) * 70]
    with pytest.raises(InputError, match="'input' has 71 axes; at most 17 are supported"):
        normalize(file.model(file.quant("input", 0.25, 4), tall, None))


@pytest.mark.parametrize("bits", [(1e9, 4.0), (8.0, 1e9), (8.0, -1e9)])
def test_a_trunc_of_any_number_of_bits_takes_no_time(bits: tuple[float, float]) -> None:
    file = ForeignFile()
    tensor = product(file, file.quant("input", 0.25, 4))
    inputs = [file.constant(value) for value in (0.5, 0.0, *bits)]
    model = file.model(file.add("Trunc", tensor, *inputs, domain=GENERAL, rounding_mode="FLOOR"), ["N", 3], None)
    assert "bit width" in refusal(model)
    assert "supported: 1 to 32" in refusal(model)


@pytest.mark.parametrize("name", ["two\nlines", "\x1b[2Jcleared", "right\u202eleft", "x" * 10_001])
def test_a_name_that_disfigures_a_message_is_refused(name: str) -> None:
    file = ForeignFile()
    model = file.model(product(file, file.quant("input", 0.25, 4)), ["N", 3], None)
    model.graph.node[2].name = name
    with pytest.raises(InputError, match="rename it") as caught:
        normalize(model)
    assert str(caught.value).isprintable()


def test_input_codes_that_no_integer_holds_are_refused() -> None:
    file = ForeignFile()
    inputs = [file.constant(value) for value in (0.5, 1e30, 4.0)]
    quantized = file.add("Quant", "input", *inputs, domain=GENERAL, signed=1, narrow=0, rounding_mode="ROUND")
    with pytest.raises(InputError, match="a zero point from -2147483648 to 2147483648"):
        find_input_quantizer(normalize(file.model(product(file, quantized), ["N", 3], None)))
    file = ForeignFile()
    table = file.constant([[0.0, 1.0]])
    counted = file.add("MultiThreshold", "input", table, domain=GENERAL, out_dtype="INT8", out_bias=1e30)
    with pytest.raises(InputError, match="at most 2147483648"):
        find_input_quantizer(normalize(file.model(product(file, counted), ["N", 3], None)))


def test_a_kernel_of_any_size_takes_no_time() -> None:
    with pytest.raises(ValueError, match="at most 1048576 taps"):
        Window((1 << 40, 1 << 40), (1, 1), (0, 0), (0, 0), (1, 1))


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("dilation", [1, 2, 3, 7])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_windows_that_meet_data_are_those_with_a_tap_in_it(size: int, dilation: int, stride: int) -> None:
    for begin in range(6):
        for end in range(6):
            window = Window((2,), (stride,), (begin,), (end,), (dilation,))
            (count,) = window.output_sizes((size,))
            taps = [[at * stride - begin + tap * dilation for tap in range(2)] for at in range(count)]
            assert window.meets_data((size,)) == all(any(0 <= tap < size for tap in of_one) for of_one in taps)


def test_a_file_that_qonnx_cannot_run_is_no_bug_of_ours() -> None:
    file = ForeignFile()
    model = file.model(file.add("Relu", "input", domain="com.example"), ["N", 3], ["N", 3])
    with pytest.raises(StageError, match="qonnx cannot run the file"):
        execute(model, {"input": np.zeros((1, 3), dtype=np.float32)}, ["t0"])


def saved(folder: Path) -> None:
    product = MatMul("fc0", np.ones((2, 3), dtype=np.int64), IntegerType(2, signed=True))
    nodes = (product, Reshape("flat", (2,), (2, 1)))
    save(IntegerModel("net", IntegerType(4, signed=False), Fraction(1, 3), (3,), nodes, Fraction(1)), folder)


def put(*path: str | int, value: object) -> Edit:
    def edit(content: dict[str, Any]) -> None:
        at: Any = content
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return edit


EDITS: dict[str, tuple[Edit, str]] = {
    "an infinite size": (put("shape", value=[float("inf")]), "infinity"),
    "an infinite scale": (put("output_scale", value=float("inf")), "is not a fraction"),
    "an exponent": (put("output_scale", value="1e9999999999"), "'1e9999999999' is not a fraction such as 1/3"),
    "a type of any width": (put("input", value={"bits": 10**12, "signed": False}), "at most 64 bits"),
    "a huge input": (put("shape", value=[1 << 40]), "1099511627776 integers per sample; at most 67108864"),
    "too many shapes": (put("nodes", 1, "shape", value=[1 << 62, 1 << 62]), "cannot give"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_model_is_refused(tmp_path: Path, name: str) -> None:
    saved(tmp_path)
    edit, message = EDITS[name]
    path = tmp_path / "model.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=message):
        load(tmp_path)


def test_the_model_that_was_not_edited_is_read(tmp_path: Path) -> None:
    saved(tmp_path)
    assert load(tmp_path).input_scale == Fraction(1, 3)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04aaaa",
        b"\x93NUMPY\x01\x00\x10\x00{'descr': (((((((\n",
        b"\x93NUMPY\x01\x00\x49\x00{'descr': '<i8', 'fortran_order': False, 'shape': (1125899906842624, 6)}\n",
    ],
)
def test_a_tensor_that_is_no_tensor_is_refused(tmp_path: Path, content: bytes) -> None:
    saved(tmp_path)
    (tmp_path / "fc0.weights.npy").write_bytes(content)
    with pytest.raises(InputError, match="does not hold an integer model"):
        load(tmp_path)


def affine_chain(nodes: int, op: str, factor: float = 1.5) -> onnx.ModelProto:
    file = ForeignFile()
    tensor = file.quant("input", 0.25, 4)
    for seed in range(nodes):
        constant = file.constant(factor)
        tensor = file.batch_norm(tensor, 3, seed) if op == "BatchNormalization" else file.add(op, tensor, constant)
    return file.model(file.quant(tensor, 0.5, 4), ["N", 3], None)


def quantized_chain(nodes: int) -> onnx.ModelProto:
    file = ForeignFile()
    tensor = file.quant("input", 0.25, 4)
    for _ in range(nodes):
        tensor = file.quant(file.add("Add", tensor, file.constant(0.3)), 0.25, 4)
    return file.model(tensor, ["N", 3], None)


def doubled(times: int) -> onnx.ModelProto:
    file = ForeignFile()
    tensor = file.quant("input", 0.25, 4)
    for _ in range(times):
        tensor = file.add("Concat", tensor, tensor, axis=1)
    return file.model(file.quant(tensor, 0.5, 4), ["N", 3], None)


def counted(channels: int, levels: int) -> onnx.ModelProto:
    file = ForeignFile()
    table = file.constant(np.sort(weights((channels, levels), 1), axis=1))
    tensor = file.add("MultiThreshold", file.quant("input", 0.25, 4), table, domain=GENERAL, out_dtype="UINT8")
    return file.model(tensor, ["N", channels], None)


def shared_weights(products: int) -> onnx.ModelProto:
    file = ForeignFile()
    tensor, table = file.quant("input", 0.25, 4), file.constant(weights((64, 64), 1))
    for _ in range(products):
        tensor = file.quant(file.add("Gemm", tensor, file.quant(table, 0.5, 3), transB=1), 64.0, 4)
    return file.model(tensor, ["N", 64], None)


def joined(branches: int) -> onnx.ModelProto:
    file = ForeignFile()
    tensor = file.quant("input", 0.25, 4)
    tensor = file.add("Concat", *[file.add("Relu", tensor) for _ in range(branches)], axis=1)
    return file.model(file.quant(tensor, 0.5, 4), ["N", 3], None)


def effort_of(model: onnx.ModelProto) -> int:
    """Return the units that the lowering of *model* takes; every one is counted before the work is done."""
    spent: list[int] = []

    class Counting(Effort):
        def spend(self, units: int, what: str) -> None:
            super().spend(units, what)
            spent.append(units)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bitproof.export.lowering.lower.Effort", Counting)
        lower_graph(normalize(model), Path("net.onnx"), "net")
    return sum(spent)


GROWING: dict[str, tuple[Callable[[int], onnx.ModelProto], int, str]] = {
    "nodes": (quantized_chain, 40, "Add"),
    "constants": (lambda n: affine_chain(n, "Mul"), 40, "Mul"),
    "thresholds": (lambda n: counted(n, 15), 40, "MultiThreshold"),
    "branches": (joined, 200, "Quant"),
    "weights that are shared": (shared_weights, 20, "Quant"),
}


@pytest.mark.parametrize("name", GROWING)
def test_work_beyond_the_limit_is_refused_before_it_is_begun(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, size, op = GROWING[name]
    needed = effort_of(make(size))
    monkeypatch.setattr("bitproof.export.lowering.effort.MAX_EFFORT", needed)
    lower_graph(normalize(make(size)), Path("net.onnx"), "net")
    said = refusal(make(4 * size))
    assert f"at most {needed} are spent" in said
    assert said.startswith("net.onnx: node '")
    assert f"({op})" in said


@pytest.mark.parametrize("name", GROWING)
def test_the_work_grows_no_faster_than_the_file(name: str) -> None:
    make, size, _ = GROWING[name]
    small, large = make(size), make(4 * size)
    assert effort_of(large) <= 1.05 * effort_of(small) * max(4, large.ByteSize() / small.ByteSize())


def test_a_file_of_a_few_bytes_cannot_ask_for_any_number_of_channels(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert "its result would hold 100663296 numbers a sample; at most 67108864" in refusal(doubled(40))
    monkeypatch.setattr("bitproof.export.lowering.effort.MAX_EFFORT", 1 << 12)
    assert "channels of concat bring the exact arithmetic" in refusal(doubled(20))


def test_a_network_of_the_size_of_resnet_50_is_within_the_limit() -> None:
    # 26,560 channels of batch norms and of 8-bit activations, 25.6 million weights, and four values of each channel
    channels = 26_560
    units = channels * (CHAIN + QUANTIZED_CHANNEL + 255 * LEVEL + 4 * CHANNEL) + 200 * NODE + 2 * 25_600_000 // WEIGHTS
    assert 1.3 * units < MAX_EFFORT
    assert MAX_OPERATIONS > 4 * 4_100_000_000


@pytest.mark.parametrize(
    ("op", "allowed", "message"),
    [
        ("BatchNormalization", MAX_ROOTS - 1, f"17 different square roots; at most {MAX_ROOTS}"),
        ("Mul", MAX_CONSTANT_BITS // 24, f"bits; at most {MAX_CONSTANT_BITS} are calculated with"),
    ],
)
def test_constants_that_grow_without_a_quantizer_are_refused(op: str, allowed: int, message: str) -> None:
    lower_graph(normalize(affine_chain(allowed, op, 1.1)), Path("net.onnx"), "net")
    assert message in refusal(affine_chain(2 * allowed + 2, op, 1.1))


@pytest.mark.parametrize("kernel", [[999, 999], [1, 1]])
def test_windows_of_any_number_of_taps_are_refused(kernel: list[int]) -> None:
    file = ForeignFile()
    tensor = file.add("MaxPool", file.quant("input", 0.25, 4), kernel_shape=kernel, strides=[1, 1])
    model = file.model(file.quant(tensor, 0.5, 4), ["N", 1, 2000, 2000], None)
    if kernel == [1, 1]:
        lower_graph(normalize(model), Path("net.onnx"), "net")
    else:
        assert f"it brings the operations for one sample to {1002**2 * 999**2}; at most 68719476736" in refusal(model)


def test_drawn_samples_that_nobody_would_wait_for_are_refused() -> None:
    require_affordable(1 << 32, 1_000)
    with pytest.raises(InputError, match=r"import the file with --samples 64, or with --vectors of your own"):
        require_affordable(1 << 36, 1_000)


def test_nodes_that_qonnx_would_not_end_with_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module("bitproof.export.importer.normalize"), "MAX_NODES", 81)
    normalize(quantized_chain(40))
    with pytest.raises(
        InputError, match="has 83 nodes once its constants and shapes are worked out; at most 81 are run"
    ):
        normalize(quantized_chain(41))


def test_constants_that_are_computed_by_many_nodes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitproof.export.importer.fold.MAX_NODES", 5)
    file = ForeignFile()
    tensor, total = file.quant("input", 0.25, 4), file.constant([1.0])
    for _ in range(6):
        total = file.add("Add", total, file.constant([1.0]))
    with pytest.raises(InputError, match="computes constants by more than 5 nodes"):
        normalize(file.model(file.quant(file.add("Add", tensor, total), 0.5, 4), ["N", 3], None))


def test_refused_nodes_are_listed_up_to_a_limit() -> None:
    file = ForeignFile()
    tensor = file.quant("input", 0.25, 4)
    for _ in range(1_003):
        file.add("Erf", tensor)
    joint = file.add("Concat", *[node.output[0] for node in file.nodes[1:]], axis=1)
    said = refusal(file.model(joint, ["N", 3], None))
    assert "holds 1003 nodes that cannot be lowered" in said
    *listed, more, supported = said.splitlines()
    assert (len(listed), more) == (1_001, "  and 3 more")
    assert supported.strip().startswith("supported")


def test_a_proof_finds_the_source_of_a_node_without_a_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[int] = []
    wired = IntegerModel.wired

    def counting(model: IntegerModel) -> Iterator[tuple[Node, tuple[str, ...]]]:
        walks.append(1)
        return wired(model)

    monkeypatch.setattr(IntegerModel, "wired", counting)
    found = []
    for nodes in (10, 40):
        lowered = lower_graph(normalize(quantized_chain(nodes)), Path("net.onnx"), "net")
        walks.clear()
        prove_lowering(lowered)
        found.append(len(walks))
    assert found[0] == found[1] > 0
