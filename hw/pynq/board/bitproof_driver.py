"""The driver of an accelerator on a PYNQ board: integer codes in, integer codes out.

It runs on the board and needs pynq and numpy only. ``design.json`` beside it says how codes lie in the words of the
streams. Every wait has a time limit; what the hardware does in the meantime is in the error.

    from bitproof_driver import Accelerator
    with Accelerator(".") as accelerator:
        outputs = accelerator.run(codes)
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from types import TracebackType

DMA_NAME, DMA_ADDRESS = "dma", 0x4040_0000
ID_NAME, ID_ADDRESS = "design_id", 0x4120_0000
REGISTER_RANGE = 0x1_0000
MAX_TRANSFER_BYTES = (1 << 26) - 1
"""What the length register of the DMA holds, made 26 bits wide."""
DESIGN, BITSTREAM = "design.json", "bitproof.bit"

SEND, RECEIVE = 0x00, 0x30
"""Registers of both channels of the AXI DMA (AMD PG021), and their places within a channel."""
CONTROL, STATUS, ADDRESS, ADDRESS_HIGH, LENGTH = 0x00, 0x04, 0x18, 0x1C, 0x28
RUN, RESET = 1 << 0, 1 << 2
HALTED, IDLE = 1 << 0, 1 << 1
ERRORS = {1 << 4: "internal error (a length of 0, or too many words)", 1 << 5: "slave error", 1 << 6: "decode error"}
ID_PLACES = (0x0, 0x8)
"""Data registers of the AXI GPIO (AMD PG144) that hold both halves of the design's number."""
MAX_TIMEOUT_S = 3600
"""The longest wait that can be asked for."""
SPIN_S = 0.002
"""How long a wait asks the DMA without a pause: an image takes microseconds, and a sleep a millisecond."""


class DriverError(RuntimeError):
    """What this driver refuses or finds wrong."""


class WrongDesignError(DriverError):
    """The fabric holds another design than the one that ``design.json`` describes."""


class TransferError(DriverError):
    """The DMA did not finish, or finished otherwise than it should."""


class Stream:
    """The words of one stream: how codes are packed into the bytes that the DMA moves.

    Element 0 of a word is in its lowest bits; a word is padded to *beat_bytes*, the width of the DMA's stream::

        bits 3, elements 2, beat_bytes 1        7 6 | 5 4 3 | 2 1 0
                                                 -  |  e1   |  e0
    """

    def __init__(self, layout: dict[str, Any]) -> None:
        """Take the layout that ``design.json`` has."""
        self.bits, self.signed = int(layout["bits"]), bool(layout["signed"])
        self.elements, self.words = int(layout["elements"]), int(layout["words"])
        self.beat_bytes = int(layout["beat_bytes"])
        self.image_bytes = self.beat_bytes * self.words
        self.codes = self.elements * self.words
        self.minimum = -(1 << (self.bits - 1)) if self.signed else 0
        self.maximum = self.minimum + (1 << self.bits) - 1

    def pack(self, codes: np.ndarray) -> np.ndarray:
        """Return *codes*, shape (N, codes of an image), as bytes, shape (N, image_bytes)."""
        raw = (codes & ((1 << self.bits) - 1)).astype("<i8").reshape(-1, self.elements, 1).view(np.uint8)
        used = raw[:, :, : -(-self.bits // 8)]
        if self.bits % 8:
            bits = np.unpackbits(used, axis=2, bitorder="little")[:, :, : self.bits]
            word = np.packbits(bits.reshape(len(raw), -1), axis=1, bitorder="little")
        else:
            word = used.reshape(len(raw), -1)
        beats = np.zeros((len(raw), self.beat_bytes), dtype=np.uint8)
        beats[:, : word.shape[1]] = word
        return beats.reshape(len(codes), self.image_bytes)

    def unpack(self, content: np.ndarray) -> np.ndarray:
        """Return the codes in *content*, shape (N, image_bytes), as int64, shape (N, codes of an image)."""
        beats = content.reshape(-1, self.beat_bytes)
        elements = np.zeros((len(beats), self.elements, 8), dtype=np.uint8)
        if self.bits % 8:
            bits = np.unpackbits(beats, axis=1, bitorder="little")[:, : self.bits * self.elements]
            packed = np.packbits(bits.reshape(len(beats), self.elements, self.bits), axis=2, bitorder="little")
            elements[:, :, : packed.shape[2]] = packed
        else:
            size = self.bits // 8
            elements[:, :, :size] = beats[:, : size * self.elements].reshape(len(beats), self.elements, size)
        codes = elements.view("<i8")[:, :, 0].astype(np.int64)
        return np.where(codes > self.maximum, codes - (1 << self.bits), codes).reshape(len(content), self.codes)


class Dma:
    """The AXI DMA in its simple mode, by its registers: pynq's own driver waits without an end."""

    def __init__(self, registers: Any, timeout_s: float) -> None:
        self._registers, self._timeout_s = registers, timeout_s

    def start(self, source: Any, source_bytes: int, target: Any, target_bytes: int) -> None:
        """Begin to move *source_bytes* to the fabric, and what it gives to *target*."""
        for channel, buffer, size in ((RECEIVE, target, target_bytes), (SEND, source, source_bytes)):
            self._registers.write(channel + CONTROL, RUN)
            self._registers.write(channel + ADDRESS, int(buffer.device_address) & 0xFFFF_FFFF)
            self._registers.write(channel + ADDRESS_HIGH, int(buffer.device_address) >> 32)
            self._registers.write(channel + LENGTH, size)  # this write starts the channel

    def finish(self, source_bytes: int, target_bytes: int) -> None:
        """Wait until both channels are idle.

        Raises:
            TransferError: they are not within the time limit, there is an error, or another number of bytes came. The
                DMA and the accelerator were reset.
        """
        deadline = time.monotonic() + self._timeout_s
        spin_until = time.monotonic() + SPIN_S
        while True:
            states = [self._registers.read(channel + STATUS) for channel in (SEND, RECEIVE)]
            errors = [text for state in states for bit, text in ERRORS.items() if state & bit]
            if errors:
                self._fail(f"the DMA reports {', '.join(sorted(set(errors)))}", states, source_bytes, target_bytes)
            if all(state & IDLE for state in states):
                break
            now = time.monotonic()
            if now > deadline:
                self._fail(f"no end within {self._timeout_s:g} s", states, source_bytes, target_bytes)
            if now > spin_until:
                time.sleep(0.001)
        received = self._registers.read(RECEIVE + LENGTH)
        if received != target_bytes:
            self._fail("the outputs ended early", states, source_bytes, target_bytes)

    def reset(self) -> None:
        """Reset the DMA, and with it the accelerator, which its reset output is wired to.

        Raises:
            TransferError: it does not come back.
        """
        self._registers.write(SEND + CONTROL, RESET)
        deadline = time.monotonic() + self._timeout_s
        while self._registers.read(SEND + CONTROL) & RESET:
            if time.monotonic() > deadline:
                raise TransferError("the DMA does not come out of its reset; load the bit file again: is it this one?")

    def _fail(self, what: str, states: list[int], source_bytes: int, target_bytes: int) -> None:
        sent = "all" if states[0] & IDLE else "not all"
        received = self._registers.read(RECEIVE + LENGTH) if states[1] & IDLE else 0
        came = f"{received} of {target_bytes}" if received else f"not all of {target_bytes}"
        registers = f"MM2S_DMASR 0x{states[0]:08x}, S2MM_DMASR 0x{states[1]:08x}"
        self.reset()
        raise TransferError(
            f"{what}: {sent} of {source_bytes} bytes were sent, {came} bytes came back ({registers}). The DMA was "
            "reset. Run it again; if it stays so, the bit file is another one, or its clock is too fast for it"
        )


class Accelerator:
    """The accelerator in the fabric.

    Args:
        folder: the bundle.
        batch: most images of one transfer.
        timeout_s: of every wait for the DMA.

    Raises:
        WrongDesignError: the bit file is another design.
    """

    def __init__(self, folder: str | Path = ".", *, batch: int = 1000, timeout_s: float = 10.0) -> None:
        from pynq import MMIO, Overlay, allocate

        if not 0 < timeout_s <= MAX_TIMEOUT_S:  # a comparison with NaN is false
            raise DriverError(f"timeout_s = {timeout_s} is not possible; allowed: 0 < timeout_s <= {MAX_TIMEOUT_S}")
        folder = Path(folder).resolve()
        design = json.loads((folder / DESIGN).read_text())
        self.design_id = str(design["design_id"])
        self.input, self.output = Stream(design["input"]), Stream(design["output"])
        self.input_shape = tuple(int(size) for size in design["input_shape"])
        self.output_shape = tuple(int(size) for size in design["output_shape"])
        self._bias = np.array(design["output_bias"] or [0], dtype=np.int64)
        largest = MAX_TRANSFER_BYTES // max(self.input.image_bytes, self.output.image_bytes)
        if not 1 <= batch <= largest:
            raise DriverError(f"batch = {batch} images is not possible; allowed: 1..{largest}")
        self.batch, self._busy = batch, False
        self.overlay = Overlay(str(folder / BITSTREAM))
        self._require_design(MMIO)
        self._dma = Dma(MMIO(DMA_ADDRESS, REGISTER_RANGE), timeout_s)
        self._dma.reset()
        self._source = allocate(shape=(batch * self.input.image_bytes,), dtype=np.uint8)
        self._target = allocate(shape=(batch * self.output.image_bytes,), dtype=np.uint8)

    def _require_design(self, mmio: Any) -> None:
        for name, address in ((DMA_NAME, DMA_ADDRESS), (ID_NAME, ID_ADDRESS)):
            described = self.overlay.ip_dict.get(name)
            if described is None or int(described["phys_addr"]) != address:
                raise WrongDesignError(f"bitproof.hwh has no {name} at 0x{address:08x}; take bit and hwh of one build")
        low, high = (mmio(ID_ADDRESS, REGISTER_RANGE).read(place) for place in ID_PLACES)
        found = f"{high:08x}{low:08x}"
        if found != self.design_id:
            raise WrongDesignError(
                f"the fabric holds the design {found}, and design.json describes {self.design_id}; build the bit file "
                "from this run, and bundle it again"
            )

    def __enter__(self) -> Accelerator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop what is under way, and give the buffers back; they lie in memory that nothing else can use."""
        try:
            self._stop()
        finally:
            for buffer in (self._source, self._target):
                buffer.freebuffer()

    def run(self, codes: np.ndarray) -> np.ndarray:
        """Run *codes*, shape (N, inputs) or (N, *input_shape), and return the output codes, int64 (N, outputs).

        Both are in the order of the model, channels first.

        Raises:
            DriverError: they are not codes of this network.
            TransferError: the hardware did not finish.
        """
        codes = self._checked(codes)
        batches = (codes[first : first + self.batch] for first in range(0, len(codes), self.batch))
        return np.concatenate(list(self.stream(batches)))

    def stream(self, batches: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        """Yield the output codes of each of *batches*; the next is packed while the fabric works on one.

        Raises:
            DriverError: a batch is too large, or holds no codes of this network.
            TransferError: the hardware did not finish.
        """
        working = 0
        try:
            for codes in batches:
                packed = self._packed(codes)
                done = self._finish(working) if working else None
                working = self._start(packed)
                if done is not None:
                    yield self._unpacked(done)
            if working:
                yield self._unpacked(self._finish(working))
        finally:
            if working:  # whoever reads the batches may leave before the last one
                self._stop()

    def measure(self, codes: np.ndarray, repeats: int = 20) -> dict[str, float | int]:
        """Measure latency with single images and throughput with whole batches, *repeats* times each.

        ``images_per_s`` is that of the fabric and its DMA; ``images_per_s_packed`` includes packing and unpacking here.
        """
        codes = np.resize(self._checked(codes), (self.batch, self.input.codes))
        single = [self._transfer_s(self._packed(codes[:1])) for _ in range(repeats)]
        packed = self._packed(codes)
        batches = [self._transfer_s(packed) for _ in range(repeats)]
        started = time.perf_counter()
        for _ in self.stream(codes for _ in range(repeats)):
            pass
        whole_s = time.perf_counter() - started
        return {
            "batch": self.batch,
            "latency_us": round(1e6 * float(np.median(single)), 1),
            "latency_us_least": round(1e6 * min(single), 1),
            "images_per_s": round(self.batch / float(np.median(batches)), 1),
            "images_per_s_packed": round(repeats * self.batch / whole_s, 1),
        }

    def _transfer_s(self, packed: np.ndarray) -> float:
        started = time.perf_counter()
        self._finish(self._start(packed))
        return time.perf_counter() - started

    def _checked(self, codes: np.ndarray) -> np.ndarray:
        if isinstance(codes, np.ma.MaskedArray):
            raise DriverError("codes are masked, and a network takes all of them; fill them first: codes.filled(0)")
        try:
            codes = np.asarray(codes)
        except (ValueError, TypeError, OverflowError) as error:
            raise DriverError(f"codes are no array: {error}; all images need {self.input.codes} integers") from error
        if codes.dtype.kind not in "iu":
            raise DriverError(f"codes are integers, not {codes.dtype}; quantize the inputs first")
        if codes.ndim < 2 or not len(codes) or codes.shape[1:] not in ((self.input.codes,), self.input_shape):
            raise DriverError(f"codes of shape (N >= 1, {self.input.codes}) are expected, not {codes.shape}")
        least, largest = int(codes.min()), int(codes.max())
        if least < self.input.minimum or largest > self.input.maximum:
            allowed = f"{self.input.minimum}..{self.input.maximum}"
            raise DriverError(f"codes {least}..{largest} are outside of what the network takes, {allowed}")
        return codes.reshape(len(codes), -1).astype(np.int64)

    def _packed(self, codes: np.ndarray) -> np.ndarray:
        codes = self._checked(codes)
        if len(codes) > self.batch:
            raise DriverError(f"{len(codes)} images are more than a batch of {self.batch}; use run, or a larger batch")
        channels_last = np.moveaxis(codes.reshape(len(codes), *self.input_shape), 1, -1)
        return self.input.pack(channels_last.reshape(len(codes), -1))

    def _unpacked(self, content: np.ndarray) -> np.ndarray:
        channels_last = (*self.output_shape[1:], self.output_shape[0])
        streamed = self.output.unpack(content).reshape(len(content), *channels_last)
        return np.moveaxis(streamed, -1, 1).reshape(len(content), -1) + self._bias

    def _stop(self) -> None:
        if self._busy:
            self._busy = False
            self._dma.reset()

    def _start(self, packed: np.ndarray) -> int:
        if self._busy:
            raise DriverError("a stream of batches is being read; read it to its end, or close it, before another run")
        self._source[: packed.size] = packed.reshape(-1)
        self._source.flush()
        self._busy = True
        try:
            self._dma.start(self._source, packed.size, self._target, len(packed) * self.output.image_bytes)
        except BaseException:
            self._stop()
            raise
        return len(packed)

    def _finish(self, images: int) -> np.ndarray:
        size = images * self.output.image_bytes
        try:
            self._dma.finish(images * self.input.image_bytes, size)
        except TransferError:  # the DMA was reset
            raise
        except BaseException:  # whoever waits was interrupted, and the DMA goes on
            self._dma.reset()
            raise
        finally:
            self._busy = False
        self._target.invalidate()
        return np.array(self._target[:size]).reshape(images, -1)
