"""Profiles of Hypothesis: ``pytest --hypothesis-profile=long tests/export/test_n_version.py`` searches for an hour."""

import signal

import pytest
from hypothesis import settings

# Where a launcher left it ignored, every program that a test runs seems to end with code 0.
signal.signal(signal.SIGCHLD, signal.SIG_DFL)

settings.register_profile("long", max_examples=10_000, deadline=None, print_blob=True)

collect_ignore_glob = ["support/cases_*.py"]
"""They list their cases when they are imported, once; the search for doctests would import them a second time."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Fail if tests of one group would run in several processes: each would make the group's fixtures again."""
    if getattr(config.option, "loadgroup", False):
        for item in items:
            if item.get_closest_marker("xdist_group") is not None and "@" not in item.nodeid:
                raise pytest.UsageError(f"{item.nodeid} is in a group that pytest-xdist does not keep together")
