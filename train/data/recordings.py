"""Recordings as codes: WAV files of 16 kHz, and the logarithm of the energy in mel bands in 8 bits.

For a frame x of W samples in [-1, 1), Hann window h, power p_k = |FFT(h x)_k|^2 / (sum of h)^2, and band b with
triangular weights w_bk, whose corners lie equally far apart on the mel scale 2595 log10(1 + f / 700) between 20 and
8,000 Hz:

    code_b = 255 + 8 log2(sum over k of w_bk p_k), rounded and limited to 0..255

so that 8 codes are 3 dB, full scale is near 255, and the quietest sound of 16 bits near 0. Nothing is learned from the
data: a device can compute the same. (Davis and Mermelstein, 1980, without the cosine transform.)
"""

from __future__ import annotations

import wave
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from bitproof.pipeline import InputError

RATE_HZ = 16_000
LOWEST_HZ = 20.0
CODES_PER_OCTAVE = 8.0
HEADER_BYTES = 1 << 16
"""Room granted to a file's header and to chunks that are no samples."""

Samples = NDArray[np.int16]


def read_recording(path: Path, root: Path, most_samples: int) -> Samples:
    """Return the samples of the WAV file *path*, which must lie within *root*, links resolved.

    Raises:
        InputError: it lies elsewhere, is longer than *most_samples*, damaged, or not 16-bit mono of 16 kHz.
    """
    if not path.resolve().is_relative_to(root.resolve()):
        raise InputError(f"{path} is a link that leaves the data set's folder {root}; copy the file there")
    try:
        if not path.is_file() or path.stat().st_size > 2 * most_samples + HEADER_BYTES:
            raise InputError(f"{path} is no file of at most {most_samples / RATE_HZ:g} s of 16-bit mono sound; cut it")
        with wave.open(str(path), "rb") as file:
            kind = file.getnchannels(), file.getsampwidth(), file.getframerate()
            count = file.getnframes()
            content = file.readframes(min(count, most_samples + 1))
    except (OSError, EOFError, wave.Error) as error:
        raise InputError(f"{path} is not a readable WAV file: {error}") from error
    if kind != (1, 2, RATE_HZ):
        raise InputError(
            f"{path} has {kind[0]} channels of {8 * kind[1]} bits at {kind[2]} Hz; one of 16 bits at {RATE_HZ} Hz is "
            f"read: sox {path.name} -c 1 -b 16 -r {RATE_HZ} converted.wav"
        )
    samples: Samples = np.frombuffer(content, dtype="<i2").astype(np.int16)
    if len(samples) != count or not 0 < count <= most_samples:
        raise InputError(
            f"{path} states {count} samples and holds {len(samples)}; 1 to {most_samples} are read. Get it again"
        )
    return samples


def log_mel_codes(samples: Samples, *, window: int, hop: int, bands: int) -> NDArray[np.uint8]:
    """Return codes of shape (frames, bands), frames = (len(samples) - window) // hop + 1, at least 1 needed."""
    assert len(samples) >= window, "the caller pads a recording that is too short"
    frames = sliding_window_view(samples.astype(np.float64) / 32_768, window)[::hop]
    taper = np.hanning(window)
    power = np.abs(np.fft.rfft(frames * taper, axis=1)) ** 2 / taper.sum() ** 2
    energies = np.maximum(power @ mel_weights(window, bands).T, 2.0**-40)  # silence: below code 0
    codes: NDArray[np.uint8] = np.clip(np.rint(255 + CODES_PER_OCTAVE * np.log2(energies)), 0, 255).astype(np.uint8)
    return codes


@lru_cache
def mel_weights(window: int, bands: int) -> NDArray[np.float64]:
    """Return the triangles, shape (bands, window // 2 + 1), each between 0 and 1."""
    corners_mel = np.linspace(_mel(LOWEST_HZ), _mel(RATE_HZ / 2), bands + 2)
    corners = 700 * (10 ** (corners_mel / 2595) - 1)
    frequencies = np.arange(window // 2 + 1) * (RATE_HZ / window)
    rising = (frequencies - corners[:-2, None]) / (corners[1:-1] - corners[:-2])[:, None]
    falling = (corners[2:, None] - frequencies) / (corners[2:] - corners[1:-1])[:, None]
    weights: NDArray[np.float64] = np.maximum(np.minimum(rising, falling), 0.0)
    return weights


def _mel(frequency: float) -> float:
    return float(2595 * np.log10(1 + frequency / 700))
