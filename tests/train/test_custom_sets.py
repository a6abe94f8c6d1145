"""A data set of the user's, from a function in a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from bitproof.pipeline import Artifact, InputError, load_vectors
from bitproof.pipeline.config import DataConfig
from bitproof.pipeline.stage import execute
from bitproof.plan import RunPlan
from bitproof.train.data import PrepareData
from bitproof.train.data.custom import read_custom
from bitproof.train.device_split import load_dataset
from bitproof.yaml_file import read_config

FILE = """
import numpy as np

def stripes(root, seed):
    generator = np.random.default_rng(seed)
    def part(count):
        labels = generator.integers(0, 2, count)
        codes = np.zeros((count, 1, 4, 4), dtype=np.uint8)
        codes[labels == 0, :, ::2] = 255
        codes[labels == 1, :, :, ::2] = 255
        return codes, labels
    return {"train": part(40), "test": part(10), "classes": ["across", "along"]}

def changed(**change):
    def function(root, seed):
        return {**stripes(root, seed), **change}
    return function

codes, labels = np.zeros((3, 16), np.uint8), np.zeros(3, np.int64)
nothing = lambda root, seed: None
extra = changed(extra=1)
no_pair = changed(train=codes)
floats = changed(train=(codes / 255, labels))
real_labels = changed(test=(codes.reshape(3, 1, 4, 4), labels / 2))
other_shape = changed(test=(codes, labels))
high_label = changed(test=(codes.reshape(3, 1, 4, 4), labels + 2))
low_label = changed(test=(codes.reshape(3, 1, 4, 4), labels - 1))
empty = changed(test=(codes[:0].reshape(0, 1, 4, 4), labels[:0]))
uneven = changed(test=(codes.reshape(3, 1, 4, 4), labels[:2]))
names = changed(classes=[1, 2])

def broken(root, seed):
    raise KeyError("column")

def huge_label(root, seed):
    return {"train": (codes, labels + 10**9), "test": (codes, labels)}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    return path


def make(file: Path, folder: Path, seed: int) -> Artifact:
    stage = PrepareData(DataConfig(name=f"{file}:stripes"), 3)
    return execute(stage, None, folder / "data", seed=seed, versions={}, name="data")


def test_codes_and_labels_arrive_split_and_shaped(file: Path, tmp_path: Path) -> None:
    artifact = make(file, tmp_path / "run", 0)
    description = json.loads((artifact.path / "dataset.json").read_text())
    assert description["shape"] == [1, 4, 4]
    assert description["classes"] == ["across", "along"]
    dataset = load_dataset(artifact, torch.device("cpu"))
    assert (len(dataset.train), len(dataset.validation), len(dataset.test)) == (37, 3, 10)
    assert dataset.shape == (1, 4, 4)
    assert sorted(dataset.train.codes.unique().tolist()) == [0, 7]
    vectors = load_vectors(artifact, "test")
    assert vectors.labels is not None
    rows = vectors.codes.reshape(10, 4, 4)
    assert np.array_equal(rows[:, 0, 1] > 0, vectors.labels == 0)
    assert make(file, tmp_path / "again", 0).sha256 == artifact.sha256
    assert make(file, tmp_path / "other", 1).sha256 != artifact.sha256


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("absent", r"has no function 'absent'"),
        ("broken", r"raised KeyError: 'column' \(.*mine\.py, line 33\)$"),
        (
            "nothing",
            r"returned NoneType; it must return a mapping with train and test, perhaps validation and classes$",
        ),
        ("extra", r"returned the keys \['train', 'test', 'classes', 'extra'\]; allowed: train and test"),
        ("no_pair", r"'train' is ndarray; it must be a pair of NumPy arrays: codes, labels$"),
        ("floats", r"the codes of 'train' are float64 of shape \(3, 16\); they must be uint8"),
        ("real_labels", r"the labels of 'test' are float64 of shape \(3,\); they must be whole numbers"),
        ("other_shape", r"returned samples of different shapes: \{'train': \(1, 4, 4\), 'test': \(16,\)\}$"),
        ("high_label", r"split 'test' has labels 2\.\.2; allowed 0\.\.1$"),
        ("huge_label", r"the label 1000000000, so 1000000001 classes; allowed without 'classes': labels 0 to 65535"),
        ("low_label", r"split 'test' has labels -1\.\.-1; allowed 0\.\.1$"),
        ("empty", r"split 'test' has 0 samples and 0 labels$"),
        ("uneven", r"split 'test' has 3 samples and 2 labels$"),
        ("names", r"'classes' is \[1, 2\]; it must be a list of names$"),
    ],
)
def test_what_is_no_data_set_is_refused(file: Path, function: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_custom(f"{file}:{function}", None, 0)


def test_path_is_made_absolute_and_an_edited_file_makes_the_stage_stale(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "run.yaml").write_text(
        "name: mine\ndata: {name: mine.py:stripes}\nmodel: {name: mlp}\ntargets: [onnx-int8]\n"
    )
    config = read_config(Path("run.yaml"))
    assert config.data.name == f"{file}:stripes"
    before = RunPlan(config).stage("data").options
    assert before["code"] is not None
    file.write_text(FILE + "\n")
    assert RunPlan(config).stage("data").options != before
    assert RunPlan(config).stage("train").options["code"] is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "imagenet"}, r"must be one of fashion-mnist, mnist, digits, cifar-10, speech"),
        ({"name": "digits", "augment": True}, r"augment = true, but no augmentation is usual for 'digits'"),
    ],
)
def test_unknown_data_set_and_augmentation_without_effect_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataConfig.model_validate(options)
