"""Every stage, executor and fault injector by name, as "module:attribute", imported on use.

This is the composition root: the only place where the packages meet. Nothing heavy is imported before it is needed, a
package that is not installed is reported with its install line, and removing a target is deleting its lines here.
"""

from __future__ import annotations

import importlib
from typing import Any

from bitproof.pipeline.artifact import Artifact
from bitproof.pipeline.errors import ToolMissingError

STAGES = {
    "data": "bitproof.train.data:PrepareData",
    "train-float": "bitproof.train.stages:TrainFloat",
    "train": "bitproof.train.stages:TrainQuantized",
    "export": "bitproof.export.qonnx:ExportQonnx",
    "import": "bitproof.export.foreign:ImportQonnx",
    "import-vectors": "bitproof.export.foreign:PrepareVectors",
    "integer": "bitproof.export.lower:LowerToInteger",
    "onnx-int8": "bitproof.export.onnx_int8:WriteOnnxInt8",
    "finn": "bitproof.hw.finn:BuildFinnGraph",
    "rtl": "bitproof.hw.stitch:StitchRtl",
    "c": "bitproof.hw.mcu:GenerateC",
    "firmware": "bitproof.hw.mcu:BuildFirmware",
}

EXECUTORS = {
    "integer": "bitproof.export.executors:IntegerExecutor",
    "torch": "bitproof.train.executor:TorchExecutor",
    "qonnx": "bitproof.export.qonnx_executor:QonnxExecutor",
    "qonnx-f64": "bitproof.export.qonnx_float64:QonnxFloat64Executor",
    "onnx-int8": "bitproof.export.onnx_int8:OnnxInt8Executor",
    "finn-hw": "bitproof.hw.finn:FinnExecutor",
    "rtl": "bitproof.hw.verilator:RtlExecutor",
    "c": "bitproof.hw.mcu:FirmwareExecutor",
}

FAULTS = {
    "integer": "bitproof.export.integer:flip_weight_bit",
    "onnx-int8": "bitproof.export.onnx_int8:flip_weight_bit",
    "rtl": "bitproof.hw.finn.fault:flip_weight_bit",
    "c": "bitproof.hw.mcu:flip_weight_bit",
}

REPROGRAM = {"rtl": "bitproof.hw.finn.reprogram:reprogram_thresholds"}
"""Executors whose artifact can be given other thresholds without being built again."""

SUPPORT = {
    "onnx-int8": "bitproof.export.onnx_int8:build",
    "c": "bitproof.hw.mcu.plan:draft_network",
    "finn": "bitproof.hw.finn.supported:require_supported",
}
"""For each kind of target the function that refuses, by a StageError, an integer model that it has no form for."""

MEMORY = {"c": "bitproof.hw.mcu.memory:require_memory"}
"""For each kind of target with a memory of its own the function that refuses, by a TooLargeError, an integer model that
does not fit; it takes the options of the target behind the model."""

OPTION_LIMITS = {"c": "bitproof.hw.mcu.cores:require_board_memory"}
"""For each kind of target the function that refuses, by a ConfigError, options that the target spec
alone cannot."""

FUNCTIONS = {
    "load-network": "bitproof.train.checkpoint:load_network",
    "classify": "bitproof.export.integer:classify",
    "load-integer-model": "bitproof.export.integer:load",
    "operations-of-sample": "bitproof.export.integer:operations_of",
    "choose-weight": "bitproof.export.integer:choose_weight",
    "lower-file": "bitproof.export.lower:lower_file",
    "derive-again": "bitproof.export.lower:derive_again",
    "prove-requantization": "bitproof.export.proofs:prove_requantization",
    "activations-of": "bitproof.export.lower:activations_of",
    "judge-reference": "bitproof.export.float_reference:judge_reference",
    "reference-codings": "bitproof.export.float_reference:reference_codings",
    "explain-divergence": "bitproof.export.divergence:explain_run",
    "lint-file": "bitproof.export.lint:examine_file",
    "untrained-network": "bitproof.train.untrained:untrained_checkpoint",
    "save-integer-model": "bitproof.export.integer:save",
    "fault-spec": "bitproof.hw.faults:FaultSpec",
    "calibration-settings": "bitproof.hw.calibrate:Settings",
    "calibration-samples": "bitproof.hw.calibrate:Samples",
    "calibrate": "bitproof.hw.calibrate:run_session",
    "calibration-loss": "bitproof.hw.calibrate:held_out_loss",
    "calibration-original": "bitproof.hw.calibrate:original_of",
    "prove-matrix-units": "bitproof.export.proofs:prove_matrix_units",
}

EXTRA_OF_PACKAGE = {
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
    "torchmetrics": "train",
    "torchvision": "train",
}
"""Which extra of the distribution installs a package that may be absent."""


def resolve(table: dict[str, str], name: str) -> Any:
    """Import and return what *name* stands for in *table*.

    Raises:
        ToolMissingError: a Python package that it needs is not installed.
    """
    module, _, attribute = table[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        missing = missing_package(error, needed_by=repr(name))
        if missing is None:
            raise
        raise missing from error


def missing_package(error: ModuleNotFoundError, *, needed_by: str) -> ToolMissingError | None:
    """Return the error that tells how to install the package that *error* is about; None where it is unknown."""
    package = (error.name or "").partition(".")[0]
    extra = EXTRA_OF_PACKAGE.get(package)
    if extra is None:
        return None
    return ToolMissingError(package, needed_by=needed_by, install=f"pip install 'bitproof[{extra}]'")


def load_network(checkpoint: Artifact) -> Any:
    """Return the trained network of *checkpoint* in evaluation mode, and its number of inputs."""
    return resolve(FUNCTIONS, "load-network")(checkpoint)
