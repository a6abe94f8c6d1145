"""Quantized operators and float32 convolutions of exact sums: proven constants, exact files."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
import pytest
from cost_tables import made_up
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_graphs import graph_codes, window
from line_graphs import Lines, thresholds_of
from onnx import numpy_helper
from written_onnx import Written
from zoo_exports import lowered_network
from zoo_networks import initialized, small

from bitproof.export.integer import (
    INPUT,
    Add,
    Conv,
    IntegerModel,
    IntegerType,
    Interval,
    MatMul,
    MaxPool,
    Reshape,
    Threshold,
    run,
)
from bitproof.export.onnx_int8 import build
from bitproof.export.onnx_int8.fitting import Fitted, fit
from bitproof.export.onnx_int8.joined import is_exact_sum
from bitproof.export.proofs import prove_requantization
from bitproof.pipeline import Codes, InputError

UINT8 = IntegerType(8, signed=False)


@st.composite
def activations(draw: st.DrawFn) -> tuple[Threshold, Interval]:
    levels = draw(st.sampled_from([1, 3, 15, 255]))
    low, high = draw(st.integers(-3000, 0)), draw(st.integers(1, 3000))
    least, most = sorted(draw(st.tuples(st.integers(1, 4000), st.integers(1, 4000))))
    slope = Fraction(least, most)  # codes an accumulator: no code is skipped
    offset = Fraction(draw(st.integers(-4000, 4000)), draw(st.integers(1, 100)))
    return thresholds_of(slope, offset, levels, Interval(low, high)), Interval(low, high)


def every(interval: Interval) -> Codes:
    return np.arange(interval.low, interval.high + 1, dtype=np.int64)[:, None]


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(activations(), st.sampled_from([1, 4, 16, 64]))
def test_fitted_constants_are_exact_on_every_accumulator(activation: tuple[Threshold, Interval], factor: int) -> None:
    node, interval = activation
    fitted = fit(node, (interval,), factor)
    if fitted is None:
        assert factor < 16 or node.levels > 15, (
            "a batch norm of 15 levels has constants, if weights leave room for them"
        )
        return
    codes = fitted.apply(every(interval), node.levels)
    assert np.array_equal(codes, node.apply(every(interval)))
    moved = replace(fitted, bias=fitted.bias + round(1 / float(fitted.scale[0])) + 1)
    inside = (codes > 0) & (codes < node.levels)
    assert not inside.any() or not np.array_equal(moved.apply(every(interval), node.levels), codes)


def test_thresholds_on_no_line_have_no_constants() -> None:
    rows = np.array([[0, 1, 500, 501, 502, 1000]], dtype=np.int64)
    node = Threshold("act", rows, IntegerType(3, signed=False), 0, np.zeros(1, dtype=bool))
    assert fit(node, (Interval(-10, 1100),), 64) is None


def image_network(bits: int = 4) -> IntegerModel:
    """A grey image, pooled in its first layer; signed codes and a sum; a depthwise layer; a matrix product."""
    build = Lines((1, 8, 8), 1, UINT8)
    first = build.on_lines(build.heavy_conv(INPUT, 6, window(3, padding=1), bits), 15)
    pooled = build.add(MaxPool("pool", window(2, stride=2)), first)
    one = build.on_lines(build.heavy_conv(pooled, 8, window(3, padding=1), bits), 31, lowest=-16)
    two = build.on_lines(build.heavy_conv(pooled, 8, window(1), bits), 31, lowest=-16)
    joined = build.on_lines(build.add(Add("sum"), one, two), 15, common=True)
    depth = build.on_lines(build.heavy_conv(joined, 8, window(3, stride=2, padding=1), bits, groups=8), 15)
    flat = build.add(Reshape("flat", (8, 2, 2), (32,)), depth)
    hidden = build.on_lines(build.matmul(flat, 12), 15)
    build.matmul(hidden, 5)
    return build.model()


def constructions(layers: dict[str, Any]) -> list[str]:
    return [entry["construction"] for entry in layers["activations"]]


def test_an_image_network_takes_every_construction_and_is_exact() -> None:
    model = image_network()
    written = Written.of(model)
    found = constructions(written.layers)
    assert found == ["carried", "quantized", "quantized", "joined", "quantized", "quantized"]
    codes = graph_codes(model, 300)
    assert written.unequal(model, codes) == []
    with TemporaryDirectory() as folder:
        executor = written.executor(Path(folder))
    assert [proof.failing for proof in prove_requantization(model, executor)] == [0] * 6
    proofs = executor.prove_sums(model)
    assert all(proof.holds and proof.cases for proof in proofs)
    claims = Counter(proof.claim.split(",")[0] for proof in proofs)
    assert claims == {
        "every weight in the file is that of the integer model": 6,
        "every partial sum of its products and its bias is exact in float32": 1,
        "two products fit 16 bits": 4,
        "every pair of codes gives the code of their sum": 1,
    }
    (pairs,) = [proof for proof in proofs if "pair of codes" in proof.claim]
    assert pairs.cases > 32 * 32


def test_options_leave_constructions_out() -> None:
    model = image_network()
    codes = graph_codes(model, 100)
    integers, steps = Written.of(model, "integer-only"), Written.of(model, "single-steps")
    assert "carried" not in constructions(integers.layers)
    assert set(constructions(steps.layers)) == {"single steps"}
    assert {node.domain for node in steps.proto.graph.node} == {""}
    for written in (integers, steps):
        assert written.unequal(model, codes) == []


def test_weights_of_eight_bits_on_codes_of_eight_bits_never_meet_in_sixteen_bits() -> None:
    """Where int8 weights could saturate a pair of products, they are stored in uint8."""
    build = Lines((16,), 2, UINT8)
    weights = build.generator.integers(-127, 127, (6, 16), endpoint=True)
    weights[:, 0] = 127
    hidden = build.on_lines(build.add(MatMul("fc", weights, IntegerType(8, signed=True)), INPUT), 3)
    build.matmul(hidden, 3)
    model = build.model()
    written = Written.of(model)
    assert [entry["method"] for entry in written.layers["activations"]] == ["QGemm, uint8 weights times 1"]
    codes = graph_codes(model, 200)
    codes[2] = 255
    assert written.unequal(model, codes) == []


def test_single_steps_that_were_not_measured_come_last() -> None:
    """Measured are multiply-shifts of 32 bits; in 64 bits they take several times as long."""
    methods = {}
    for inputs in (16, 400):
        build = Lines((inputs,), 3, UINT8)
        weights = build.generator.integers(-7, 7, (6, inputs), endpoint=True)
        hidden = build.on_lines(build.add(MatMul("fc", weights, IntegerType(4, signed=True)), INPUT), 15)
        build.matmul(hidden, 3)
        model = build.model()
        written = Written.of(model, costs=made_up("single-steps"))
        methods[inputs] = [entry["method"] for entry in written.layers["activations"]]
        assert written.unequal(model, graph_codes(model, 100)) == []
    assert methods == {16: ["multiply and shift right by 22, in 32 bits"], 400: ["QGemm, int8 weights times 9"]}


def test_a_wrong_constant_of_each_construction_is_found() -> None:
    model = image_network()
    written, codes = Written.of(model), graph_codes(model, 300)
    for activation in model.nodes_of(Threshold):
        wrong = written.with_flipped_threshold(activation, 0, 0)
        assert wrong.unequal(model, codes)
        with TemporaryDirectory() as folder:
            proofs = prove_requantization(model, wrong.executor(Path(folder)))
        assert {proof.layer for proof in proofs if not proof.holds} == {activation.name}


def test_a_sum_that_float32_may_round_either_way_is_not_joined() -> None:
    reach = Interval(-32, 30)
    near = Fraction(1, 2) + Fraction(1, 1 << 22)
    for slope, exact in ((Fraction(1, 2), True), (Fraction(3, 7), True), (near, False)):
        common = thresholds_of(slope, Fraction(0), 15, reach)
        scale = np.array([float(slope)], dtype=np.float32)
        fitted = Fitted(scale, np.zeros(1, dtype=np.int64), 1, clipped=False)
        assert is_exact_sum(common, reach, fitted) is exact, slope


def test_a_wrong_sum_of_codes_is_found_in_every_pair() -> None:
    model = image_network()
    joined = next(node for node in model.nodes_of(Threshold) if Written.of(model).method(node) == "joined")
    wrong = Written.of(model).with_flipped_threshold(joined, 0, 0)
    with TemporaryDirectory() as folder:
        proofs = wrong.executor(Path(folder)).prove_sums(model)
    (failing,) = [proof for proof in proofs if not proof.holds]
    assert failing.claim.startswith("every pair of codes")
    assert failing.first is not None
    assert set(failing.first) == {"channel", "one", "two"}


@pytest.mark.parametrize("constant", ["conv3.factor", "act1.highest", "act4.highest"])
def test_a_factor_or_a_clip_that_is_not_the_described_one_is_refused(constant: str, tmp_path: Path) -> None:
    written = Written.of(image_network())
    tensor = next(tensor for tensor in written.proto.graph.initializer if tensor.name == constant)
    changed = numpy_helper.to_array(tensor) ^ 1
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(changed), constant))
    with pytest.raises(InputError, match="does not hold a packed-int8 ONNX model"):
        written.executor(tmp_path)


def test_a_wrong_weight_is_found_without_any_image() -> None:
    model = image_network()
    product = next(node for node in model.nodes if isinstance(node, Conv))
    wrong, _ = Written.of(model).with_flipped_weight(model, product, 3)
    with TemporaryDirectory() as folder:
        proofs = wrong.executor(Path(folder)).prove_sums(model)
    (failing,) = [proof for proof in proofs if not proof.holds]
    assert (failing.layer, failing.failing, failing.first) == (product.name, 1, {"channel": 0, "weight": 3})


def test_a_bias_that_float32_may_round_is_found() -> None:
    model = image_network()
    written = Written.of(model)
    entry = written.entry(model.nodes_of(Threshold)[0])
    tensor = next(tensor for tensor in written.proto.graph.initializer if tensor.name == entry["offset"])
    worse = numpy_helper.to_array(tensor).copy()
    worse[2] += 1 << 24
    tensor.CopyFrom(numpy_helper.from_array(worse, tensor.name))
    with TemporaryDirectory() as folder:
        proofs = written.executor(Path(folder)).prove_sums(model)
    assert [proof.layer for proof in proofs if not proof.holds] == [model.nodes[0].name]


LEVELS = ("ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_EXTENDED", "ORT_ENABLE_ALL")


@pytest.mark.parametrize("name", ["image", "cnn", "resnet8"])
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")
def test_every_level_of_optimization_and_several_threads_give_the_same_codes(name: str, tmp_path: Path) -> None:
    model = image_network()
    if name != "image":
        model = lowered_network(tmp_path / "net", small(name), initialized(small(name)))[1].model
    proto, _ = build(model)
    codes = graph_codes(model, 20)
    expected = run(model, codes)
    for level in LEVELS:
        for threads in (1, 2):
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
            options.intra_op_num_threads, options.log_severity_level = threads, 3
            providers = ["CPUExecutionProvider"]
            session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=providers)
            (made,) = session.run(None, {"codes": codes.astype(np.uint8).reshape(-1, *model.shape)})
            assert np.array_equal(made.reshape(len(codes), -1), expected), (level, threads)
