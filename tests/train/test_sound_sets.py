"""Speech Commands and ToyADMOS, on recordings that the tests make."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bitproof.pipeline import InputError
from bitproof.train.data.recordings import RATE_HZ, log_mel_codes, mel_weights, read_recording
from bitproof.train.data.speech_commands import read_speech_commands
from bitproof.train.data.splits import split
from bitproof.train.data.toyadmos import read_toyadmos


def tone(frequency: float, samples: int = RATE_HZ, amplitude: float = 0.5) -> NDArray[np.int16]:
    wave_form = amplitude * 32_767 * np.sin(2 * np.pi * frequency * np.arange(samples) / RATE_HZ)
    return np.rint(wave_form).astype(np.int16)


def write(path: Path, samples: NDArray[np.int16], *, rate: int = RATE_HZ, channels: int = 1, width: int = 2) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(width)
        file.setframerate(rate)
        file.writeframes(samples.astype("<i2").tobytes())


@pytest.mark.parametrize(("window", "bands"), [(640, 20), (1024, 128)])
def test_mel_bands_overlap_and_miss_no_frequency(window: int, bands: int) -> None:
    weights = mel_weights(window, bands)
    assert weights.shape == (bands, window // 2 + 1)
    assert bool((weights.sum(axis=1) > 0).all())
    frequencies = np.arange(window // 2 + 1) * RATE_HZ / window
    middle = (frequencies > 150) & (frequencies < 7_000)
    assert float(np.abs(weights.sum(axis=0)[middle] - 1).max()) < 1e-9  # neighbouring triangles add up to 1


def test_tone_shows_in_its_band_and_twice_the_amplitude_is_sixteen_codes() -> None:
    options = {"window": 640, "hop": 320, "bands": 20}
    quiet, loud = (log_mel_codes(tone(1_000, amplitude=a), **options).astype(int) for a in (0.25, 0.5))
    assert quiet.shape == (49, 20)
    band = int(mel_weights(640, 20)[:, round(1_000 * 640 / RATE_HZ)].argmax())
    assert set(loud.argmax(axis=1).tolist()) == {band}
    assert np.abs(loud[:, band] - quiet[:, band] - 16).max() <= 1
    assert int(log_mel_codes(tone(1_000, amplitude=1.0), **options).max()) <= 255
    assert int(log_mel_codes(np.zeros(RATE_HZ, np.int16), **options).max()) == 0


def test_recording_comes_back_as_written(tmp_path: Path) -> None:
    samples = tone(440, 700)
    write(tmp_path / "a.wav", samples)
    assert np.array_equal(read_recording(tmp_path / "a.wav", tmp_path, RATE_HZ), samples)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 48_000}, r"has 1 channels of 16 bits at 48000 Hz; one of 16 bits at 16000 Hz is read: sox"),
        ({"channels": 2}, r"has 2 channels of 16 bits"),
        ({"width": 1}, r"has 1 channels of 8 bits"),
    ],
)
def test_other_formats_are_refused(tmp_path: Path, options: dict[str, int], message: str) -> None:
    write(tmp_path / "a.wav", tone(440, 700), **options)
    with pytest.raises(InputError, match=message):
        read_recording(tmp_path / "a.wav", tmp_path, RATE_HZ)


def test_damaged_long_and_foreign_recordings_are_refused(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root / "long.wav", tone(440, RATE_HZ + 1))
    with pytest.raises(InputError, match=r"states 16001 samples and holds 16001; 1 to 16000 are read"):
        read_recording(root / "long.wav", root, RATE_HZ)
    write(root / "longer.wav", tone(440, 60_000))
    with pytest.raises(InputError, match=r"is no file of at most 1 s of 16-bit mono sound"):
        read_recording(root / "longer.wav", root, RATE_HZ)
    write(root / "cut.wav", tone(440))
    (root / "cut.wav").write_bytes((root / "cut.wav").read_bytes()[:-100])
    with pytest.raises(InputError, match=r"states 16000 samples and holds 15950"):
        read_recording(root / "cut.wav", root, RATE_HZ)
    (root / "text.wav").write_text("no sound")
    with pytest.raises(InputError, match=r"is not a readable WAV file"):
        read_recording(root / "text.wav", root, RATE_HZ)
    write(tmp_path / "outside.wav", tone(440))
    (root / "link.wav").symlink_to(tmp_path / "outside.wav")
    with pytest.raises(InputError, match=r"is a link that leaves the data set's folder"):
        read_recording(root / "link.wav", root, RATE_HZ)


def write_speech(root: Path) -> None:
    for word, frequency in (("down", 300.0), ("up", 2_000.0)):
        for speaker in range(6):
            write(root / word / f"s{speaker}.wav", tone(frequency + speaker, RATE_HZ - 200 * speaker))
    write(root / "_background_noise_" / "noise.wav", tone(50, 60_000))
    (root / "validation_list.txt").write_text("down/s1.wav\nup/s1.wav\n../../etc/passwd\nabsent/s1.wav\n")
    (root / "testing_list.txt").write_text("down/s2.wav\nup/s2.wav\nup/s3.wav\n")


def test_speech_follows_the_lists(tmp_path: Path) -> None:
    write_speech(tmp_path)
    source = read_speech_commands(tmp_path)
    assert source.classes == ("down", "up")
    assert source.shape == (1, 49, 20)
    assert source.validation is not None
    assert [labels.tolist() for _, labels in (source.train, source.validation, source.test)] == [
        [0, 0, 0, 0, 1, 1, 1],
        [0, 1],
        [0, 1, 1],
    ]
    codes = source.train[0].reshape(-1, 49, 20)
    assert int(codes[0].argmax(axis=1)[0]) < int(codes[4].argmax(axis=1)[0])  # the lower tone in the lower band
    # the last training clip of "down" is s5, 1,000 samples short of a second: the last frame of 640 is silence
    assert int(codes[3][-1].max()) == 0
    assert int(codes[0][-1].max()) > 0
    assert len(split(source, None, 0).validation[1]) == 2
    with pytest.raises(InputError, match=r"^data\.validation = 3: speech-commands comes with 2 validation samples"):
        split(source, 3, 0)


def test_speech_that_is_not_there_or_contradicts_itself_is_refused(tmp_path: Path) -> None:
    for root in (None, tmp_path):
        with pytest.raises(InputError, match=r"(?s)^Speech Commands: data\.root .*speech_commands_v0\.02\.tar\.gz"):
            read_speech_commands(root)
    write_speech(tmp_path)
    (tmp_path / "testing_list.txt").write_text("down/s1.wav\n")
    with pytest.raises(InputError, match=r"down/s1\.wav is in both validation_list\.txt and testing_list\.txt"):
        read_speech_commands(tmp_path)
    (tmp_path / "testing_list.txt").write_text("left/s1.wav\n")
    with pytest.raises(InputError, match=r"no clip is in the split 'test'; the lists name other clips"):
        read_speech_commands(tmp_path)
    for path in (tmp_path / "up").iterdir():
        path.unlink()
    (tmp_path / "up").rmdir()
    with pytest.raises(InputError, match=r"holds 6 clips of 1 words; 2 words or more"):
        read_speech_commands(tmp_path)


def write_toys(root: Path, *, anomalies: int) -> None:
    """Write recordings in the folders of DCASE: nothing but normal ones in train."""
    for number in range(12):
        write(root / "train" / f"normal_id_01_{number:08}.wav", tone(200 + number, 10_000))
    for number in range(6):
        write(root / "test" / f"normal_id_01_{number:08}.wav", tone(300 + number, 10_000))
    for number in range(anomalies):
        write(root / "test" / f"anomaly_id_01_{number:08}.wav", tone(4_000 + number, 10_000))
    write(root / "noise" / "environment.wav", tone(50, 10_000))


def test_toys_are_split_by_recording_and_both_kinds_are_everywhere(tmp_path: Path) -> None:
    write_toys(tmp_path, anomalies=8)
    source, again = read_toyadmos(tmp_path, 3), read_toyadmos(tmp_path, 3)
    assert source.classes == ("normal", "anomaly")
    assert source.shape == (1, 5, 128)
    assert source.validation is not None
    windows = (1 + (10_000 - 1024) // 512) // 5
    parts = (source.train, source.validation, source.test)
    # test: half of 6 normal and of 8 anomalous; the others join the 12 of train, of which 1 in 12 of each is held out
    assert [np.bincount(labels).tolist() for _, labels in parts] == [
        [14 * windows, 3 * windows],
        [1 * windows, 1 * windows],
        [3 * windows, 4 * windows],
    ]
    rows = [{row.tobytes() for row in codes} for codes, _ in parts]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]
    assert np.array_equal(source.train[0], again.train[0])
    normal, anomalous = (source.test[0][source.test[1] == label].reshape(-1, 5, 128) for label in (0, 1))
    assert int(normal[0, 0].argmax()) < int(anomalous[0, 0].argmax())


def test_toys_without_folders_for_the_splits_are_drawn(tmp_path: Path) -> None:
    for number in range(10):
        write(tmp_path / "NormalSound_IND" / f"{number}.wav", tone(200 + number, 4_000))
        write(tmp_path / "AnomalousSound_IND" / f"{number}.wav", tone(4_000 + number, 4_000))
    source = read_toyadmos(tmp_path, 0)
    assert [np.bincount(labels).tolist() for _, labels in (source.train, source.test)] == [[7, 7], [2, 2]]


def test_toys_that_are_not_there_or_too_few_are_refused(tmp_path: Path) -> None:
    for root in (None, tmp_path):
        with pytest.raises(InputError, match=r"(?s)^ToyADMOS: data\.root .*zenodo"):
            read_toyadmos(root, 0)
    write_toys(tmp_path, anomalies=1)
    with pytest.raises(InputError, match=r"split '\w+' has \d+ recordings and not both kinds; at least 4 anomalies"):
        read_toyadmos(tmp_path, 0)
    write(tmp_path / "train" / "normal_short.wav", tone(200, 100))
    write_toys(tmp_path, anomalies=8)
    with pytest.raises(InputError, match=r"normal_short\.wav has 100 samples; a window needs 3072"):
        read_toyadmos(tmp_path, 0)
