"""The class that output codes name: by the real numbers that they stand for, not by the codes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import mpmath
import numpy as np
import pytest
from agreement import Subject, random_codes, reals_of
from integer_networks import random_network
from small_graphs import Case, product, subject_of, vector
from torch_graph import evaluate

from bitproof.export.integer import Coding, IntegerModel, MatMul, TopK, classify, load, run, save
from bitproof.export.lower import lower_file
from bitproof.export.proofs import prove_lowering
from bitproof.pipeline import InputError


def test_equal_codings_compare_codes_and_the_first_of_equal_ones_wins() -> None:
    model = random_network((4, 3))
    assert classify(model, np.array([[1, 5, 5], [7, -1, 7], [-3, -2, -9]])).tolist() == [1, 0, 1]


def test_channels_of_different_scale_or_bias_are_compared_as_fractions() -> None:
    third = Coding(Fraction(1, 3))
    model = replace(
        random_network((4, 3)), output_codings=(third, Coding(Fraction(1)), Coding(Fraction(1), Fraction(1)))
    )
    # 3 * 1/3 = 1 equals code 1 of the second channel exactly: the first wins.
    assert classify(model, np.array([[3, 1, -1], [3, 1, 1], [4, 1, 0], [5, 2, 0]])).tolist() == [0, 2, 0, 1]


def test_a_single_output_is_the_sign_of_its_real_number() -> None:
    model = replace(random_network((4, 1)), output_codings=(Coding(Fraction(1, 2), Fraction(-1)),))
    assert classify(model, np.array([[2], [3], [-5]])).tolist() == [0, 1, 0]


def test_indices_of_the_largest_codes_are_the_class() -> None:
    plain = random_network((4, 3))
    model = replace(plain, nodes=(*plain.nodes, TopK("top0", 3, 2)))
    codes = np.random.default_rng(0).integers(0, 255, size=(50, 4))
    assert classify(model, run(model, codes)).tolist() == classify(plain, run(plain, codes)).tolist()


def test_square_roots_are_compared_exactly() -> None:
    half = Fraction(1, 2)
    # 2 sqrt(2) = sqrt(8); the third is larger by one part in 2^60, which binary64 does not see.
    codings = (Coding(Fraction(2), root=2), Coding(half, root=32), Coding(Fraction(2) + Fraction(1, 1 << 60), root=2))
    model = replace(random_network((4, 3)), output_codings=codings)
    assert classify(model, np.array([[1, 1, 0], [0, 1, 1], [1, 1, 1], [-1, -1, -1]])).tolist() == [0, 2, 2, 0]


def test_a_single_output_behind_a_square_root_is_the_sign_of_its_real_number() -> None:
    # 3 sqrt(2) - 4 > 0 > 2 sqrt(2) - 4, and sqrt(4) - 2 is 0.
    rooted = Coding(Fraction(1), root=2, shift=Fraction(-4))
    assert classify(replace(random_network((4, 1)), output_codings=(rooted,)), np.array([[3], [2]])).tolist() == [1, 0]
    whole = Coding(Fraction(1), root=4, shift=Fraction(-2))
    assert classify(replace(random_network((4, 1)), output_codings=(whole,)), np.array([[1], [2]])).tolist() == [0, 1]


def normalized_outputs(folder: Path, *, bias: bool = True) -> tuple[Subject, np.ndarray]:
    """Return a network whose last layer has a batch norm behind it, of both signs and with a dead channel."""
    file, source = vector()
    sums = product(file, source, 1)
    if bias:
        sums = file.add("Add", [sums, file.constant([0.3, -1.7, 0.0, 2.2])])
    random = np.random.default_rng(4)
    parameters = np.stack([*random.normal(size=(3, 4)), random.uniform(0.1, 2, size=4)]).astype(np.float32)
    parameters[0] = [0.7, -0.4, 0.0, 1.1]
    output = file.batch_norm(sums, parameters)
    return subject_of(folder, Case(file, (6,), output, (4,))), parameters.astype(np.float64)


def exactly(model: IntegerModel, codes: np.ndarray, parameters: np.ndarray) -> list[list[mpmath.mpf]]:
    """Return the outputs with 60 digits, from the matrix and the batch norm's parameters."""
    (matrix,) = (node for node in model.nodes if isinstance(node, MatMul))
    accumulators = codes @ matrix.weights.T
    offsets = [mpmath.mpf(float(np.float32(number))) for number in (0.3, -1.7, 0.0, 2.2)]
    epsilon = mpmath.mpf(float(np.float32(1e-5)))
    rows = []
    for row in accumulators.tolist():
        sums = [mpmath.mpf(total) / 8 + offset for total, offset in zip(row, offsets, strict=True)]
        rows.append(
            [
                gamma * (total - mean) / mpmath.sqrt(variance + epsilon) + beta
                for total, gamma, beta, mean, variance in zip(sums, *map(list, parameters), strict=True)
            ]
        )
    return rows


def test_a_batch_norm_behind_the_last_layer_is_in_the_output_codings(tmp_path: Path) -> None:
    with mpmath.workdps(60):
        subject, parameters = normalized_outputs(tmp_path)
        codes = random_codes(subject.model, 1, 400)
        outputs = run(subject.model, codes)
        expected = exactly(subject.model, codes, parameters)
        # Not a tolerance: 50 of 60 digits of a number that both sides hold exactly.
        for row, reals in zip(outputs.tolist(), expected, strict=True):
            for coding, code, real in zip(subject.model.output_codings, row, reals, strict=True):
                low, high = (coding.slope * code + coding.intercept).interval(180)
                assert mpmath.fabs(mpmath.mpf(low.numerator) / low.denominator - real) < mpmath.mpf(10) ** -50
                assert high - low < Fraction(1, 1 << 150)
        assert classify(subject.model, outputs).tolist() == [row.index(max(row)) for row in expected]
    assert {coding.root != 1 for coding in subject.model.output_codings} == {True, False}  # the dead one is rational
    assert [proof.claim for proof in prove_lowering(subject.lowered) if not proof.holds] == []
    floats = evaluate(subject.proto, subject.inputs(codes))[subject.output]
    assert (floats.argmax(axis=1) == classify(subject.model, outputs)).all()


def test_codings_with_square_roots_survive_their_file(tmp_path: Path) -> None:
    subject, _ = normalized_outputs(tmp_path)
    (tmp_path / "model").mkdir()
    save(subject.model, tmp_path / "model")
    again = load(tmp_path / "model")
    assert again.output_codings == subject.model.output_codings
    text = (tmp_path / "model" / "model.json").read_text()
    root = str(subject.model.output_codings[0].root)
    (tmp_path / "model" / "model.json").write_text(text.replace(f'"{root}"', '"0"'))
    with pytest.raises(InputError, match="an output coding has the root 0; it must be positive"):
        load(tmp_path / "model")


def test_a_wrong_coding_gives_other_classes(tmp_path: Path) -> None:
    subject, _ = normalized_outputs(tmp_path)
    codes = random_codes(subject.model, 1, 400)
    outputs, codings = run(subject.model, codes), subject.model.output_codings
    wrong = replace(subject.model, output_codings=(replace(codings[0], root=1), *codings[1:]))
    assert (classify(wrong, outputs) != classify(subject.model, outputs)).any()
    assert (reals_of(wrong, outputs) != reals_of(subject.model, outputs)).any()


@pytest.mark.parametrize(
    ("behind", "words"), [("Relu", "a ReLU, clip or curve"), ("BatchNormalization", "several batch norms")]
)
def test_what_has_no_coding_is_refused(tmp_path: Path, behind: str, words: str) -> None:
    file, source = vector()
    norm = [[1.0, 2.0, 3.0, 4.0], [0.5] * 4, [0.25] * 4, [0.7, 0.3, 2.0, 3.0]]
    output = file.batch_norm(product(file, source, 1), np.array(norm))
    output = file.add("Relu", [output]) if behind == "Relu" else file.batch_norm(output, np.array(norm) + 1)
    path = file.save(tmp_path / "m.onnx", 6, output, 4)
    with pytest.raises(InputError) as caught:
        lower_file(path)
    assert str(caught.value) == (
        f"{path}: the output {output!r} is made of real numbers behind {words} that no Quant node has turned into "
        "codes, which has no integer form; end the network with a matrix product, with one batch norm behind it, or "
        "with a Quant node"
    )
