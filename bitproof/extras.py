"""Python packages that may be absent, and the extra of the distribution that installs each."""

from __future__ import annotations

from bitproof.pipeline.errors import ToolMissingError

EXTRA_OF_PACKAGE = {
    "asyncssh": "deploy",
    "brevitas": "train",
    "finn": "fpga",
    "lightning_fabric": "train",
    "mlxtend": "train",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "onnxscript": "train",
    "qonnx": "onnx",
    "sklearn": "train",
    "tensorboardX": "train",
    "torch": "train",
    "torchvision": "train",
}
"""Which extra of the distribution installs a package that may be absent."""


def missing_package(error: ModuleNotFoundError, *, needed_by: str) -> ToolMissingError | None:
    """Return the error that tells how to install the package that *error* is about; None if it is unknown."""
    package = (error.name or "").partition(".")[0]
    extra = EXTRA_OF_PACKAGE.get(package)
    if extra is None:
        return None
    return ToolMissingError(package, needed_by=needed_by, install=f"pip install 'bitproof[{extra}]'")
