"""Options of the tests, and the run that several modules look at.

``pytest --hypothesis-profile=long tests/export/test_n_version.py`` searches for an hour.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from bitproof_command import bitproof
from hypothesis import settings

if TYPE_CHECKING:
    from pynq_boards import PynqCase

# Where a launcher left it ignored, every program that a test runs seems to end with code 0.
signal.signal(signal.SIGCHLD, signal.SIG_DFL)

settings.register_profile("long", max_examples=10_000, deadline=None, print_blob=True)

collect_ignore_glob = ["support/cases_*.py"]
"""They list their cases when they are imported, once; the search for doctests would import them a second time."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let ``make soak`` say how often a run is killed."""
    parser.addoption("--kills", type=int, default=2, help="kills of a whole run, spread over its stages")
    parser.addoption("--stage-kills", type=int, default=1, help="kills of the process of one stage alone")
    parser.addoption("--disks", type=int, default=1, help="sizes of a disk that becomes full during a run")


def pytest_configure(config: pytest.Config) -> None:
    """Let all tests, in whatever process, share their compiled simulators: several have the same design."""
    if "BITPROOF_CACHE" not in os.environ:  # noqa: TID251  set here for every process that the tests start
        folder = tempfile.mkdtemp(prefix="bitproof-simulators-")
        os.environ["BITPROOF_CACHE"] = folder  # noqa: TID251
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    # They simulate little: compiling takes longer.
    os.environ.setdefault("BITPROOF_SIMULATOR_OPT", "-O0")  # noqa: TID251


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fail if tests of one group would run in several processes: each would make the group's fixtures again."""
    if getattr(config.option, "loadgroup", False):
        for item in items:
            if item.get_closest_marker("xdist_group") is not None and "@" not in item.nodeid:
                raise pytest.UsageError(f"{item.nodeid} is in a group that pytest-xdist does not keep together")


@pytest.fixture(scope="session")
def digits_command() -> list[object]:
    """Return the command of :func:`digits_run`: fewer epochs than the configuration has, enough for its gate."""
    return ["run", Path(__file__).parent.parent / "configs" / "digits_mlp.yaml", "--set", "train.epochs=10"]


@pytest.fixture(scope="session")
def digits_run(tmp_path_factory: pytest.TempPathFactory, digits_command: list[object]) -> Path:
    """Run the digits configuration once; the tests of the group ``digits_run`` look at it or at a copy."""
    runs = tmp_path_factory.mktemp("runs")
    outcome = bitproof(*digits_command, "--runs", runs, "--json")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out)["ok"] is True
    return runs / "digits_mlp"


@pytest.fixture(scope="session")
def pynq_case(tmp_path_factory: pytest.TempPathFactory) -> PynqCase:
    """Build the network of the tests of PYNQ once; those tests are in the group ``pynq``."""
    from pynq_boards import make_pynq_case

    return make_pynq_case(tmp_path_factory.mktemp("pynq"))
