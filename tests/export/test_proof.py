"""The provers themselves: each finds every fault of its kind."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from qonnx_files import qonnx_executor, random_mlp

from bitproof.export.integer import INPUT, IntegerModel, IntegerType, MatMul, Threshold
from bitproof.export.lower import lower
from bitproof.export.proofs import basis_vectors, prove_matrix_units, prove_requantization, prove_widths
from bitproof.pipeline import Codes, WeightSign


@dataclass
class FaultyRequantizer:
    """The model itself, with one code changed at one accumulator of one channel."""

    model: IntegerModel
    at: tuple[str, int, int] | None
    name: str = "faulty"
    weight_sign: WeightSign = "lowered"

    def requantize(self, node: str, first: int, last: int) -> Codes:
        layer = self.model.node(node)
        assert isinstance(layer, Threshold)
        accumulators = np.repeat(np.arange(first, last + 1, dtype=np.int64)[:, None], layer.channels, axis=1)
        codes = layer.apply(accumulators)
        if self.at is not None and self.at[0] == node and first <= self.at[2] <= last:
            codes[self.at[2] - first, self.at[1]] ^= 1
        return codes


@dataclass
class FaultyMatrixUnit:
    """The model itself, with one weight changed by one."""

    model: IntegerModel
    at: tuple[str, int, int] | None
    name: str = "faulty"

    def multiply(self, node: str, codes: Codes) -> Codes:
        layer = self.model.node(node)
        assert isinstance(layer, MatMul)
        weights = layer.weights.copy()
        if self.at is not None and self.at[0] == node:
            weights[self.at[1], self.at[2]] += 1
        return MatMul(node, weights, IntegerType(8, signed=True)).apply(codes)


@pytest.fixture
def model(tmp_path: Path) -> IntegerModel:
    return lower(random_mlp(tmp_path / "export" / "model.onnx", 4))[0]


def test_sweep_finds_a_single_wrong_code(model: IntegerModel) -> None:
    assert all(proof.holds for proof in prove_requantization(model, FaultyRequantizer(model, None)))
    reachable = model.values[model.nodes_of(MatMul)[1].name].ranges
    for accumulator in (reachable[2].low, reachable[2].high):
        proofs = prove_requantization(model, FaultyRequantizer(model, ("act1", 2, accumulator)))
        assert [proof.holds for proof in proofs] == [True, False]
        assert proofs[1].failing == 1
        assert proofs[1].first is not None
        assert (proofs[1].first["channel"], proofs[1].first["accumulator"]) == (2, accumulator)
    unreachable = FaultyRequantizer(model, ("act1", 2, reachable[2].high + 1))
    assert all(proof.holds for proof in prove_requantization(model, unreachable))


def test_every_single_weight_shows_in_the_basis_vectors(model: IntegerModel) -> None:
    assert all(proof.holds for proof in prove_matrix_units(model, FaultyMatrixUnit(model, None), 0))
    for layer, node in enumerate(model.nodes_of(MatMul)):
        for row in range(node.outputs):
            for column in range(node.inputs):
                proofs = prove_matrix_units(model, FaultyMatrixUnit(model, (node.name, row, column)), 0)
                assert not proofs[layer].holds


def test_basis_vectors_are_codes_of_the_value() -> None:
    node = MatMul("fc0", np.array([[1, -1], [0, 1]], dtype=np.int64), IntegerType(2, signed=True))
    kinds = {range(16): IntegerType(4, signed=False), range(-1, 2, 2): IntegerType(2, signed=True)}
    for codes, kind in kinds.items():
        model = IntegerModel("net", kind, Fraction(1), (2,), (node,), Fraction(1), input_codes=codes)
        vectors = basis_vectors(node, model.values[INPUT], 0)
        assert set(np.unique(vectors).tolist()) <= set(codes)
        assert (vectors.min(), vectors.max()) == (codes[0], codes[-1])
        assert (node.apply(vectors[0:1]) != node.apply(vectors[1:2])).any()


def test_flipped_channels_of_the_float_reference_are_swept_in_their_own_sign(tmp_path: Path) -> None:
    path = random_mlp(tmp_path / "export" / "model.onnx", 6)
    model, _ = lower(path)
    assert any(node.flipped.any() for node in model.nodes_of(Threshold))
    executor = qonnx_executor(path)
    assert all(proof.holds for proof in prove_requantization(model, executor))
    executor.weight_sign = "trained"  # the wrong convention must not pass
    assert not all(proof.holds for proof in prove_requantization(model, executor))


@pytest.mark.parametrize(("weight", "width"), [(1 << 23, 32), ((1 << 23) + 1, 64)])
def test_width_proof_is_of_64_bits_one_beyond_32(weight: int, width: int) -> None:
    # The smallest accumulator is -128 * (weight + 2^23): exactly -2^31, or 128 below it.
    node = MatMul("fc0", np.array([[weight, 1 << 23]], dtype=np.int64), IntegerType(25, signed=True))
    model = IntegerModel("m", IntegerType(8, signed=True), Fraction(1), (2,), (node,), Fraction(1))
    proof = prove_widths(model)[0]
    assert proof.holds
    assert proof.claim.endswith(f"never over {width}")
