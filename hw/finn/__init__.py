"""FINN: the integer model as dataflow hardware layers, their RTL, and their execution in Python."""

from bitproof.hw.finn.executor import FinnExecutor
from bitproof.hw.finn.flow import BuildFinnGraph

__all__ = ["BuildFinnGraph", "FinnExecutor"]
