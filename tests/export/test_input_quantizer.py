"""The input of an imported network: its codes, how real inputs become codes, and how codes are declared."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import onnx
import pytest
from foreign_files import GENERAL, ForeignFile, weights
from onnx import numpy_helper
from run_qonnx import run_qonnx

from bitproof.export.importer import find_input_quantizer, normalize
from bitproof.export.importer.declare_input import declare_input
from bitproof.export.importer.draw_codes import draw_codes
from bitproof.export.importer.input_quantizer import (
    InputQuantizer,
    code_shape,
    require_input_quantizer,
    run_head,
)
from bitproof.pipeline import InputError
from bitproof.pipeline.input_type import parse_input_type


def network(file: ForeignFile, tensor: str) -> onnx.ModelProto:
    linear = file.quant(file.constant(weights((2, 3), 1)), 0.5, 3)
    return normalize(file.model(file.add("Gemm", tensor, linear, transB=1), ["N", 3], ["N", 2]))


def quantized(bits: int, *, signed: int, narrow: int, zero: float = 0.0, scale: float = 0.25) -> onnx.ModelProto:
    file = ForeignFile()
    inputs = ["input", file.constant(scale), file.constant(zero), file.constant(float(bits))]
    tensor = file.add("Quant", *inputs, domain=GENERAL, signed=signed, narrow=narrow, rounding_mode="ROUND")
    return network(file, tensor)


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize("narrow", [0, 1])
@pytest.mark.parametrize("zero", [0.0, 3.0])
@pytest.mark.parametrize("bits", range(1, 9))
def test_codes_of_the_input_are_those_that_qonnx_gives(bits: int, signed: int, narrow: int, zero: float) -> None:
    model = quantized(bits, signed=signed, narrow=narrow, zero=zero)
    quantizer = require_input_quantizer(model)
    values = (np.arange(-600, 601) / 8).astype(np.float32)[:, None].repeat(3, axis=1)
    codes = quantizer.codes_of(run_head(model, quantizer, values))
    possible = range(quantizer.lowest, quantizer.highest + 1, quantizer.step)
    assert sorted(set(codes.reshape(-1).tolist())) == list(possible)


def test_the_head_before_the_quantizer_is_run_as_it_is() -> None:
    file = ForeignFile()
    tensor = file.add("Sub", file.add("Mul", "input", file.constant(2.0)), file.constant([1.0]))
    model = network(file, file.quant(tensor, 1.0, 2, narrow=1))
    quantizer = require_input_quantizer(model)
    assert (quantizer.lowest, quantizer.highest, quantizer.step) == (-1, 1, 1)
    assert code_shape(model, quantizer) == (3,)
    values = np.array([[0.0, 0.5, 1.0], [0.25, 0.75, 0.76]], dtype=np.float32)
    assert quantizer.codes_of(run_head(model, quantizer, values)).tolist() == [[-1, 0, 1], [0, 0, 1]]


def test_bipolar_and_threshold_inputs_have_their_codes() -> None:
    file = ForeignFile()
    model = network(file, file.add("BipolarQuant", "input", file.constant(0.5), domain=GENERAL))
    quantizer = require_input_quantizer(model)
    assert (quantizer.scale, quantizer.lowest, quantizer.highest, quantizer.step) == (Fraction(1, 2), -1, 1, 2)
    file = ForeignFile()
    table = file.constant([[-1.0, 0.0, 1.0]])
    options: dict[str, float | str] = {"out_dtype": "INT2", "out_scale": 0.5, "out_bias": -1.0}
    model = network(file, file.add("MultiThreshold", "input", table, domain=GENERAL, **options))
    quantizer = require_input_quantizer(model)
    assert (quantizer.scale, quantizer.lowest, quantizer.highest) == (Fraction(1, 2), -2, 1)


def unquantized() -> onnx.ModelProto:
    file = ForeignFile()
    return network(file, file.add("Div", file.add("Add", "input", file.constant([1.0])), file.constant(2.0)))


def test_an_input_that_is_calculated_with_first_is_not_quantized() -> None:
    assert find_input_quantizer(unquantized()) is None
    with pytest.raises(InputError, match=r"'input' is not quantized .*the file notes BIPOLAR for it.* --input TYPE"):
        require_input_quantizer(unquantized(), annotated="BIPOLAR")


def test_an_input_with_two_quantizers_or_two_scales_is_refused() -> None:
    file = ForeignFile()
    model = network(file, file.add("Add", file.quant("input", 0.5, 3), file.quant("input", 0.25, 3)))
    with pytest.raises(InputError, match=r"quantized by several nodes \(Quant_t0, Quant_t1\)"):
        require_input_quantizer(model)
    file = ForeignFile()
    model = network(file, file.quant("input", [0.5, 0.25, 0.5], 3))
    with pytest.raises(InputError, match="its input 1 must be one finite constant for all channels"):
        require_input_quantizer(model)


@pytest.mark.parametrize("text", ["uint8", "int4", "bipolar", "uint3*1/4", "uint8*1/255", "bipolar*3/7", "uint1"])
def test_a_declared_input_gives_the_exact_real_value_of_every_code(text: str) -> None:
    kind = parse_input_type(text)
    original = unquantized()
    declared = declare_input(original, kind)
    assert len(original.graph.node) == 4, "the argument is left alone"
    quantizer = require_input_quantizer(declared)
    levels = np.arange(quantizer.lowest, quantizer.highest + 1, quantizer.step)
    assert len(levels) == 1 << kind.bits
    values = (levels * float(kind.scale)).astype(np.float32)[:, None].repeat(3, axis=1)
    codes = quantizer.codes_of(run_head(declared, quantizer, values))
    assert np.array_equal(codes[:, 0], levels)
    factors = {numpy_helper.to_array(t).item() for t in declared.graph.initializer if t.name.startswith("declared")}
    exact = quantizer.scale == kind.scale
    assert exact or factors >= {kind.scale.denominator}, "the scale is a division by a whole number"
    expected = run_qonnx(original, values)
    if exact:
        assert np.array_equal(run_qonnx(declared, values), expected)
    assert len(np.unique(expected)) > 1


def test_a_quantized_input_cannot_be_declared() -> None:
    with pytest.raises(InputError, match="quantizes its input already; leave out --input"):
        declare_input(quantized(4, signed=1, narrow=0), parse_input_type("uint8"))


def test_values_off_the_grid_and_not_finite_are_refused() -> None:
    quantizer = require_input_quantizer(quantized(4, signed=1, narrow=0))
    for value, message in ((0.3, "not whole multiples of its scale 0.25"), (np.nan, "not finite")):
        with pytest.raises(InputError, match=message):
            quantizer.codes_of(np.full((1, 3), value, dtype=np.float32))


QUANTIZERS: dict[str, Callable[[onnx.NodeProto], InputQuantizer]] = {
    "uint8": lambda node: InputQuantizer(node, Fraction(1), 0, 255),
    "int2 narrow": lambda node: InputQuantizer(node, Fraction(1), -1, 1),
    "bipolar": lambda node: InputQuantizer(node, Fraction(1), -1, 1, step=2),
    "shifted": lambda node: InputQuantizer(node, Fraction(1), 5, 12),
}


@pytest.mark.parametrize("name", QUANTIZERS)
def test_drawn_codes_are_in_range_repeatable_and_include_the_boundaries(name: str) -> None:
    quantizer = QUANTIZERS[name](onnx.NodeProto())
    codes = draw_codes(quantizer, 20, 203, seed=3)
    assert codes.shape == (203, 20)
    allowed = range(quantizer.lowest, quantizer.highest + 1, quantizer.step)
    assert set(codes.reshape(-1).tolist()) <= set(allowed)
    zero = min(allowed, key=lambda code: (abs(code), -code))
    assert [set(row.tolist()) for row in codes[:2]] == [{quantizer.lowest}, {quantizer.highest}]
    assert abs(int(codes[2, 0])) == abs(zero)
    assert len(set(codes[2].tolist())) == 1
    lone = [(row != codes[2, 0]).sum() for row in codes[3:53]]
    assert max(lone) == 1
    assert any(row.max() == quantizer.highest for row in codes[3:53])
    assert set(codes[53:103].reshape(-1).tolist()) == {quantizer.lowest, quantizer.highest}
    assert len(set(codes[103:].reshape(-1).tolist())) >= min(len(allowed), 100)
    assert np.array_equal(codes, draw_codes(quantizer, 20, 203, seed=3))
    assert not np.array_equal(codes, draw_codes(quantizer, 20, 203, seed=4))


@pytest.mark.parametrize("samples", range(1, 8))
def test_few_samples_can_be_drawn(samples: int) -> None:
    assert draw_codes(InputQuantizer(onnx.NodeProto(), Fraction(1), 0, 3), 5, samples, seed=0).shape == (samples, 5)


def test_too_many_codes_are_refused() -> None:
    with pytest.raises(InputError, match="at most 64 fit: give fewer --samples"):
        draw_codes(InputQuantizer(onnx.NodeProto(), Fraction(1), 0, 3), 1 << 22, 1 << 10, seed=0)
