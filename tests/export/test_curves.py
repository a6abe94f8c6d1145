"""Curves between accumulator and quantizer: thresholds, proofs and codes against mpmath and exact fractions."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
from qonnx_files import QonnxFile
from small_graphs import product, vector

from bitproof.export.integer import Activation, Bipolar, Chain, IntegerType, Interval, Quantizer, Rounding, Threshold
from bitproof.export.integer.activation import thresholds_of
from bitproof.export.integer.curve import Curve
from bitproof.export.integer.monotone import Bent, Clamped, Scaled, Sign, Tanh
from bitproof.export.integer.surd import Surd
from bitproof.export.lower import lower_file
from bitproof.export.proofs.thresholds import levels_of, prove_thresholds
from bitproof.pipeline import InputError

HALF = Fraction(1, 2)
REACHABLE = Interval(-700, 650)

Real = Callable[[mpmath.mpf], mpmath.mpf]


def bent(below: Fraction) -> Callable[[mpmath.mpf], mpmath.mpf]:
    return lambda x: x * below.numerator / below.denominator if x < 0 else x


def start(slope: str = "1/64", offset: str = "-1/3") -> Chain:
    return Chain.of(Fraction(slope), Fraction(offset))


def real(slope: str = "1/64", offset: str = "-1/3") -> Real:
    pairs = [Fraction(slope), Fraction(offset)]
    return lambda a: (
        a * pairs[0].numerator / pairs[0].denominator + mpmath.mpf(pairs[1].numerator) / pairs[1].denominator
    )


def norm(chain: Chain, gamma: int) -> Chain:
    return chain.normalized(gamma=gamma, beta=Fraction(1, 8), mean=Fraction(1, 3), variance=Fraction(3))


def real_norm(x: mpmath.mpf, gamma: int) -> mpmath.mpf:
    return gamma * (x - mpmath.mpf(1) / 3) / mpmath.sqrt(3) + mpmath.mpf(1) / 8


QUARTER = Fraction(1, 4)
CURVES: dict[str, tuple[Chain, Real]] = {
    "leaky": (start().curved(Bent(QUARTER, Fraction(1))), lambda a: bent(QUARTER)(real()(a))),
    "flat below": (start().curved(Bent(Fraction(0), Fraction(1))), lambda a: max(real()(a), mpmath.mpf(0))),
    "leaky between norms": (
        norm(norm(start(), 2).curved(Bent(QUARTER, Fraction(1))), 3),
        lambda a: real_norm(bent(QUARTER)(real_norm(real()(a), 2)), 3),
    ),
    "leaky behind a norm that falls, twice": (
        norm(norm(start(), -2).curved(Bent(QUARTER, Fraction(1))), -3),
        lambda a: real_norm(bent(QUARTER)(real_norm(real()(a), -2)), -3),
    ),
    "clamped leaky": (
        start().clamped(-2, None).curved(Bent(QUARTER, Fraction(1))).clamped(None, 3),
        lambda a: min(bent(QUARTER)(max(real()(a), mpmath.mpf(-2))), mpmath.mpf(3)),
    ),
    "tanh": (start().curved(Tanh()), lambda a: mpmath.tanh(real()(a))),
    "sigmoid": (
        start().times(HALF).curved(Tanh()).times(HALF).plus(HALF),
        lambda a: 1 / (1 + mpmath.exp(-real()(a))),
    ),
    "sigmoid turned around, of a norm": (
        norm(start(), -1).times(HALF).curved(Tanh()).times(HALF).plus(HALF).times(-1),
        lambda a: -1 / (1 + mpmath.exp(-real_norm(real()(a), -1))),
    ),
    "norm of tanh of leaky": (
        norm(start().curved(Bent(QUARTER, Fraction(1))).curved(Tanh()), 5),
        lambda a: real_norm(mpmath.tanh(bent(QUARTER)(real()(a))), 5),
    ),
    "leaky of tanh, clipped": (
        start().curved(Tanh()).curved(Bent(QUARTER, Fraction(1))).clamped(Fraction(-1, 5), HALF),
        lambda a: min(max(bent(QUARTER)(mpmath.tanh(real()(a))), mpmath.mpf(-1) / 5), mpmath.mpf(1) / 2),
    ),
    "relu of tanh": (start().curved(Tanh()).clamped(0, None), lambda a: max(mpmath.tanh(real()(a)), mpmath.mpf(0))),
    "sign": (start(offset="1/2").curved(Sign()), lambda a: mpmath.sign(real(offset="1/2")(a))),
    "sign, turned around and moved": (
        start(offset="1/2").curved(Sign()).times(-2).plus(QUARTER),
        lambda a: -2 * mpmath.sign(real(offset="1/2")(a)) + mpmath.mpf(1) / 4,
    ),
}

QUANTIZERS: dict[str, Quantizer | Bipolar] = {
    "signed": Quantizer(Fraction(1, 10), 0, -16, 15, Rounding.ROUND),
    "ties up": Quantizer(QUARTER, 0, -8, 7, Rounding.HALF_UP),
    "floor": Quantizer(Fraction(1, 16), 0, -128, 127, Rounding.FLOOR),
    "bipolar": Bipolar(),
}


def rising(name: str, quantization: Quantizer | Bipolar) -> tuple[Activation, int]:
    """Return the activation in the sign in which it rises, and the sign of its accumulators."""
    activation = Activation(CURVES[name][0], quantization)
    return (activation.negated(), -1) if activation.chain.direction < 0 else (activation, 1)


def threshold(activation: Activation, rows: list[int]) -> Threshold:
    quantization = activation.quantization
    highest = quantization.lowest + quantization.step * quantization.levels
    kind = IntegerType.smallest_for(quantization.lowest, highest)
    flipped = np.zeros(1, dtype=np.bool_)
    return Threshold("act", np.array([rows]), kind, quantization.lowest, flipped, quantization.step)


def code_of(value: mpmath.mpf, quantization: Quantizer | Bipolar) -> int:
    """Return the code of *value* by its 80 digits; what agrees with a boundary on 70 is a tie, of which some are."""

    def reached(level: int) -> bool:
        boundary, inclusive = quantization.boundary(level)
        gap = value - mpmath.mpf(boundary.numerator) / boundary.denominator
        return inclusive if mpmath.fabs(gap) < mpmath.mpf(10) ** -70 else bool(gap > 0)

    level = bisect_left(range(1, quantization.levels + 1), True, key=lambda level: not reached(level))
    return quantization.lowest + quantization.step * level


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("name", CURVES)
def test_thresholds_and_codes_are_those_of_eighty_digits(name: str, quantizer: str) -> None:
    quantization = QUANTIZERS[quantizer]
    activation, sign = rising(name, quantization)
    node = threshold(activation, thresholds_of(activation, REACHABLE))
    rows = node.thresholds[0].tolist()
    beside = {a for at in rows for a in (at - 1, at, at + 1) if REACHABLE.low <= a <= REACHABLE.high}
    accumulators = sorted(beside.union(range(REACHABLE.low, REACHABLE.high + 1, 9)))
    codes = node.apply(np.array(accumulators)[:, None])[:, 0].tolist()
    with mpmath.workdps(80):
        function = CURVES[name][1]
        expected = [code_of(function(mpmath.mpf(sign * a)), quantization) for a in accumulators]
    assert codes == expected
    assert [activation.code(a) for a in accumulators] == expected
    proof = prove_thresholds(node, [activation], [REACHABLE])
    assert (proof.holds, proof.failing) == (True, 0)


@pytest.mark.parametrize("name", CURVES)
def test_both_proofs_find_every_moved_threshold(name: str) -> None:
    activation, _ = rising(name, QUANTIZERS["signed"])
    rows = thresholds_of(activation, REACHABLE)
    inside = [level for level, at in enumerate(rows) if REACHABLE.low < at <= REACHABLE.high]
    assert inside
    for level in inside[:: max(1, len(inside) // 3)]:
        for move in (-1, 1):
            moved = sorted([*rows[:level], rows[level] + move, *rows[level + 1 :]])
            proof = prove_thresholds(threshold(activation, moved), [activation], [REACHABLE])
            assert not proof.holds
            assert proof.first is not None


def test_tanh_never_reaches_one_although_floats_say_so() -> None:
    # The boundary of code 1 is 1 exactly. tanh(40) is 1 in binary64, and less than 1 by 10^-34.
    activation = Activation(Chain.of(Fraction(1)).curved(Tanh()), Quantizer(Fraction(1), 0, -1, 1, Rounding.FLOOR))
    assert np.tanh(40.0) == 1.0
    assert [activation.code(a) for a in (-40, -1, 0, 1, 40, 10**9)] == [-1, -1, 0, 0, 0, 0]
    assert thresholds_of(activation, Interval(-50, 50)) == [0, 51]
    almost = Quantizer(1 - Fraction(1, 10**40), 0, -1, 1, Rounding.FLOOR)
    assert thresholds_of(replace(activation, quantization=almost), Interval(-50, 50)) == [0, 47]


def test_beside_the_ends_of_tanh_no_digits_are_needed() -> None:
    # exp(10^9) has 10^9 bits: as many would be needed to tell the tanh from 1 by an enclosure.
    far = Surd.of(10**9)
    below_one = Curve().then(Tanh()).then(Scaled(Surd.of(1), Surd.of(-1)))
    assert below_one.image(far).sign_beyond(Fraction(0)) == -1
    assert below_one.reflected().image(-far).sign_beyond(Fraction(0)) == 1
    assert below_one.then(Sign()).image(far).sign_beyond(-HALF) == -1
    assert below_one.then(Clamped(Surd.of(0), None)).image(far).sign_beyond(Fraction(0)) == 0
    assert below_one.then(Bent(Fraction(0), Fraction(1))).image(far).sign_beyond(Fraction(0)) == 0
    assert below_one.then(Bent(QUARTER, Fraction(1))).image(far).sign_beyond(Fraction(0)) == -1
    assert Curve().then(Tanh()).then(Clamped(None, Surd.of(1))).image(far).sign_beyond(Fraction(1)) == -1
    assert Curve().then(Tanh()).then(Clamped(None, Surd.of(HALF))).image(far).sign_beyond(HALF) == 0


def test_zero_is_exact() -> None:
    for inclusive, first in ((Rounding.FLOOR, 5), (Rounding.CEIL, 6)):
        quantization = Quantizer(Fraction(1), 0, -1 if inclusive is Rounding.FLOOR else 0, 1, inclusive)
        activation = Activation(Chain.of(Fraction(1), -5).curved(Tanh()), quantization)
        rows = thresholds_of(activation, Interval(-100, 100))
        assert first in rows
        assert levels_of(activation, Interval(-100, 100)).tolist() == [
            sum(at <= a for at in rows) for a in range(-100, 101)
        ]


def test_a_second_tanh_and_falling_slopes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two of Tanh and Sigmoid behind each other are not decided"):
        Curve().then(Tanh()).then(Tanh())
    with pytest.raises(ValueError, match="a curve that falls is none"):
        Bent(Fraction(-1), Fraction(1))

    def refused(make: Callable[[QonnxFile, str], str]) -> str:
        file, source = vector()
        output = file.quant(make(file, product(file, source, 1)), 0.5, 4, signed=1)
        with pytest.raises(InputError) as caught:
            lower_file(file.save(tmp_path / "m.onnx", 6, output, 4))
        return str(caught.value).splitlines()[1].split(": ", 1)[1]

    assert refused(lambda f, x: f.add("Sigmoid", [f.add("Tanh", [x])])) == (
        "follows another Tanh or Sigmoid, so that equality with a boundary cannot be decided; put a Quant node between "
        "the two"
    )
    assert refused(lambda f, x: f.add("LeakyRelu", [x], alpha=-0.5)) == (
        "has the slope -0.5 for negative numbers; supported: 0 or more, with which it never falls"
    )
    assert refused(lambda f, x: f.add("MatMul", [f.add("Tanh", [x]), f.weights(np.ones((4, 4)))])) == (
        "takes real numbers behind a curve such as LeakyRelu or Tanh that no Quant node has turned into codes; put a "
        "Quant node before it"
    )
