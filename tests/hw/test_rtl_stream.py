"""Words hold what was packed into them, for every width and sign."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitproof.hw.rtl.stream import StreamLayout


@given(st.integers(1, 48), st.booleans(), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_unpacking_undoes_packing(bits: int, signed: bool, elements: int, seed: int) -> None:
    stream = StreamLayout(bits=bits, signed=signed, elements=elements, words=3)
    codes = np.random.default_rng(seed).integers(stream.minimum, stream.maximum, size=(3, elements), endpoint=True)
    codes[0], codes[1] = stream.minimum, stream.maximum
    words = stream.pack(codes)
    assert words.shape == (3, stream.word_bytes)
    np.testing.assert_array_equal(codes, stream.unpack(words), strict=True)
    for row, word in zip(codes.tolist(), words, strict=True):
        expected = sum((code % (1 << bits)) << (bits * position) for position, code in enumerate(row))
        assert expected == int.from_bytes(word.tobytes(), "little")


@pytest.mark.parametrize("bits", range(2, 9))
@pytest.mark.parametrize("signed", [False, True])
def test_every_code_of_2_to_8_bits(bits: int, signed: bool) -> None:
    stream = StreamLayout(bits=bits, signed=signed, elements=2, words=1)
    codes = np.arange(stream.minimum, stream.maximum + 1, dtype=np.int64).reshape(-1, 2)
    np.testing.assert_array_equal(codes, stream.unpack(stream.pack(codes)), strict=True)


def test_padding_is_ignored() -> None:
    stream = StreamLayout(bits=3, signed=True, elements=2, words=1)
    assert (stream.word_bytes, stream.width_bits) == (1, 8)
    np.testing.assert_array_equal([[-4, 3]], stream.unpack(np.array([[0b11_011_100]], dtype=np.uint8)))


def test_a_code_that_does_not_fit_is_refused() -> None:
    stream = StreamLayout(bits=4, signed=False, elements=1, words=1)
    with pytest.raises(ValueError, match=r"^codes 0..16 do not fit 4-bit unsigned elements \(0..15\)$"):
        stream.pack(np.array([[0], [16]], dtype=np.int64))


def test_another_number_of_elements_is_refused() -> None:
    stream = StreamLayout(bits=4, signed=False, elements=2, words=1)
    with pytest.raises(ValueError, match=r"2 elements a word takes no codes of shape \(1, 3\)"):
        stream.pack(np.zeros((1, 3), dtype=np.int64))
