"""The first place where two executors diverge, and the cause."""

from bitproof.export.divergence.cause import Cause, Finding
from bitproof.export.divergence.explain import Explanation, explain, explain_run
from bitproof.export.divergence.locate import Evidence, Site

__all__ = ["Cause", "Evidence", "Explanation", "Finding", "Site", "explain", "explain_run"]
