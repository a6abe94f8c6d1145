"""QONNX files that others made, brought into the one form that the lowering reads."""

from export.foreign.normalize import normalize

__all__ = ["normalize"]
