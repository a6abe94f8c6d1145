"""Files of unknown origin: pipes, devices, sizes, JSON that says a thing twice; and a record that a full disk cut."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bitproof.pipeline.errors import ConfigError, InputError
from bitproof.pipeline.import_config import source_file
from bitproof.pipeline.plain_file import json_value, read_bytes, read_json
from bitproof.pipeline.run_folder import RunFolder
from bitproof.yaml_file import read_config


def test_a_plain_file_of_the_allowed_size_is_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"1234")
    assert read_bytes(tmp_path / "file", 4) == b"1234"
    with pytest.raises(ValueError, match="more than 3 bytes"):
        read_bytes(tmp_path / "file", 3)


def test_a_pipe_or_device_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        with pytest.raises(OSError, match=r"not a plain file|Is a directory"):
            read_bytes(path, 100)
        with pytest.raises(ConfigError):
            read_config(path)
        with pytest.raises(InputError):
            source_file(path)


def test_a_file_whose_end_never_comes_is_not_waited_for() -> None:
    kernel_log = Path("/proc/kmsg")
    if not os.access(kernel_log, os.R_OK):
        pytest.skip("/proc/kmsg cannot be read here")
    with pytest.raises(ConfigError):
        read_config(kernel_log)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"a": 1, "b": {"c": 1, "c": 2}}', "keys repeat: 'c'"),
        ('"\\udcff"', "surrogates not allowed"),
        ("{", "Expecting property name"),
        ("\udcff", "can't decode byte"),
    ],
)
def test_json_that_is_none_or_says_a_thing_twice_is_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "x.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=said):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize("left", ["", '{"stage": "rtl", "exit_co', "[]"])
def test_a_failure_whose_record_a_full_disk_cut_is_a_failed_stage(tmp_path: Path, left: str) -> None:
    (tmp_path / "failures").mkdir()
    (tmp_path / "failures" / "check-rtl.json").write_text(left)
    (failure,) = RunFolder(tmp_path).failures()
    assert (failure.stage, failure.exit_code) == ("check-rtl", 4)
    assert "is the disk full? Run again" in failure.message


@pytest.mark.parametrize("text", [b"NaN", b'{"a": [Infinity]}', b"-Infinity"])
def test_what_is_no_number_of_json_is_refused_where_that_is_asked_for(text: bytes) -> None:
    json_value(text)
    with pytest.raises(ValueError, match="is no number of JSON"):
        json_value(text, finite=True)
