"""Reading and splitting data sets, on files that the tests make."""

from __future__ import annotations

import gzip
import json
import struct
import subprocess  # noqa: TID251  what a process of its own imports is tested
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from bitproof.pipeline import Artifact, InputError, digest_of, load_vectors
from bitproof.pipeline.config import DataConfig
from bitproof.pipeline.stage import execute
from bitproof.train.data import PrepareData
from bitproof.train.data import idx as reader
from bitproof.train.data.fashion_mnist import read_fashion_mnist
from bitproof.train.data.splits import Source, split
from bitproof.train.device_split import load_dataset


def idx_bytes(array: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def write_small_set(folder: Path, *, packed: bool, label: int = 9) -> None:
    folder.mkdir(parents=True)
    for part, samples in reader.SIZES.items():
        images = np.arange(samples * reader.PIXELS, dtype=np.uint32).astype(np.uint8).reshape(samples, 28, 28)
        labels = (np.arange(samples) % 10).astype(np.uint8)
        labels[-1] = label
        for name, array in ((f"{part}-images-idx3-ubyte", images), (f"{part}-labels-idx1-ubyte", labels)):
            content = idx_bytes(array)
            if packed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(content, compresslevel=1))
            else:
                (folder / name).write_bytes(content)


@pytest.fixture
def small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "SIZES", {"train": 60, "t10k": 20})


@pytest.mark.usefixtures("small_sizes")
@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("below", [".", "FashionMNIST/raw"])
def test_idx_files_are_found_packed_or_not_and_read_as_written(tmp_path: Path, below: str, packed: bool) -> None:
    write_small_set(tmp_path / "root" / below, packed=packed)
    source = read_fashion_mnist(tmp_path / "root", tmp_path)
    pixels, labels = source.train
    assert pixels.shape == (60, 784)
    assert pixels[1, :3].tolist() == [784 % 256, 785 % 256, 786 % 256]
    assert labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert source.test[0].shape == (20, 784)


@pytest.mark.usefixtures("small_sizes")
def test_label_out_of_range_is_refused(tmp_path: Path) -> None:
    write_small_set(tmp_path / "root", packed=False, label=10)
    with pytest.raises(InputError, match=r"^fashion-mnist: split 'train' has labels 0\.\.10; allowed 0\.\.9$"):
        read_fashion_mnist(tmp_path / "root", tmp_path)


def test_missing_data_set_names_the_three_ways_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"does not hold its four idx files") as caught:
        read_fashion_mnist(tmp_path, tmp_path)
    for way in ("apt-get install dataset-fashion-mnist", "set data.root", "torchvision downloads it"):
        assert way in str(caught.value)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        idx_bytes(np.zeros((2, 3), np.uint8))[:-1],
        idx_bytes(np.zeros((2, 3), np.uint8)) + b"\0",
        idx_bytes(np.zeros((3, 2), np.uint8)),
        b"\0\0\x09" + idx_bytes(np.zeros((2, 3), np.uint8))[3:],
    ],
    ids=["empty", "short", "long", "other shape", "other type"],
)
def test_damaged_idx_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not an idx file of"):
        reader.read_idx(path, (2, 3))


def test_damaged_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "images.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.zeros((2, 3), np.uint8)))[:-9])
    with pytest.raises(InputError, match="cannot read"):
        reader.read_idx(path, (2, 3))


def make(folder: Path, seed: int, validation: int | None = None, input_bits: int = 8) -> Artifact:
    stage = PrepareData(DataConfig(name="digits", validation=validation), input_bits)
    return execute(stage, None, folder / "data", seed=seed, versions={}, name="data")


def test_splits_partition_the_digits_and_depend_on_the_seed_alone(tmp_path: Path) -> None:
    first, again, other = (make(tmp_path / name, seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert digest_of(first.path) == digest_of(again.path) != digest_of(other.path)
    vectors = [load_vectors(first, name) for name in ("train", "validation", "test")]
    assert sum(map(len, vectors)) == 1797
    rows = np.concatenate([v.codes for v in vectors])
    assert rows.min() == 0
    assert rows.max() == 240
    from sklearn.datasets import load_digits

    expected = load_digits().data.astype(np.int64) * 15
    assert sorted(map(tuple, rows.tolist())) == sorted(map(tuple, expected.tolist()))
    description = json.loads((first.path / "dataset.json").read_text())
    assert description == {
        "name": "digits",
        "inputs": 64,
        "shape": [1, 8, 8],
        "classes": [str(d) for d in range(10)],
        "input_bits": 8,
        "augment": None,
    }


@pytest.mark.parametrize("bits", [1, 2, 5])
def test_input_bits_keeps_the_high_bits_of_every_code(tmp_path: Path, bits: int) -> None:
    full, reduced = make(tmp_path / "full", 0), make(tmp_path / "reduced", 0, input_bits=bits)
    for name in ("train", "validation", "test"):
        expected, actual = load_vectors(full, name), load_vectors(reduced, name)
        assert np.array_equal(actual.codes, expected.codes // (1 << (8 - bits)))
        assert actual.codes.max() == 240 >> (8 - bits)
    dataset = load_dataset(reduced, torch.device("cpu"))
    assert dataset.test.scale == 2.0**-bits
    values = dataset.test.values(slice(0, 9))
    assert torch.equal(values * (1 << bits), dataset.test.codes[:9].float())


def test_more_validation_samples_than_there_are_is_refused() -> None:
    pixels, labels = np.zeros((4, 2), np.uint8), np.zeros(4, np.int64)
    source = Source("tiny", ("a",), (2,), (pixels, labels), (pixels, labels))
    assert len(split(source, 3, 0).train[1]) == 1
    with pytest.raises(InputError, match=r"^data\.validation = 4: tiny has 4 training samples; allowed 1\.\.3$"):
        split(source, 4, 0)


def test_data_stage_does_without_the_seconds_that_torch_takes_to_import() -> None:
    program = "import sys, train.data; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode == 0
