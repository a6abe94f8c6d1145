"""Profiles of Hypothesis: ``pytest --hypothesis-profile=long tests/export/test_n_version.py`` searches for an hour."""

import signal

from hypothesis import settings

# Where a launcher left it ignored, every program that a test runs seems to end with code 0.
signal.signal(signal.SIGCHLD, signal.SIG_DFL)

settings.register_profile("long", max_examples=10_000, deadline=None, print_blob=True)

collect_ignore_glob = ["support/cases_*.py"]
"""They list their cases when they are imported, once; the search for doctests would import them a second time."""
