"""Networks by name, or by the path of a Python file."""

from train.models.build import build, build_float, require_logits

__all__ = ["build", "build_float", "require_logits"]
