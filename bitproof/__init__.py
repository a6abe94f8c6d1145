"""bitproof: from a training script to an FPGA or a microcontroller with the same integers at every stage.

:func:`load` reads a network into exact integers; :func:`deploy` takes it to targets and compares every one with them;
:func:`onnx_session` runs a packed-int8 file, with numpy and onnxruntime alone.
Nothing heavy is imported before it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bitproof.api import Model, Run, deploy, load
    from bitproof.session import OnnxSession, onnx_session

__all__ = ["Model", "OnnxSession", "Run", "deploy", "load", "onnx_session"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it offers {', '.join(__all__)}")
    if name in ("OnnxSession", "onnx_session"):
        from bitproof import session

        return getattr(session, name)
    from bitproof import api

    return getattr(api, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
