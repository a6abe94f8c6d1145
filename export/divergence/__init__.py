"""Where two executors part first, and why."""

from export.divergence.cause import Cause, Finding
from export.divergence.explain import Explanation, explain, explain_run
from export.divergence.locate import Evidence, Site

__all__ = ["Cause", "Evidence", "Explanation", "Finding", "Site", "explain", "explain_run"]
