"""10,000 damaged files: each is imported or refused as the user's mistake, in bounded time and memory."""

from __future__ import annotations

import json
import os
import subprocess  # noqa: TID251  a crash or a limit on memory must not end the tests
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("fuzz_import")]

ROOT = Path(__file__).parent.parent.parent
SUPPORT = ROOT / "tests" / "support"
FILES = 10_000


@pytest.fixture(scope="module")
def result() -> dict[str, Any]:
    path = os.pathsep.join((str(ROOT), str(SUPPORT)))
    done = subprocess.run(
        [sys.executable, str(SUPPORT / "fuzz_import.py"), "0", str(FILES)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "PYTHONPATH": path},  # noqa: TID251  of the process that is started here
        check=False,
    )
    assert done.returncode == 0, f"the process ended with {done.returncode} at seed {done.stderr.splitlines()[-1:]}"
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def test_every_file_is_read_or_refused_in_bounded_time_and_memory(result: dict[str, Any]) -> None:
    failures = [failure for failure in result["failures"] if failure["stage"] == "import"]
    assert failures == []
    assert sum(result["outcomes"].values()) + len(result["failures"]) == FILES
    assert result["slowest_s"] < 5
    assert result["peak_bytes"] < 1 << 30


def test_the_damage_reaches_every_part(result: dict[str, Any]) -> None:
    outcomes = result["outcomes"]
    assert outcomes.keys() == {"not read", "not normalized", "not lowered", "lowered"}
    assert min(outcomes.values()) > FILES // 100


def test_every_file_is_lowered_or_refused(result: dict[str, Any]) -> None:
    assert [failure for failure in result["failures"] if failure["stage"] == "lowering"] == []
