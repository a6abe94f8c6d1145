"""The benchmark of packed-int8 ONNX: its peers are what they are called, and its figures say what was measured."""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from integer_graphs import every_operation, residual_network
from onnx import TensorProto, helper

from benchmarks.lab import onnx_forms
from benchmarks.lab.integer_networks import Subject
from benchmarks.lab.onnx_agreement import Agreement, agreement_of_codes, agreement_of_reals, made_by
from benchmarks.lab.onnx_bare import FREE, WAYS, Bare, bare_layers
from benchmarks.lab.onnx_figures import Figures, measure
from benchmarks.lab.onnx_forms import FLOAT, OPERATORS, OURS, PEERS, QCDQ, QUANT_TO_QCDQ, STATIC, Forms, write_forms
from benchmarks.lab.onnx_memory import memory_mib
from benchmarks.lab.onnx_rows import rows_of, tables
from benchmarks.lab.onnx_shares import LAYOUTS, Shares, compared, kernel_times
from benchmarks.lab.onnx_times import load_seconds, run_seconds, session_of
from benchmarks.results import Row
from bitproof.export.integer import IntegerModel, Threshold, run
from bitproof.export.onnx_int8.operations import WRITERS
from bitproof.pipeline import Codes
from bitproof.pipeline.config import ModelConfig

SAMPLES, MIB = 200, 1 << 20


def perceptron(**bits: int) -> Subject:
    model = ModelConfig.model_validate({"name": "mlp", "hidden": [8], "weight_bits": 2, "act_bits": 2, **bits})
    return Subject(model, (12,), 4, "a small perceptron")


@pytest.fixture(scope="module")
def forms(tmp_path_factory: pytest.TempPathFactory) -> Forms:
    return write_forms(perceptron(), tmp_path_factory.mktemp("forms"))


def codes_and_reals(model: IntegerModel) -> tuple[Codes, Any]:
    codes = np.random.default_rng(0).integers(0, 256, (SAMPLES, model.inputs))
    return codes, codes.astype(np.float32) * np.float32(model.input_scale)


def shifted(model: IntegerModel) -> IntegerModel:
    """The model with all thresholds of one channel 100 higher."""
    nodes = list(model.nodes)
    index = next(i for i, node in enumerate(nodes) if isinstance(node, Threshold))
    node = nodes[index]
    assert isinstance(node, Threshold)
    thresholds = node.thresholds.copy()
    thresholds[0] += 100
    nodes[index] = replace(node, thresholds=thresholds)
    return replace(model, nodes=tuple(nodes))


@pytest.mark.slow
def test_every_peer_writes_the_network(forms: Forms) -> None:
    assert dict(forms.missing) == {}
    assert set(forms.files) == {OURS, *PEERS}
    kinds = {form: {node.op_type for node in onnx.load(path).graph.node} for form, path in forms.files.items()}
    assert kinds[FLOAT] <= {"Gemm", "MatMul", "Relu", "Identity"}  # no batch norm, which would stay in float32
    assert "QGemm" in kinds[OPERATORS]
    assert "DequantizeLinear" not in kinds[OURS]
    for form in (STATIC, QCDQ, QUANT_TO_QCDQ):
        assert {"QuantizeLinear", "DequantizeLinear"} <= kinds[form]


@pytest.mark.slow
@pytest.mark.parametrize("form", [QCDQ, QUANT_TO_QCDQ])
def test_forms_of_the_quantized_network_give_its_real_numbers_and_classes(forms: Forms, form: str) -> None:
    codes, reals = codes_and_reals(forms.model)
    expected = run(forms.model, codes)
    made = made_by(session_of(forms.files[form]), reals)
    assert agreement_of_reals(made, forms.model, expected).classes == 1
    assert agreement_of_reals(made, forms.model, expected).exact == 1

    wrong = run(shifted(forms.model), codes)  # negative control: another network
    assert (wrong != expected).any(axis=1).mean() > 0.1
    found = agreement_of_reals(made, forms.model, wrong)
    assert found.exact == (wrong == expected).all(axis=1).mean()
    assert found.classes == (wrong.argmax(axis=1) == expected.argmax(axis=1)).mean() < 1


@pytest.mark.slow
def test_the_float_network_is_another_function(forms: Forms) -> None:
    codes, reals = codes_and_reals(forms.model)
    made = made_by(session_of(forms.files[FLOAT]), reals)
    assert agreement_of_reals(made, forms.model, run(forms.model, codes)).exact == 0


@pytest.mark.slow
def test_folded_batch_norms_change_nothing() -> None:
    import torch
    from torch import nn

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4, bias=False), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    norm = network[1]
    norm.running_mean, norm.running_var = torch.tensor([1.0, 2, 3, 4]), torch.tensor([1.0, 4, 16, 64]) - norm.eps
    whole = torch.randint(-4, 4, (50, 3)).float()
    with torch.no_grad():
        network[0].weight.copy_(torch.randint(-2, 3, (4, 3)))
        expected = network.eval()(whole)
        folded = onnx_forms._folded(network)
        assert not [module for module in folded.modules() if isinstance(module, nn.BatchNorm1d)]
        torch.testing.assert_close(folded(whole), expected)
        folded[0].bias[0] += 1
        with pytest.raises(AssertionError):  # negative control
            torch.testing.assert_close(folded(whole), expected)


@pytest.mark.slow
def test_our_form_gives_the_codes(forms: Forms) -> None:
    codes, _ = codes_and_reals(forms.model)
    made, expected = made_by(session_of(forms.files[OURS]), codes.astype(np.uint8)), run(forms.model, codes)
    assert agreement_of_codes(made, forms.model, expected) == Agreement(1, 1)
    changed = expected.copy()
    changed[0, expected[0].argmin()] = expected.max() + 1
    assert agreement_of_codes(made, forms.model, changed) == Agreement(1 - 1 / SAMPLES, 1 - 1 / SAMPLES)


@pytest.mark.slow
def test_a_network_is_measured_in_every_form(tmp_path: Path) -> None:
    found = measure(perceptron(), 50, tmp_path, rounds=1, round_s=0.01)
    rows = list(rows_of("net", {}, found))
    assert [row.metric for row in rows if row.peer is not None and row.peer_value is None] == []
    assert {(form, found.agreements[form]) for form in found.agreements} == {
        (form, Agreement(1, 1)) for form in (OURS, QCDQ, QUANT_TO_QCDQ)
    }
    assert found.classes > 1
    assert found.seconds[64][0].keys() == {OURS, *PEERS} == found.memory_mib.keys() == found.load_s.keys()
    assert min(min(each.values()) for rounds in found.seconds.values() for each in rounds) > 0
    assert sum(found.shares.fastest.values()) == 2


def test_outputs_that_binary32_does_not_hold_are_not_compared() -> None:
    model = replace(residual_network(), output_scale=Fraction(1, 3))
    expected = np.array([[1, 2, 3, 0]])
    found = agreement_of_reals(expected.astype(np.float32) / np.float32(3), model, expected)
    assert (found.classes, found.exact) == (1, None)
    large = np.array([[1 << 25, 2, 3, 0]])
    assert agreement_of_reals(large.astype(np.float32), residual_network(), large).exact is None


@pytest.mark.slow
def test_a_peer_that_cannot_give_the_network_says_why(tmp_path: Path) -> None:
    found = write_forms(perceptron(weight_bits=1), tmp_path)
    assert found.missing == {
        QCDQ: "Binary quant not supported",
        QUANT_TO_QCDQ: "QuantToQCDQ leaves nodes of type BipolarQuant; it takes Quant nodes of 2 to 8 bits",
    }
    assert set(found.files) == {OURS, FLOAT, STATIC, OPERATORS}


def test_every_operation_has_bare_operators_or_needs_none() -> None:
    assert {*WAYS, *FREE} == set(WRITERS)
    assert not {*WAYS} & {*FREE}


@pytest.mark.parametrize("model", [every_operation(), residual_network()], ids=["every-operation", "residual"])
def test_bare_operators_have_the_shapes_of_the_layer(model: IntegerModel) -> None:
    shapes = model.shapes()
    layers = bare_layers(model)
    assert list(layers) == [node.name for node in model.nodes if not isinstance(node, FREE)]
    for name, choices in layers.items():
        for bare in choices:
            made = session_of(bare.graph).run(None, bare.values(3))[0].shape[1:]
            expected = shapes[name]
            assert made == ((*expected[1:], expected[0]) if bare.name.startswith("Nhwc") else expected), bare.name


def test_layers_of_one_shape_share_bare_operators() -> None:
    layers = bare_layers(residual_network())
    assert layers["conv2"] == layers["conv4"]
    assert not set(layers["conv0"]) & set(layers["conv2"])  # 2 channels, not 6
    assert not set(layers["conv9"]) & set(layers["conv2"])  # one group for each channel


def bare(name: str) -> Bare:
    return Bare(name, name.encode(), np.uint8, ((1,),))


def test_share_is_that_of_the_fastest_operators_by_their_best_rounds() -> None:
    slow, fast, pool = bare("slow"), bare("fast"), bare("pool")
    layers = {"a": (slow, fast), "b": (slow, fast), "c": (pool,)}
    whole = [{("QLinearConv", 0): 8.0, ("Clip", 1): 4.0}, {("QLinearConv", 0): 12.0, ("Clip", 1): 4.0}]
    alone = {slow: [5.0, 5.0], fast: [2.0, 3.0], pool: [2.0, 1.0]}
    found = compared(layers, whole, alone)
    assert found.bare == (2 + 2 + 1) / (8 + 4)
    assert found.spread == ((3 + 3 + 1) / 16, (2 + 2 + 2) / 12)
    assert found.products == 8 / 12
    assert found.fastest == {"fast": 2, "pool": 1}


def test_every_node_has_a_kernel_time(tmp_path: Path) -> None:
    (choice, *_) = bare_layers(residual_network())["conv2"]
    times = kernel_times(choice.graph, choice.values(8), tmp_path, 0.01)
    assert [op for op, _ in times if op not in LAYOUTS] == ["QLinearConv"]
    assert min(times.values()) > 0
    assert list(tmp_path.iterdir()) == []


def file_of_zeros(path: Path, mib: int) -> Path:
    """A file that adds *mib* MiB of zeros, made when it runs, to its input."""
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [2], [1, mib * MIB // 4])
    nodes = [helper.make_node("Expand", ["x", "sizes"], ["y"])]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1])]
    outputs = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "zeros", inputs, outputs, [sizes])
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_memory_is_that_of_the_file_alone(tmp_path: Path) -> None:
    held = np.ones(300 * MIB, dtype=np.uint8)  # of this process, whose peak is no matter of the other's
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > held.nbytes
    alone, small = memory_mib(file_of_zeros(tmp_path / "small.onnx", 1), 1, tmp_path / "log")
    assert 10 < alone < 200
    _, large = memory_mib(file_of_zeros(tmp_path / "large.onnx", 128), 1, tmp_path / "log")
    assert small < 64
    assert 128 <= large < 192


def test_times_tell_the_longer_call(tmp_path: Path) -> None:
    def spin(seconds: float) -> None:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass

    (found,) = run_seconds({"short": lambda: spin(1e-3), "long": lambda: spin(5e-3)}, 1, 0.02)
    assert 1e-3 <= found["short"] < 5e-3 <= found["long"]
    assert load_seconds({"one": file_of_zeros(tmp_path / "a.onnx", 1)})["one"] > 0


def figures(missing: Mapping[str, str]) -> Figures:
    """Made-up figures: peers take 2, 3, 4, 5, 6 times as long as ours in one round, and twice that in the other."""
    present = PEERS.keys() - missing.keys()
    one = {OURS: 1e-3} | {form: 1e-3 * (2 + place) for place, form in enumerate(PEERS) if form in present}
    two = {form: seconds if form == OURS else 2 * seconds for form, seconds in one.items()}
    sizes = {form: 100 * (1 + place) for place, form in enumerate((OURS, *PEERS)) if form not in missing}
    return Figures(
        seconds={1: [one, two], 64: [one, two]},
        sizes=sizes,
        load_s={form: size * 1e-5 for form, size in sizes.items()},
        memory_mib={form: float(size) for form, size in sizes.items()},
        bare_mib=40.0,
        samples=500,
        classes=3,
        agreements={OURS: Agreement(1.0, 1.0)} | dict.fromkeys(present & {QCDQ, QUANT_TO_QCDQ}, Agreement(0.75, 0.5)),
        shares=Shares(0.85, (0.8, 0.95), 0.9, {"QGemm int8": 4}),
        missing=missing,
    )


def test_rows_say_what_was_measured_and_which_goals_are_met() -> None:
    rows = {row.metric: row for row in rows_of("net", {"vs_float32_b64": 2.5, "vs_float32_b1": 4}, figures({}))}
    assert (rows["vs_float32_b64"].ratio, rows["vs_float32_b64"].met) == (3, True)
    assert rows["vs_float32_b1"].met is False
    assert rows["vs_quantize_static_b1"].peer == PEERS[STATIC]  # the faster of the two
    assert rows["vs_static_qoperator_b1"].ratio == 6
    assert rows["file_ratio"].ratio == 2
    assert rows["file_ratio_qcdq"].peer_value == 500
    assert (rows["load"].met, rows["load"].ratio, rows["peak_memory"].ratio) == (True, 0.5, 0.5)
    assert rows["class_agreement_qcdq"].peer_value == 0.75
    assert (rows["exact_share_qcdq"].ours, rows["exact_share_qcdq"].peer_value) == (1, 0.5)
    assert rows["share_of_bare_operators"].met is False
    assert all(row.peer_value is not None for row in rows.values() if row.peer is not None)


def test_a_peer_without_the_network_has_no_value_and_its_reason() -> None:
    rows = list(rows_of("net", {}, figures({QCDQ: "Binary quant not supported"})))
    without = [row for row in rows if row.peer == PEERS[QCDQ]]
    assert {row.metric for row in without} == {
        *("vs_qcdq_b1", "vs_qcdq_b64", "file_ratio_qcdq", "load_qcdq", "peak_memory_qcdq"),
        *("class_agreement_qcdq", "exact_share_qcdq"),
    }
    for row in without:
        assert (row.peer_value, row.ratio, row.note) == (None, None, "not measured: Binary quant not supported")
    others = [row for row in rows if row.peer is not None and row.peer != PEERS[QCDQ]]
    assert all(row.peer_value is not None for row in others)


def cells(rows: list[Row], table: int, heading: str) -> str:
    lines = [line.split(" | ") for line in tables(rows).split("\n\n")[table].splitlines()]
    return next(cell for name, cell in zip(lines[0], lines[2], strict=True) if name.strip("| ") == heading).strip(" |")


def test_tables_show_the_rows_and_a_dash_for_what_is_missing() -> None:
    whole = list(rows_of("net", {}, figures({})))
    assert cells(whole, 0, "float32 = 1") == "3.00 / 3.00"
    assert cells(whole, 0, "QCDQ = 1") == "7.50 / 7.50"
    assert cells(whole, 1, "peak memory, ours / float32") == "100.0 / 200.0 MiB"
    assert cells(whole, 1, "QCDQ: classes equal") == "75 %"
    without = list(rows_of("net", {}, figures({QCDQ: "no"})))
    assert cells(without, 0, "QCDQ = 1") == "- / -"
    assert cells(without, 1, "QCDQ: classes equal") == "-"
    assert cells(without, 0, "float32 = 1") == "3.00 / 3.00"


def test_a_share_below_one_is_never_shown_as_whole() -> None:
    rows = [replace(r, ours=0.999999) if r.metric == "exact_share" else r for r in rows_of("net", {}, figures({}))]
    assert cells(rows, 1, "codes equal") == "99.99 % of 500 samples"
    assert cells(list(rows_of("net", {}, figures({}))), 1, "codes equal") == "100 % of 500 samples"
