"""Three outcomes of a float reference: equal, explained by rounding, unexplained; and what is told of each."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from qonnx_files import FREE_SCALE, QonnxFile, ties

from bitproof.export.divergence import Cause
from bitproof.export.divergence.explain import explain_run
from bitproof.export.float_reference import judge_reference, output_coding
from bitproof.export.integer import IntegerModel, Threshold, run, save
from bitproof.export.lower import activations_of, lower_file
from bitproof.export.lowering import Lowered, lower_graph, origins_of, save_origins
from bitproof.export.qonnx import FILE, load_qonnx
from bitproof.export.qonnx_executor import QonnxExecutor
from bitproof.export.qonnx_float64 import QonnxFloat64Executor
from bitproof.pipeline import Codes, ParityReport, StageError


def changed(file: onnx.ModelProto, name: str, values: object) -> onnx.ModelProto:
    made = onnx.ModelProto()
    made.CopyFrom(file)
    tensor = next(t for t in made.graph.initializer if t.name == name)
    tensor.CopyFrom(numpy_helper.from_array(np.asarray(values, dtype=np.float32), name))
    return made


class Case:
    """One small file, what is lowered from it, and codes to run on."""

    def __init__(self, path: Path, codes: int = 300, low: int = -8, high: int = 8) -> None:
        self.path, self.file, self.lowered = path, load_qonnx(path), lower_file(path)
        shape = (codes, self.lowered.model.inputs)
        self.codes: Codes = np.random.default_rng(0).integers(low, high, size=shape)

    @property
    def model(self) -> IntegerModel:
        return self.lowered.model

    def judge(self, file: onnx.ModelProto | None = None) -> ParityReport:
        executor = QonnxExecutor(file or self.file, self.model, origins_of(self.lowered))
        report, outputs = judge_reference(executor, self.model, lambda: self.lowered.activations, self.codes, "drawn")
        assert outputs.shape == (len(self.codes), self.model.outputs)
        return report


def test_ties_of_free_scales_are_explained_and_counted(tmp_path: Path) -> None:
    case = Case(ties(tmp_path / "export" / FILE))
    report = case.judge()
    assert report.ok
    assert 0 < report.differing == report.explained == report.explained_layers["act0"]
    assert report.unexplained is None
    assert report.summary().endswith(
        f"{report.differing} of 600 codes differ, each explained by a float rounding error at a boundary"
    )
    double = QonnxFloat64Executor(case.file, case.model, origins_of(case.lowered))
    assert np.array_equal(double(case.codes), run(case.model, case.codes)), "binary64 decides ties as the integers do"


def test_one_fault_among_the_ties_is_named(tmp_path: Path) -> None:
    case = Case(ties(tmp_path / "export" / FILE))
    name = next(t.name for t in case.file.graph.initializer if len(t.dims) == 2)
    report = case.judge(changed(case.file, name, np.array([[1, 1, 1], [3, -1, 3]]) * FREE_SCALE))
    first = report.unexplained
    assert not report.ok
    assert first is not None
    assert (first.layer, first.channel, first.position) == ("act0", 1, ())
    assert 0 < report.explained < report.differing
    accumulator = int(case.codes[first.sample] @ np.array([3, -1, 2]))
    assert first.accumulator == accumulator
    assert f"unexplained: {first}" in report.summary()


def test_a_fault_that_no_output_shows_is_unexplained_all_the_same(tmp_path: Path) -> None:
    file = QonnxFile()
    source = file.quant("input", FREE_SCALE, 4, signed=1)
    product = file.add("Gemm", [source, file.weights(np.eye(3) * 2)], transB=1)
    hidden = file.quant(product, 0.25, 4, signed=1)
    blind = file.add("Gemm", [hidden, file.weights(np.array([[1.0, 1, 0]]))], transB=1)
    case = Case(file.save(tmp_path / "export" / FILE, 3, blind, 1))
    name = next(t.name for t in case.file.graph.initializer if t.dims == [3, 3])
    report = case.judge(changed(case.file, name, np.diag([2.0, 2.0, 4.0])))
    assert report.differing == 0
    assert not report.ok
    assert report.unexplained is not None
    assert (report.unexplained.layer, report.unexplained.channel) == ("act0", 2)
    assert "600" not in report.summary().split(":")[0]
    assert "a layer before them is not" in report.summary()


def wide(path: Path, output: str = "sums") -> Path:
    """Sums of 2,000 products of free scales, whose float error spans many units."""
    generator = np.random.default_rng(1)
    file = QonnxFile()
    source = file.quant("input", 0.0371, 8, signed=1)
    weights = file.quant(file.constant(generator.normal(size=(3, 2000))), 0.0113, 8, signed=1)
    if output == "classes":
        sums = file.add("Gemm", [source, weights], transB=1)
        tensor = file.add("TopK", [sums, file.integers(1)], outputs=2, axis=1)
        return file.save(path, 2000, tensor, 1, onnx.TensorProto.INT64)
    tensor = file.add("Gemm", [source, weights, file.constant([0.5, -0.25, 0.125])], transB=1)
    return file.save(path, 2000, tensor, 3)


def test_sums_are_explained_within_their_error_and_not_beyond(tmp_path: Path) -> None:
    case = Case(wide(tmp_path / "export" / FILE), low=-128, high=128)
    assert (2 * output_coding(case.model).errors >= output_coding(case.model).scales).all()
    report = case.judge()
    assert report.ok
    name = next(t.name for t in case.file.graph.initializer if t.dims == [3])
    beyond = case.judge(changed(case.file, name, [0.5, -0.25, 10.125]))
    assert beyond.unexplained is not None
    assert beyond.unexplained.channel == 2


def test_an_order_of_classes_is_explained_where_two_are_that_close(tmp_path: Path) -> None:
    case = Case(wide(tmp_path / "export" / FILE, "classes"), low=-128, high=128)
    assert case.judge().ok
    observation = QonnxExecutor(case.file, case.model, origins_of(case.lowered)).observe(case.codes)
    wrong = replace(observation, codes=(observation.codes + 1) % 3)

    class Turned(QonnxExecutor):
        def observe(self, codes: Codes):  # type: ignore[no-untyped-def]  # noqa: ANN202
            assert len(codes) == len(wrong.codes)
            return wrong

    turned = Turned(case.file, case.model, origins_of(case.lowered))
    report, _ = judge_reference(turned, case.model, lambda: case.lowered.activations, case.codes, "drawn")
    assert not report.ok


@pytest.mark.parametrize("operation", ["Tanh", "Sigmoid", "LeakyRelu"])
def test_curves_between_sum_and_quantizer_are_explained_on_both_sides(tmp_path: Path, operation: str) -> None:
    generator = np.random.default_rng(2)
    file = QonnxFile()
    source = file.quant("input", 0.0371, 8, signed=1)
    weights = file.quant(file.constant(generator.normal(size=(9, 300)) * 0.05), 0.0013, 8, signed=1)
    product = file.add("Gemm", [source, weights, file.constant(generator.normal(size=9))], transB=1)
    curved = file.node(operation, [product], {"alpha": 0.25} if operation == "LeakyRelu" else {})
    case = Case(file.save(tmp_path / "export" / FILE, 300, file.quant(curved, 0.0031, 8, signed=1), 9), 2000, -128, 128)
    assert case.judge().ok
    name = next(t.name for t in case.file.graph.initializer if t.dims == [9])
    biases = numpy_helper.to_array(next(t for t in case.file.graph.initializer if t.name == name))
    moved = case.judge(changed(case.file, name, biases + np.float32(0.002)))
    assert moved.unexplained is not None


def saved_run(case: Case, folder: Path) -> Path:
    folder.mkdir()
    save(case.model, folder)
    save_origins(case.lowered, folder)
    return folder


def test_explain_names_the_float_order_or_the_fault(tmp_path: Path) -> None:
    case = Case(ties(tmp_path / "export" / FILE))
    folder = saved_run(case, tmp_path / "integer")
    executor = QonnxExecutor(case.file, case.model, origins_of(case.lowered))
    found = explain_run(executor, folder, case.path.parent, case.codes, units=True)
    assert found.ok
    assert found.rounded == {"act0": found.differing_outputs}
    assert found.lines()[1].startswith("  cause: float order: ")
    name = next(t.name for t in case.file.graph.initializer if len(t.dims) == 2)
    wrong = changed(case.file, name, np.array([[1, 1, 1], [3, -1, 3]]) * FREE_SCALE)
    broken = QonnxExecutor(wrong, case.model, origins_of(case.lowered))
    fault = explain_run(broken, folder, case.path.parent, case.codes, units=True)
    assert not fault.ok
    assert fault.divergence is not None
    assert (fault.divergence.layer, fault.divergence.finding.cause) == ("fc0", Cause.WRONG_WEIGHT)
    assert fault.divergence.finding.facts["weights"] == [{"index": [1, 2], "expected": 2, "actual": 3}]


def test_activations_are_asked_for_only_if_something_differs(tmp_path: Path) -> None:
    path = tmp_path / "export" / FILE
    file = QonnxFile()
    source = file.quant("input", 0.5, 4, signed=1)
    file.save(path, 2, file.quant(file.add("Gemm", [source, file.weights(np.eye(2))], transB=1), 1.0, 4, signed=1), 2)
    case = Case(path)

    def never() -> dict[str, list[object]]:
        raise AssertionError

    executor = QonnxExecutor(case.file, case.model, origins_of(case.lowered))
    report, _ = judge_reference(executor, case.model, never, case.codes, "drawn")  # type: ignore[arg-type]
    assert report.ok
    assert activations_of(case.model, path.parent).keys() == {"act0"}


def lowered(file: QonnxFile, inputs: int, output: str, outputs: int) -> Lowered:
    return lower_graph(file.proto(inputs, output, outputs), Path("net"), "net")


def test_weight_codes_are_those_of_float32_division() -> None:
    scale = np.float32(0.0013)
    numbers = np.random.default_rng(3).integers(-127, 127, size=2_000_000) + np.float32(0.5)
    candidates: NDArray[np.float32] = (numbers * scale).astype(np.float32)
    single = np.rint(candidates / scale).astype(np.int64)
    exact = [round(Fraction(float(value)) / Fraction(float(scale))) for value in candidates[:4000]]
    beside = np.flatnonzero(single[:4000] != np.array(exact))
    assert len(beside), "some quotients lie on a tie in float32 and beside it exactly"
    chosen = candidates[beside][:50]
    file = QonnxFile()
    source = file.quant("input", 1.0, 4, signed=1)
    weights = file.quant(file.constant(chosen[None]), float(scale), 8, signed=1)
    found = lowered(file, len(chosen), file.add("Gemm", [source, weights], transB=1), 1)
    assert found.model.products[0].weights.reshape(-1).tolist() == single[beside][:50].tolist()
    assert [unequal for _, _, unequal in found.unequal_weights] == [len(chosen)]


@pytest.mark.parametrize("joined", [False, True])
def test_an_integer_bias_counts_in_units_of_the_accumulator(joined: bool) -> None:
    s_in, s_w = np.float32(0.3435), np.float32(0.1017)
    unit = Fraction(float(s_in)) * Fraction(float(s_w))
    rounded = np.float32(s_in * s_w)
    assert Fraction(float(rounded)) != unit
    file = QonnxFile()
    source = file.quant("input", float(s_in), 4, signed=1)
    weights = file.quant(file.constant(np.array([[1, 2], [3, -1]]) * s_w), float(s_w), 4, signed=1)
    bias = file.quant(file.constant(np.array([5, -7]) * rounded), float(rounded), 16, signed=1)
    if joined:
        product = file.add("Gemm", [source, weights, bias], transB=1)
    else:
        product = file.add("Add", [file.add("Gemm", [source, weights], transB=1), bias])
    found = lowered(file, 2, file.bipolar(product, 1.0), 2)
    assert found.model.nodes_of(Threshold)[0].thresholds.reshape(-1).tolist() == [-5, 7], (
        "ties belong to the integer bias"
    )
    other = np.float32(rounded * np.float32(1.5))
    free = file.quant(file.constant(np.array([5, -7]) * rounded), float(other), 16, signed=1)
    again = lowered(file, 2, file.bipolar(file.add("Gemm", [source, weights, free], transB=1), 1.0), 2)
    (activation,) = again.activations.values()
    chain = activation[0].chain
    assert (chain.intercept.fraction() / Fraction(float(other))).denominator == 1, "another scale stays a real number"


def test_an_activation_that_gives_no_codes_is_refused(tmp_path: Path) -> None:
    case = Case(ties(tmp_path / "export" / FILE))
    name = next(n.input[1] for n in case.file.graph.node if n.output[0] == case.file.graph.output[0].name)
    wrong = changed(case.file, name, 0.0213)
    with pytest.raises(StageError, match=r"^qonnx: act0 gives .* which is not a whole multiple of the scale"):
        case.judge(wrong)
