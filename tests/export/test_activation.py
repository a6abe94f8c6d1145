"""Activations against QONNX's own functions and against the definition in decimals of 150 digits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import product
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from qonnx.custom_op.general.bipolar_quant import binary_quant
from qonnx.custom_op.general.intquant import int_quant, max_int, min_int, resolve_rounding_mode
from qonnx.custom_op.general.trunc import trunc_v1, trunc_v2

from bitproof.export.integer import Interval
from bitproof.export.integer.activation import (
    Activation,
    Bipolar,
    Chain,
    Quantization,
    Quantizer,
    Rounding,
    Truncation,
    thresholds_of,
)
from bitproof.export.integer.surd import Surd

GRID = np.arange(-160, 161) / 16
"""From -10 to 10, every tie of halves, of quarters and of eighths and their neighbours included, exact in binary."""
NAMES = [*(mode.value for mode in Rounding), "HALF_EVEN", "half_even", "round", "Half_Up"]
REACHABLE = Interval(-40, 40)


def codes_on(values: NDArray[np.float64], quantization: Quantization) -> list[int]:
    """Codes of real numbers that are multiples of a sixteenth."""
    activation = Activation(Chain.of(Fraction(1, 16)), quantization)
    return [activation.code(int(sixteenths)) for sixteenths in (values * 16).tolist()]


@pytest.mark.parametrize("name", NAMES)
def test_every_rounding_is_that_of_qonnx(name: str) -> None:
    rounded = resolve_rounding_mode(name)(GRID)
    for integer in range(-9, 10):
        at, inclusive = Rounding.parse(name).boundary(integer)
        reached = [Fraction(x) > at or (inclusive and Fraction(x) == at) for x in GRID.tolist()]
        assert reached == (rounded >= integer).tolist()


def test_a_rounding_that_qonnx_lacks_is_refused() -> None:
    allowed = "ROUND, CEIL, FLOOR, UP, DOWN, HALF_UP, HALF_DOWN, HALF_EVEN"
    with pytest.raises(ValueError, match=f"^rounding mode 'stochastic' is not one of QONNX: {allowed}$"):
        Rounding.parse("stochastic")


@pytest.mark.parametrize("mode", list(Rounding))
@pytest.mark.parametrize("zero_point", [0, 1, -2, 3])
def test_quantizers_are_those_of_qonnx(mode: Rounding, zero_point: int) -> None:
    # QONNX saturates before it rounds; the quantizer's codes saturate after.
    for bits, signed, narrow, scale in product((1, 2, 3), (True, False), (True, False), (1.0, 0.5, 2.0)):
        width = np.array(float(bits))
        expected = int_quant(GRID, np.array(scale), np.array(float(zero_point)), width, signed, narrow, mode.value)
        quantization: Quantization
        if signed and bits == 1:
            quantization = Bipolar(Fraction(scale), zero_point)
        else:
            ends = [int(end(signed, narrow, width)) - zero_point for end in (min_int, max_int)]
            quantization = Quantizer(Fraction(scale), zero_point, ends[0], ends[1], mode)
        assert [code * scale for code in codes_on(GRID, quantization)] == expected.tolist()


@pytest.mark.parametrize("scale", [1.0, 0.25, 3.0])
def test_bipolar_codes_are_those_of_qonnx(scale: float) -> None:
    assert [code * scale for code in codes_on(GRID, Bipolar())] == binary_quant(GRID, np.array(scale)).tolist()


@pytest.mark.parametrize("mode", list(Rounding))
@pytest.mark.parametrize("values", [GRID, np.arange(-40, 41) / 4], ids=["between codes", "codes"])
def test_truncations_are_those_of_qonnx(mode: Rounding, values: NDArray[np.float64]) -> None:
    scale = Fraction(1, 4)
    for bits, zero_point in product((0, 1, 2, 3), (0, 3, -8)):
        arguments = np.array(0.25), np.array(float(zero_point))
        first = trunc_v1(values, *arguments, np.array(8.0), np.array(8.0 - bits), mode.value)
        version_1 = Truncation.version_1(
            scale=scale, zero_point=zero_point, dropped_bits=bits, inputs=(-40, 40), rounding=mode
        )
        assert [code * 0.25 for code in codes_on(values, version_1)] == first.tolist()
    for exponent, zero_point, signed, narrow in product((-1, 0, 1, 2), (0, 8, -4), (True, False), (True, False)):
        output, width = 0.25 * 2.0**exponent, np.array(4.0)
        arguments = np.array(0.25), np.array(float(zero_point))
        second = trunc_v2(values, *arguments, None, narrow, signed, np.array(output), width, mode.value)
        version_2 = Truncation.version_2(
            scale=scale,
            output_scale=Fraction(output),
            zero_point=zero_point,
            limits=(int(min_int(signed, narrow, width)), int(max_int(signed, narrow, width))),
            rounding=mode,
        )
        assert [code * output for code in codes_on(values, version_2)] == second.tolist()


def test_truncations_without_integer_codes_are_refused() -> None:
    def version_2(output_scale: Fraction, zero_point: int) -> Truncation:
        return Truncation.version_2(
            scale=Fraction(1), output_scale=output_scale, zero_point=zero_point, limits=(0, 15), rounding=Rounding.FLOOR
        )

    with pytest.raises(ValueError, match=r"^output scale over scale is 3; Trunc needs a power of two$"):
        version_2(Fraction(3), 0)
    with pytest.raises(ValueError, match=r"^zero point 3 over 2 is 3/2; it must be an integer to have codes$"):
        version_2(Fraction(2), 3)


Operation = tuple[Literal["times", "plus", "normalized", "relu", "clamp"], tuple[Fraction, ...]]

fractions = st.fractions(min_value=-8, max_value=8, max_denominator=64)
positive = st.fractions(min_value=Fraction(1, 64), max_value=8, max_denominator=64)
# Squares make the root rational, so that exact ties occur; others make it irrational.
variances = st.one_of(positive, positive.map(lambda root: root * root))
coarse = st.integers(-8, 8).map(lambda n: Fraction(n, 4))
reals = st.one_of(fractions, coarse, st.just(Fraction(0)))
operations: st.SearchStrategy[Operation] = st.one_of(
    st.tuples(st.just("times"), st.tuples(reals)),
    st.tuples(st.just("plus"), st.tuples(reals)),
    st.tuples(st.just("normalized"), st.tuples(reals, reals, reals, variances)),
    st.tuples(st.just("relu"), st.just(())),
    st.tuples(st.just("clamp"), st.tuples(reals, reals).map(sorted).map(tuple)),
)
programs = st.tuples(reals, reals, st.lists(operations, max_size=5))
Program = tuple[Fraction, Fraction, list[Operation]]


def chain_of(program: Program) -> Chain:
    scale, offset, steps = program
    chain = Chain.of(scale, offset)
    for name, constants in steps:
        match name:
            case "times":
                chain = chain.times(*constants)
            case "plus":
                chain = chain.plus(*constants)
            case "normalized":
                gamma, beta, mean, variance = constants
                chain = chain.normalized(gamma=gamma, beta=beta, mean=mean, variance=variance)
            case "relu":
                chain = chain.clamped(0, None)
            case "clamp":
                chain = chain.clamped(*constants)
    return chain


def decimal(value: Fraction) -> Decimal:
    return Decimal(value.numerator) / Decimal(value.denominator)


def run(program: Program, accumulator: int) -> Decimal:
    """Evaluate step by step, in the context's precision."""
    scale, offset, steps = program
    value = decimal(scale * accumulator + offset)
    for name, constants in steps:
        numbers = [decimal(constant) for constant in constants]
        match name:
            case "times":
                value *= numbers[0]
            case "plus":
                value += numbers[0]
            case "normalized":
                value = numbers[0] * (value - numbers[2]) / numbers[3].sqrt() + numbers[1]
            case "relu":
                value = max(value, Decimal(0))
            case "clamp":
                value = min(max(value, numbers[0]), numbers[1])
    return value


def code_by_definition(program: Program, quantizer: Quantizer, accumulator: int) -> int:
    """Round with QONNX's function, by hand if the decimals lie within 1e-100 of a half integer."""
    with localcontext() as context:
        context.prec = 150
        steps = run(program, accumulator) / decimal(quantizer.scale) + quantizer.zero_point
        doubled = (steps * 2).to_integral_value()
        if abs(steps * 2 - doubled) < Decimal("1e-100"):
            exact = float(doubled) / 2
        else:  # any number strictly between the same two half integers rounds alike
            exact = float((steps * 2).to_integral_value(rounding="ROUND_FLOOR")) / 2 + 0.25
        rounded = int(resolve_rounding_mode(quantizer.rounding.value)(np.float64(exact)))
    return min(max(rounded - quantizer.zero_point, quantizer.lowest), quantizer.highest)


quantizers = st.builds(
    lambda scale, zero_point, lowest, levels, rounding: Quantizer(scale, zero_point, lowest, lowest + levels, rounding),
    st.one_of(positive, st.sampled_from([Fraction(1), Fraction(1, 2), Fraction(1, 4)])),
    st.integers(-3, 3),
    st.integers(-9, 2),
    st.integers(0, 15),
    st.sampled_from(list(Rounding)),
)


@given(programs, st.integers(-60, 60))
@settings(max_examples=300, deadline=None)
def test_a_chain_has_the_value_of_its_steps_in_their_order(program: Program, accumulator: int) -> None:
    chain = chain_of(program)
    low, high = chain.value(accumulator).interval(400)
    with localcontext() as context:
        context.prec = 150
        value, slack = run(program, accumulator), Decimal("1e-100")
        assert decimal(low) - slack <= value <= decimal(high) + slack
        beside = run(program, accumulator + 1)
        assert abs(beside - value) < slack or (beside > value) == (chain.direction > 0)
    assert chain.negated().value(-accumulator) == chain.value(accumulator)
    assert chain.negated().direction == -chain.direction


@pytest.mark.slow
@given(programs, quantizers)
@settings(max_examples=300, deadline=None)
def test_codes_and_thresholds_are_those_of_the_definition(program: Program, quantizer: Quantizer) -> None:
    activation = Activation(chain_of(program), quantizer)
    flip = activation.chain.direction < 0
    thresholds = thresholds_of(activation.negated() if flip else activation, REACHABLE)
    assert thresholds == sorted(thresholds)
    assert len(thresholds) == quantizer.levels
    assert all(REACHABLE.low <= threshold <= REACHABLE.high + 1 for threshold in thresholds)
    for accumulator in range(REACHABLE.low, REACHABLE.high + 1, 3):
        expected = code_by_definition(program, quantizer, accumulator)
        assert activation.code(accumulator) == expected
        assert activation.negated().code(-accumulator) == expected
        counted = sum(threshold <= (-accumulator if flip else accumulator) for threshold in thresholds)
        assert quantizer.lowest + counted == expected
        for level in range(1, quantizer.levels + 1):
            assert activation.reaches(level, accumulator) is (expected >= quantizer.lowest + level)


@pytest.mark.parametrize(
    ("rounding", "expected"),
    [
        # y = a / 2, one code a unit: the smallest a that gives -1, 0, 1, 2
        (Rounding.ROUND, [-2, -1, 2, 3]),
        (Rounding.HALF_UP, [-2, 0, 1, 3]),
        (Rounding.HALF_DOWN, [-3, -1, 2, 4]),
        (Rounding.FLOOR, [-2, 0, 2, 4]),
        (Rounding.CEIL, [-3, -1, 1, 3]),
        (Rounding.DOWN, [-3, -1, 2, 4]),
        (Rounding.UP, [-2, 0, 1, 3]),
    ],
)
def test_ties_and_integers_fall_as_each_rounding_says(rounding: Rounding, expected: list[int]) -> None:
    activation = Activation(Chain.of(Fraction(1, 2)), Quantizer(Fraction(1), 0, -2, 2, rounding))
    assert thresholds_of(activation, REACHABLE) == expected


def test_a_tie_goes_to_the_even_integer_before_the_zero_point_is_taken_off() -> None:
    chain = Chain.of(Fraction(1, 2))
    assert thresholds_of(Activation(chain, Quantizer(Fraction(1), 0, 0, 2, Rounding.ROUND)), REACHABLE) == [2, 3]
    assert thresholds_of(Activation(chain, Quantizer(Fraction(1), 1, 0, 2, Rounding.ROUND)), REACHABLE) == [1, 4]


def test_a_relu_before_a_batch_norm_clamps_below_what_the_norm_adds() -> None:
    norm: Callable[[Chain], Chain] = lambda chain: chain.normalized(  # noqa: E731
        gamma=Fraction(1), beta=Fraction(2), mean=Fraction(1), variance=Fraction(4)
    )
    quantizer = Quantizer(Fraction(1), 0, 0, 3, Rounding.FLOOR)
    # max(a, 0) -> (y - 1) / 2 + 2 is 1.5 at a <= 0: level 1 always; level 2 at a = 1; level 3 at a = 3.
    before = Activation(norm(Chain.of(Fraction(1)).clamped(0, None)), quantizer)
    assert thresholds_of(before, REACHABLE) == [-40, 1, 3]
    after = Activation(norm(Chain.of(Fraction(1))).clamped(0, None), quantizer)
    assert thresholds_of(after, REACHABLE) == [-1, 1, 3]


def test_two_batch_norms_in_a_row_have_two_square_roots() -> None:
    chain = Chain.of(Fraction(1))
    for variance in (Fraction(2), Fraction(3)):
        chain = chain.normalized(gamma=Fraction(1), beta=Fraction(1), mean=Fraction(0), variance=variance)
    assert [radicand for radicand, _ in chain.slope.terms] == [6]
    assert [radicand for radicand, _ in chain.intercept.terms] == [1, 3]
    # a / sqrt(6) + 1 / sqrt(3) + 1 >= k - 1/2: a >= sqrt(6) * (k - 3/2) - sqrt(2) = -2.64, -0.19, 2.26, 4.71
    quantizer = Quantizer(Fraction(1), 0, 0, 4, Rounding.ROUND)
    assert thresholds_of(Activation(chain, quantizer), REACHABLE) == [-2, 0, 3, 5]


@pytest.mark.parametrize("gamma", [Fraction(0), Fraction(1)])
def test_a_dead_channel_is_constant(gamma: Fraction) -> None:
    chain = Chain.of(1 - gamma, 5).normalized(gamma=gamma, beta=Fraction(3), mean=Fraction(5), variance=Fraction(2))
    assert chain.direction == 0
    quantizer = Quantizer(Fraction(1), 0, 1, 5, Rounding.FLOOR)
    assert thresholds_of(Activation(chain, quantizer), REACHABLE) == [-40, -40, 41, 41]
    assert {Activation(chain, quantizer).code(a) for a in (-(10**9), 0, 10**9)} == {3}
    # A clamp that leaves one number only makes a channel constant too, whatever its slope.
    narrow = Activation(Chain.of(Fraction(1)).clamped(2, 3).clamped(3, None), quantizer)
    assert thresholds_of(narrow, REACHABLE) == [-40, -40, 41, 41]


def test_thresholds_outside_the_reachable_accumulators_become_its_ends() -> None:
    quantizer = Quantizer(Fraction(1), 0, -100, 100, Rounding.ROUND)
    thresholds = thresholds_of(Activation(Chain.of(Fraction(1)), quantizer), REACHABLE)
    assert thresholds == [min(max(code, -40), 41) for code in range(-99, 101)]


def test_bipolar_thresholds_are_one_a_channel() -> None:
    rising = Activation(Chain.of(Fraction(1), Fraction(-5, 2)), Bipolar())
    assert thresholds_of(rising, REACHABLE) == [3]
    assert [rising.code(a) for a in (2, 3)] == [-1, 1]
    falling = Activation(Chain.of(Fraction(-1), Fraction(5)), Bipolar())
    assert [falling.code(a) for a in (5, 6)] == [1, -1]  # 0 counts as positive
    assert thresholds_of(falling.negated(), REACHABLE) == [-5]


def test_what_is_not_a_chain_or_a_quantizer_is_refused() -> None:
    falling = Activation(Chain.of(Fraction(-1)), Bipolar())
    with pytest.raises(ValueError, match="negate a channel of negative slope"):
        thresholds_of(falling, REACHABLE)
    with pytest.raises(ValueError, match=r"^clamps to \[1, 0\], which is empty$"):
        falling.chain.clamped(1, 0)
    with pytest.raises(ValueError, match="which is empty"):
        replace(falling.chain, low=Surd.of(1), high=Surd.of(0))
    with pytest.raises(ValueError, match="has several terms"):
        Chain(Surd.of(1).over_root(Fraction(2)) + 1, Surd.of(0))
    with pytest.raises(ValueError, match="must be positive"):
        falling.chain.normalized(gamma=1, beta=0, mean=0, variance=Fraction(0))
    with pytest.raises(ValueError, match=r"^scale must be positive, not 0$"):
        Quantizer(Fraction(0), 0, 0, 1, Rounding.ROUND)
    with pytest.raises(ValueError, match=r"^codes 2\.\.1 are none$"):
        Quantizer(Fraction(1), 0, 2, 1, Rounding.ROUND)
