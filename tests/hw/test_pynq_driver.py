"""The driver, unchanged, on a simulated board: all codes equal, a flipped weight caught, and no wait without an end."""

from __future__ import annotations

import json
import os
import subprocess  # noqa: TID251  the self-test is a program of its own, as on a board
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pynq_boards import IMAGES, PynqCase

from bitproof.hw.pynq.board import bitproof_driver as driver
from bitproof.hw.pynq.bundle import Bitstream, read_bundle
from bitproof.hw.pynq.design import board_stream
from bitproof.hw.pynq.simulated import fabric
from bitproof.hw.pynq.simulated import pynq as simulated
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.pipeline import InputError

pytestmark = [pytest.mark.tool, pytest.mark.xdist_group("pynq")]


@pytest.fixture(autouse=True)
def _simulated_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynq", simulated)


@pytest.fixture(scope="module")
def bitstream(pynq_case: PynqCase) -> Bitstream:
    return pynq_case.bitstream()


@pytest.fixture
def bundle(pynq_case: PynqCase, bitstream: Bitstream, tmp_path: Path) -> Path:
    return pynq_case.bundle(tmp_path / "bundle", bitstream)


@pytest.fixture
def accelerator(bundle: Path) -> Iterator[driver.Accelerator]:
    with driver.Accelerator(bundle, batch=7, timeout_s=5) as opened:
        yield opened


def selftest(folder: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Run the self-test of the bundle in *folder* as the board does."""
    environment = {**os.environ, "PYTHONPATH": str(fabric.MODULE.parent)}  # noqa: TID251
    argv = [sys.executable, "-W", "error", str(folder / "selftest.py"), "--repeats", "1", "--timeout", "5", *arguments]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads((folder / "result.json").read_text())


@given(st.integers(1, 48), st.booleans(), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_the_drivers_words_are_those_of_the_stream(
    bits: int, signed: bool, elements: int, words: int, seed: int
) -> None:
    layout = StreamLayout(bits=bits, signed=signed, elements=elements, words=words)
    padded = board_stream(layout, "x")
    stream = driver.Stream(padded.model_dump())
    draw = np.random.default_rng(seed)
    codes = draw.integers(layout.minimum, layout.maximum, (5, layout.channels), endpoint=True)
    codes[0], codes[1] = layout.minimum, layout.maximum
    packed = stream.pack(codes)
    beats = packed.reshape(-1, padded.beat_bytes)
    np.testing.assert_array_equal(layout.pack(codes.reshape(-1, elements)), beats[:, : layout.word_bytes])
    assert not beats[:, layout.word_bytes :].any()
    np.testing.assert_array_equal(codes, stream.unpack(packed), strict=True)
    assert (stream.minimum, stream.maximum) == (layout.minimum, layout.maximum)
    beats[:, layout.word_bytes :] = 255  # what is padding is not read
    np.testing.assert_array_equal(codes, stream.unpack(packed), strict=True)


def test_all_codes_are_equal_in_batches_that_do_not_divide_them(
    pynq_case: PynqCase, accelerator: driver.Accelerator
) -> None:
    np.testing.assert_array_equal(pynq_case.expected, accelerator.run(pynq_case.codes), strict=True)
    images = pynq_case.codes[:3].reshape(3, *pynq_case.model.shape).astype(np.int8)
    np.testing.assert_array_equal(pynq_case.expected[:3], accelerator.run(images), strict=True)
    streamed = list(accelerator.stream(pynq_case.codes[first : first + 5] for first in (0, 5)))
    np.testing.assert_array_equal(pynq_case.expected[:10], np.concatenate(streamed), strict=True)


def test_a_stream_that_is_left_early_leaves_nothing_behind(
    pynq_case: PynqCase, accelerator: driver.Accelerator
) -> None:
    batches = [pynq_case.codes[first : first + 5] for first in range(0, 20, 5)]
    stream = accelerator.stream(batches)
    np.testing.assert_array_equal(pynq_case.expected[:5], next(stream))
    with pytest.raises(
        driver.DriverError, match=r"^a stream of batches is being read; read it to its end, or close it"
    ):
        accelerator.run(pynq_case.codes)
    np.testing.assert_array_equal(pynq_case.expected[5:10], next(stream))  # the refused run harmed nothing
    stream.close()
    registers = simulated.MMIO(driver.DMA_ADDRESS, driver.REGISTER_RANGE)
    assert registers.read(driver.RECEIVE + driver.STATUS) == simulated.HALTED
    np.testing.assert_array_equal(pynq_case.expected, accelerator.run(pynq_case.codes))


def test_pauses_of_the_memory_change_nothing(pynq_case: PynqCase, tmp_path: Path) -> None:
    folder = pynq_case.bundle(tmp_path / "stalled", pynq_case.bitstream(stall_percent=60))
    with driver.Accelerator(folder, batch=IMAGES) as accelerator:
        np.testing.assert_array_equal(pynq_case.expected, accelerator.run(pynq_case.codes), strict=True)


def test_what_is_measured_is_of_this_batch(pynq_case: PynqCase, accelerator: driver.Accelerator) -> None:
    measured = accelerator.measure(pynq_case.codes, repeats=2)
    assert measured["batch"] == 7
    assert 0 < measured["latency_us_least"] <= measured["latency_us"]
    assert min(measured["images_per_s"], measured["images_per_s_packed"]) > 0


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.zeros((2, 32)), "^codes are integers, not float64; quantize the inputs first$"),
        (np.zeros((2, 31), np.int64), r"^codes of shape \(N >= 1, 32\) are expected, not \(2, 31\)$"),
        (np.zeros((0, 32), np.int64), r"expected, not \(0, 32\)$"),
        (np.zeros(32, np.int64), r"expected, not \(32,\)$"),
        (np.full((2, 32), 16), r"^codes 16..16 are outside of what the network takes, -16..15$"),
        (np.full((2, 32), -17), r"^codes -17..-17 are outside of what the network takes, -16..15$"),
    ],
)
def test_what_is_no_code_is_refused(codes: NDArray[np.generic], message: str, accelerator: driver.Accelerator) -> None:
    with pytest.raises(driver.DriverError, match=message):
        accelerator.run(codes)


def test_a_batch_that_the_dma_cannot_move_is_refused(bundle: Path, accelerator: driver.Accelerator) -> None:
    with pytest.raises(driver.DriverError, match=r"^8 images are more than a batch of 7; use run, or a larger batch$"):
        list(accelerator.stream([np.zeros((8, 32), np.int64)]))
    for batch in (0, 1 << 26):
        with pytest.raises(driver.DriverError, match=rf"^batch = {batch} images is not possible; allowed: 1\.\."):
            driver.Accelerator(bundle, batch=batch)


def test_a_dma_that_never_finishes_is_an_error_in_time(pynq_case: PynqCase, tmp_path: Path) -> None:
    folder = pynq_case.bundle(tmp_path / "endless", pynq_case.bitstream(never_ends=True))
    started = time.monotonic()
    with driver.Accelerator(folder, batch=2, timeout_s=0.3) as accelerator:
        with pytest.raises(driver.TransferError) as caught:
            accelerator.run(pynq_case.codes[:2])
        assert str(caught.value).startswith("no end within 0.3 s: all of ")
        assert "bytes were sent, not all of " in str(caught.value)
        assert "S2MM_DMASR 0x00000000" in str(caught.value)
        with pytest.raises(driver.TransferError):  # it was reset, and can be used again
            accelerator.run(pynq_case.codes[:2])
    assert time.monotonic() - started < 60


class Registers:
    """Registers of a DMA that answers what a test says."""

    def __init__(self, **values: int) -> None:
        self.values = values

    def read(self, offset: int) -> int:
        names = {driver.SEND: "send", driver.SEND + 4: "sent", driver.RECEIVE + 4: "received"}
        return self.values.get(names.get(offset, "size"), 0)

    def write(self, offset: int, value: int) -> None:
        assert offset < driver.REGISTER_RANGE


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"sent": 0x41, "received": 0}, "the DMA reports decode error: not all of 6 bytes were sent"),
        ({"sent": 2, "received": 0x11}, r"the DMA reports internal error \(a length of 0, or too many words\): all"),
        ({"sent": 2, "received": 2, "size": 3}, "the outputs ended early: all of 6 bytes were sent, 3 of 4 bytes came"),
        ({"sent": 0, "received": 0, "send": 4}, "the DMA does not come out of its reset"),
    ],
)
def test_every_fault_of_the_dma_is_named(values: dict[str, int], message: str) -> None:
    with pytest.raises(driver.TransferError, match=message):
        driver.Dma(Registers(**values), timeout_s=0.05).finish(6, 4)


def test_a_buffer_that_is_not_flushed_is_seen(
    pynq_case: PynqCase, accelerator: driver.Accelerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control of the simulated cache: without either call the codes are wrong."""
    for forgotten in ("flush", "invalidate"):
        with monkeypatch.context() as patch:
            patch.setattr(simulated.Buffer, forgotten, lambda _: None)
            assert (accelerator.run(pynq_case.codes) != pynq_case.expected).any()
    np.testing.assert_array_equal(pynq_case.expected, accelerator.run(pynq_case.codes))


def test_the_simulated_dma_punishes_a_wrong_use(bundle: Path, accelerator: driver.Accelerator) -> None:
    registers = simulated.MMIO(driver.DMA_ADDRESS, driver.REGISTER_RANGE)
    registers.write(driver.SEND + driver.CONTROL, driver.RESET)
    registers.write(driver.SEND + driver.LENGTH, 8)  # it is halted, and ignores this
    assert registers.read(driver.SEND + driver.STATUS) == simulated.HALTED

    def move(source: object, source_bytes: int, target_bytes: int) -> None:
        dma = driver.Dma(registers, 0.2)
        dma.start(source, source_bytes, buffer, target_bytes)
        dma.finish(source_bytes, target_bytes)

    buffer = simulated.allocate((64,), np.uint8)
    stray = simulated.Buffer((8,), np.uint8)
    stray.device_address = 0x4
    with pytest.raises(driver.TransferError, match=r"decode error"):
        move(stray, 8, 64)
    image = accelerator.input.image_bytes
    with pytest.raises(driver.TransferError, match=r"internal error"):  # more comes than there is room for
        move(buffer, image, 1)
    buffer.freebuffer()


def test_the_self_test_is_equal_and_its_digest_is_the_ledgers(pynq_case: PynqCase, bundle: Path) -> None:
    from hashlib import sha256

    code, result = selftest(bundle)
    assert (code, result["differing"], result["compared"]) == (0, 0, pynq_case.expected.size)
    assert result["outputs_sha256"] == sha256(pynq_case.expected.astype("<i8").tobytes()).hexdigest()
    assert result["design_id"] == pynq_case.design.design_id
    assert result["versions"]["pynq"] == "simulated"
    np.testing.assert_array_equal(pynq_case.expected, np.load(bundle / "outputs.npy", allow_pickle=False), strict=True)


def test_a_flipped_weight_is_caught_and_named(pynq_case: PynqCase, tmp_path: Path) -> None:
    folder = pynq_case.bundle(tmp_path / "flipped", pynq_case.bitstream(pynq_case.flipped(tmp_path / "rtl")))
    code, result = selftest(folder)
    assert code == 1
    first = result["first"]
    assert pynq_case.expected[first["sample"], first["output"]] == first["expected"] != first["actual"]
    assert first["output"] == 0  # the flipped weight is one of class 0
    outputs = np.load(folder / "outputs.npy", allow_pickle=False)
    assert result["differing"] == (outputs != pynq_case.expected).sum() > 0


def test_another_design_is_refused(pynq_case: PynqCase, bundle: Path, bitstream: Bitstream) -> None:
    text = (bundle / "design.json").read_text().replace(pynq_case.design.design_id, "0" * 16)
    (bundle / "design.json").write_text(text)
    message = f"^the fabric holds the design {pynq_case.design.design_id}, and design.json describes {'0' * 16}; build"
    with pytest.raises(driver.WrongDesignError, match=message):
        driver.Accelerator(bundle)
    (bundle / "bitproof.hwh").write_text(bitstream.hwh.decode().replace("0x41200000", "0x41300000"))
    with pytest.raises(
        driver.WrongDesignError, match=r"^bitproof.hwh has no design_id at 0x41200000; take bit and hwh"
    ):
        driver.Accelerator(bundle)


def test_a_damaged_bundle_is_refused(bundle: Path) -> None:
    (bundle / "bitproof.bit").write_bytes(b"no bitstream")
    code, result = selftest(bundle)
    assert (code, result["error"]) == (2, "these files are not those of the bundle: bitproof.bit; upload it again")


def test_bundles_are_deterministic_and_hold_only_what_they_name(
    pynq_case: PynqCase, bitstream: Bitstream, tmp_path: Path
) -> None:
    one, other = (pynq_case.bundle(tmp_path / name, bitstream) for name in ("one", "other"))
    assert read_bundle(one) == read_bundle(other)
    assert {path.name for path in one.iterdir()} == set(read_bundle(one))
    (one / "selftest.py").write_text("")
    with pytest.raises(InputError, match=r"was changed after it was bundled; bundle the run again$"):
        read_bundle(one)
    sums = (other / "SHA256SUMS").read_text()
    (other / "SHA256SUMS").write_text(sums.replace("  ledger.json", "  ../ledger.json"))
    with pytest.raises(InputError, match=r"names no file of a bundle; bundle the run again$"):
        read_bundle(other)
    with pytest.raises(InputError, match=r"is no bundle: "):
        read_bundle(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.tex").write_text("years of work")
    with pytest.raises(
        InputError,
        match=r"holds thesis.tex, which no bundle has, and is not replaced; give another folder: --out FOLDER$",
    ):
        pynq_case.bundle(tmp_path / "taken", bitstream)


def test_the_notebook_runs(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = nbformat.read(bundle / "demo.ipynb", as_version=4)  # type: ignore[no-untyped-call]
    nbformat.validate(book)
    script = "\n".join(cell.source for cell in book.cells if cell.cell_type == "code").replace('"."', repr(str(bundle)))
    script = script.replace('"vectors.npz"', repr(str(bundle / "vectors.npz")))
    monkeypatch.setitem(sys.modules, "bitproof_driver", driver)
    names: dict[str, Any] = {}
    exec(compile(script, "demo.ipynb", "exec"), names)
    assert names["differing"] == 0


def test_what_runs_on_a_board_is_python_3_10() -> None:
    import ast

    folder = Path(driver.__file__).parent
    for path in (*folder.glob("*.py"), fabric.MODULE):
        ast.parse(path.read_text(), feature_version=(3, 10))


def test_the_end_of_a_batch_is_found_in_each_of_several(pynq_case: PynqCase, bundle: Path) -> None:
    """Three batches in one simulation without a reset between them: TLAST comes with the last word of each."""
    design = pynq_case.design
    beats = driver.Stream(design.input.model_dump()).pack(pynq_case.codes[:6])
    sizes, last = (1, 3, 2), np.zeros((6, design.input.words, 1), np.uint8)
    ends = np.cumsum(sizes) - 1
    last[ends, -1] = 1
    content = np.concatenate([beats.reshape(6, design.input.words, -1), last], axis=2)
    given = simulated.Fabric(bundle / "bitproof.bit").given_for(content.reshape(-1, design.input.beat_bytes + 1))
    images = given[:, -1].reshape(6, design.output.words)
    assert np.flatnonzero(images[:, -1]).tolist() == ends.tolist()
    assert not images[:, :-1].any()
