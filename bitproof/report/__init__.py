"""The report: one self-contained HTML page that shows one network as all its executors."""

from bitproof.report.page import render

__all__ = ["render"]
