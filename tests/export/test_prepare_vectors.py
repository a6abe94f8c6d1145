"""The vectors of an import: codes or real inputs of the user's, checked against the network."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from foreign_files import ForeignFile, weights
from numpy.typing import NDArray

from bitproof.export.importer import ImportQonnx, PrepareVectors
from bitproof.pipeline import Artifact, InputError, StageContext, load_vectors
from bitproof.pipeline.import_config import source_file


def image_network() -> onnx.ModelProto:
    """Return a network that takes images of 2 x 3 as codes from -1 to 1, behind a head that scales them."""
    file = ForeignFile()
    tensor = file.add("Sub", file.add("Mul", "input", file.constant(2.0)), file.constant([1.0]))
    tensor = file.add("Flatten", file.quant(tensor, 1.0, 2, narrow=1), axis=1)
    linear = file.quant(file.constant(weights((4, 6), 1)), 0.5, 3)
    return file.model(file.add("Gemm", tensor, linear, transB=1), ["N", 1, 2, 3], ["N", 4])


def context(folder: Path, name: str) -> StageContext:
    workdir, scratch = folder / name, folder / f"{name}-scratch"
    workdir.mkdir()
    scratch.mkdir()
    return StageContext(workdir, scratch, seed=5)


@pytest.fixture
def qonnx(tmp_path: Path) -> Artifact:
    onnx.save_model(image_network(), tmp_path / "net.onnx")
    stage = ImportQonnx(source_file(tmp_path / "net.onnx"))
    stage.run(context(tmp_path, "export"))
    return Artifact("export", "qonnx", tmp_path / "export", "")


def prepare(
    qonnx: Artifact, folder: Path, vectors: NDArray[Any] | None, labels: NDArray[Any] | None = None
) -> Artifact:
    given = {"vectors": vectors, "labels": labels}
    files = {}
    for name, array in given.items():
        if array is not None:
            np.save(folder / f"{name}.npy", array)
        files[name] = None if array is None else source_file(folder / f"{name}.npy")
    split = "drawn" if vectors is None else "vectors"
    PrepareVectors(**files, samples=20, split=split).run(qonnx, context(folder, "data"))
    return Artifact("data", "dataset", folder / "data", "")


def test_the_imported_file_is_recorded_with_its_digest(qonnx: Artifact, tmp_path: Path) -> None:
    recorded = json.loads((qonnx.path / "source.json").read_text())
    assert recorded["sha256"] == source_file(tmp_path / "net.onnx").sha256
    assert recorded["file"] == "net.onnx"
    assert recorded["opsets"] == {"ai.onnx": 13, "qonnx.custom_op.general": 1}


def test_a_file_that_was_changed_meanwhile_is_refused(tmp_path: Path) -> None:
    onnx.save_model(image_network(), tmp_path / "net.onnx")
    stage = ImportQonnx(source_file(tmp_path / "net.onnx"))
    with (tmp_path / "net.onnx").open("ab") as file:
        file.write(b" ")
    with pytest.raises(InputError, match=r"net\.onnx was changed while the run was working on it; import it again"):
        stage.run(context(tmp_path, "export"))


@pytest.mark.parametrize("shape", [(1, 2, 3), (6,)])
def test_codes_are_taken_as_they_are_in_c_order(qonnx: Artifact, tmp_path: Path, shape: tuple[int, ...]) -> None:
    codes = np.random.default_rng(1).integers(-1, 2, size=(7, *shape), dtype=np.int8)
    vectors = load_vectors(prepare(qonnx, tmp_path, codes), "vectors")
    assert np.array_equal(vectors.codes, codes.reshape(7, 6))
    assert vectors.labels is None
    assert vectors.origin == "vectors[0:7]"


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_real_inputs_become_the_codes_that_the_head_gives(qonnx: Artifact, tmp_path: Path, kind: type) -> None:
    values: NDArray[Any] = np.random.default_rng(2).uniform(-0.2, 1.2, size=(2_100, 1, 2, 3)).astype(kind)
    labels = np.arange(2_100) % 4
    vectors = load_vectors(prepare(qonnx, tmp_path, values, labels), "vectors")
    expected = np.clip(np.rint(values.astype(np.float32) * np.float32(2) - np.float32(1)), -1, 1)
    assert np.array_equal(vectors.codes, expected.reshape(2_100, 6).astype(np.int64))
    assert vectors.labels is not None
    assert np.array_equal(vectors.labels, labels)


def test_without_vectors_codes_are_drawn_by_the_seed(qonnx: Artifact, tmp_path: Path) -> None:
    dataset = prepare(qonnx, tmp_path, None)
    vectors = load_vectors(dataset, "drawn")
    assert vectors.codes.shape == (20, 6)
    assert set(vectors.codes.reshape(-1).tolist()) == {-1, 0, 1}
    description = json.loads((dataset.path / "dataset.json").read_text())
    assert description == {"inputs": 6, "shape": [1, 2, 3], "codes": [-1, 1, 1], "vectors": "drawn by seed 5"}


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.full((2, 6), 2, dtype=np.int64), "holds codes from 2 to 2; the input takes -1 to 1"),
        (np.zeros((2, 5), dtype=np.int64), r"codes of this network have the shape \('N', 1, 2, 3\) or \('N', 6\)"),
        (np.zeros((2, 3, 2), dtype=np.float32), r"real inputs of this network have the shape \('N', 1, 2, 3\)"),
        (np.full((2, 6), np.nan, dtype=np.float32), "holds a value that is not finite, or too large for binary32"),
        (np.full((2, 6), 1e300), "holds a value that is not finite, or too large for binary32"),
        (np.zeros((0, 6), dtype=np.int64), r"has the shape \(0, 6\)"),
        (np.zeros(6, dtype=np.int64), r"has the shape \(6,\)"),
        (np.zeros((2, 6), dtype=np.bool_), "holds bool; integer codes or float32 or float64 values"),
        (np.zeros((2, 6), dtype=np.complex64), "holds complex64; integer codes or float32 or float64 values"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(
    qonnx: Artifact, tmp_path: Path, vectors: NDArray[Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare(qonnx, tmp_path, vectors)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0, 4]), "holds labels from 0 to 4; allowed are 0 to 3"),
        (np.array([-1, 0]), "holds labels from -1 to 0; allowed are 0 to 3"),
        (np.array([0, 1, 2]), r"holds int64 of shape \(3,\); integers of shape \(2,\), one a vector"),
        (np.array([0.0, 1.0]), r"holds float64 of shape \(2,\); integers of shape \(2,\), one a vector"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    qonnx: Artifact, tmp_path: Path, labels: NDArray[Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare(qonnx, tmp_path, np.zeros((2, 6), dtype=np.int64), labels)


def test_files_that_hold_no_array_are_refused_and_nothing_in_them_is_run(qonnx: Artifact, tmp_path: Path) -> None:
    with (tmp_path / "objects.npy").open("wb") as file:
        np.save(file, np.array([print], dtype=object))
    (tmp_path / "pickled.npy").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "cut.npy").write_bytes(b"\x93NUMPY\x01\x00v\x00{'descr': '<i8', 'fortran_order': False, 'shape': (9,")
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 6), }".ljust(117) + "\n"
    (tmp_path / "huge.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    np.savez(tmp_path / "several.npz", a=np.zeros(3), b=np.zeros(3))
    for position, name in enumerate(("objects.npy", "pickled.npy", "cut.npy", "huge.npy", "several.npz")):
        stage = PrepareVectors(source_file(tmp_path / name), None, 20, "vectors")
        with pytest.raises(InputError, match=rf"{name} (is not a \.npy file with one array|holds several arrays)"):
            stage.run(qonnx, context(tmp_path, f"data{position}"))


@pytest.mark.parametrize("kind", [np.int64, np.float32])
def test_vectors_are_read_in_blocks_with_the_same_codes(
    qonnx: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: type[np.generic]
) -> None:
    given = np.random.default_rng(0).integers(-1, 2, size=(11, 1, 2, 3)).astype(kind)
    stored = []
    for rows in (1_000, 3):
        monkeypatch.setattr("bitproof.export.importer.prepare_vectors.ROWS_AT_ONCE", rows)
        (tmp_path / str(rows)).mkdir()
        stored.append(load_vectors(prepare(qonnx, tmp_path / str(rows), given), "vectors").codes)
    whole, blocks = stored
    np.testing.assert_array_equal(whole, blocks, strict=True)
    given[10, 0, 1, 2] = 7 if kind is np.int64 else np.inf
    (tmp_path / "late").mkdir()
    with pytest.raises(InputError, match=r"holds codes from -?\d to 7|not finite"):
        prepare(qonnx, tmp_path / "late", given)


def test_more_than_the_memory_holds_is_refused_before_it_is_read(
    qonnx: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bitproof.export.importer.prepare_vectors.memory_bytes", lambda: 40 << 20)
    given = np.lib.format.open_memmap(tmp_path / "vectors.npy", "w+", np.uint8, (1_000_000, 6))  # a sparse file
    del given
    source = source_file(tmp_path / "vectors.npy")
    stage = PrepareVectors(vectors=source, labels=None, samples=20, split="vectors")
    with pytest.raises(
        InputError, match=r"1000000 samples, 6000000 numbers, .* 137 MiB; this machine has 40 MiB: save at"
    ):
        stage.run(qonnx, context(tmp_path, "data"))


def test_a_header_of_any_length_is_not_shown_in_full(qonnx: Artifact, tmp_path: Path) -> None:
    header = ("{" + "x" * 50_000 + "}\n").encode()
    (tmp_path / "odd.npy").write_bytes(b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header)
    stage = PrepareVectors(source_file(tmp_path / "odd.npy"), None, samples=20, split="vectors")
    with pytest.raises(InputError) as refused:
        stage.run(qonnx, context(tmp_path, "data"))
    assert len(str(refused.value)) < 500
