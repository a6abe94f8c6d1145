"""The recorded configuration of an import."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest

from bitproof.pipeline.errors import ConfigError, InputError
from bitproof.pipeline.import_config import ImportConfig, make_config, source_file
from bitproof.pipeline.input_type import InputType, parse_input_type
from bitproof.pipeline.run_folder import RunFolder
from bitproof.plan import RunPlan
from bitproof.targets import check_targets


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("uint8", InputType(8, signed=False, bipolar=False, scale=Fraction(1))),
        ("int4", InputType(4, signed=True, bipolar=False, scale=Fraction(1))),
        ("bipolar", InputType(1, signed=True, bipolar=True, scale=Fraction(1))),
        ("uint8 * 1/255", InputType(8, signed=False, bipolar=False, scale=Fraction(1, 255))),
        ("bipolar*3", InputType(1, signed=True, bipolar=True, scale=Fraction(3))),
    ],
)
def test_types_of_input_codes_are_parsed(text: str, expected: InputType) -> None:
    assert parse_input_type(text) == expected


@pytest.mark.parametrize(
    "text", ["", "uint", "uint0", "uint9", "int1", "float32", "uint8*", "uint8*0", "uint8*1/0", "uint8*0.5", "8"]
)
def test_other_types_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"uint8\*1/255|allowed are 1 to 8|must be positive|bipolar"):
        parse_input_type(text)


@pytest.fixture
def config(tmp_path: Path) -> ImportConfig:
    for name in ("net.onnx", "x.npy"):
        (tmp_path / name).write_bytes(name.encode())
    files = {"source": source_file(tmp_path / "net.onnx"), "vectors": source_file(tmp_path / "x.npy")}
    return make_config(
        {**files, "name": "net", "targets": ("onnx-int8", "c{core=cortex-m0}"), "input": "uint8"}, check_targets
    )


def test_a_run_folder_gives_the_configuration_back(config: ImportConfig, tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").write_config(config)
    assert RunFolder.open(tmp_path / "run").config() == config


def test_the_plan_begins_with_the_file_and_needs_no_training(config: ImportConfig) -> None:
    plan = RunPlan(config)
    assert plan.stage_names == ("export", "data", "integer", "onnx-int8", "c-cortex-m0", "firmware-cortex-m0")
    assert [stage.source for stage in plan.stages[:4]] == [None, "export", "export", "integer"]
    assert [executor.name for executor in plan.executors] == ["qonnx", "qonnx-f64", "onnx-int8", "c:cortex-m0"]
    assert plan.network.baselines == ()


def test_options_tell_what_the_files_hold_and_not_where_they_are(config: ImportConfig, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.onnx").write_bytes(b"net.onnx")
    moved = config.model_copy(update={"source": source_file(tmp_path / "elsewhere.onnx")})
    assert RunPlan(moved).stage("export").options == RunPlan(config).stage("export").options
    (tmp_path / "elsewhere.onnx").write_bytes(b"changed")
    changed = config.model_copy(update={"source": source_file(tmp_path / "elsewhere.onnx")})
    assert RunPlan(changed).stage("export").options != RunPlan(config).stage("export").options
    assert RunPlan(changed).stage("data").options == RunPlan(config).stage("data").options


def test_every_option_that_is_not_valid_is_named(config: ImportConfig) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(
            {"source": config.source, "name": "a b", "targets": ("tpu",), "input": "float", "seed": -1}, check_targets
        )
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    for start in ("the run cannot be called 'a b'; allowed", "--target ...: unknown target 'tpu'", "--input float: "):
        assert any(line.startswith(start) for line in lines), (start, lines)
    assert any(line.startswith("--seed -1: ") for line in lines)


def test_files_that_are_missing_empty_or_no_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name, message in (("missing", "there is no file"), ("empty", "has 0 bytes"), (".", "is not a regular file")):
        with pytest.raises(InputError, match=message):
            source_file(tmp_path / name)
