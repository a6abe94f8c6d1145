"""Parity: equal or not, never nearly."""

from __future__ import annotations

import hashlib
import struct

import numpy as np
import pytest

from bitproof.pipeline import GateError, compare_codes, outputs_sha256
from bitproof.pipeline.parity import Mismatch

NAMES = ("integer", "other")


def test_equal_codes_pass() -> None:
    codes = np.arange(6, dtype=np.int64).reshape(2, 3)
    report = compare_codes(codes, codes.copy(), names=NAMES, origin="test[0:2]")
    assert report.ok
    report.require()
    assert report.summary() == "other against integer on test[0:2]: 6 codes, all equal"


def test_the_first_differing_code_is_named() -> None:
    expected = np.zeros((3, 4), dtype=np.int64)
    actual = expected.copy()
    actual[1, 2] = 7
    actual[2, 0] = 9
    report = compare_codes(expected, actual, names=NAMES, origin="test[0:3]")
    assert report.first == Mismatch(1, 2, 0, 7)
    with pytest.raises(GateError) as caught:
        report.require()
    assert str(caught.value) == (
        "other against integer on test[0:3]: 2 of 12 codes differ, first at image 1, class 2: expected code 0, got 7"
    )


def test_nothing_compared_is_a_failure() -> None:
    empty = np.zeros((0, 4), dtype=np.int64)
    report = compare_codes(empty, empty, names=NAMES, origin="test[0:0]")
    assert not report.ok
    with pytest.raises(GateError, match="nothing was compared"):
        report.require()


def test_shapes_and_types_are_never_coerced() -> None:
    codes = np.zeros((2, 3), dtype=np.int64)
    with pytest.raises(ValueError, match=r"other returned shape \(3, 2\); integer returned \(2, 3\)"):
        compare_codes(codes, codes.T, names=NAMES, origin="x")
    with pytest.raises(TypeError, match="other returned float64"):
        compare_codes(codes, codes.astype(np.float64), names=NAMES, origin="x")


def test_output_digest_is_that_of_little_endian_int64_in_c_order() -> None:
    codes = np.array([[1, -2], [3, 4]], dtype=np.int64)
    expected = hashlib.sha256(struct.pack("<4q", 1, -2, 3, 4)).hexdigest()
    assert outputs_sha256(codes) == expected
    assert outputs_sha256(np.asfortranarray(codes).astype(">i8")) == expected
