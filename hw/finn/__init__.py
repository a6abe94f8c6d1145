"""FINN: the integer model as dataflow hardware layers, their RTL, and their execution in Python."""

from hw.finn.executor import FinnExecutor
from hw.finn.flow import BuildFinnGraph

__all__ = ["BuildFinnGraph", "FinnExecutor"]
