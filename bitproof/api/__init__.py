"""The Python API: what the command line does, for scripts and notebooks."""

from bitproof.api.model import Model, load
from bitproof.api.run import Run, deploy

__all__ = ["Model", "Run", "deploy", "load"]
