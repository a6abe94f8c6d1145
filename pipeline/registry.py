"""Every stage, executor and fault injector by name, as "module:attribute", imported on use.

This is the composition root: the only place where the packages meet. Nothing heavy is imported before it is needed, a
package that is not installed is reported with its install line, and removing a target is deleting its lines here.
"""

from __future__ import annotations

import importlib
from typing import Any

from pipeline.artifact import Artifact
from pipeline.errors import ToolMissingError

STAGES = {
    "data": "train.data:PrepareData",
    "train-float": "train.stages:TrainFloat",
    "train": "train.stages:TrainQuantized",
    "export": "export.qonnx:ExportQonnx",
    "import": "export.foreign:ImportQonnx",
    "import-vectors": "export.foreign:PrepareVectors",
    "integer": "export.lower:LowerToInteger",
    "onnx-int8": "export.onnx_int8:WriteOnnxInt8",
    "finn": "hw.finn:BuildFinnGraph",
    "rtl": "hw.stitch:StitchRtl",
    "c": "hw.mcu:GenerateC",
    "firmware": "hw.mcu:BuildFirmware",
}

EXECUTORS = {
    "integer": "export.executors:IntegerExecutor",
    "torch": "train.executor:TorchExecutor",
    "qonnx": "export.qonnx_executor:QonnxExecutor",
    "qonnx-f64": "export.qonnx_float64:QonnxFloat64Executor",
    "onnx-int8": "export.onnx_int8:OnnxInt8Executor",
    "finn-hw": "hw.finn:FinnExecutor",
    "rtl": "hw.verilator:RtlExecutor",
    "c": "hw.mcu:FirmwareExecutor",
}

FAULTS = {
    "integer": "export.integer:flip_weight_bit",
    "onnx-int8": "export.onnx_int8:flip_weight_bit",
    "rtl": "hw.finn.fault:flip_weight_bit",
    "c": "hw.mcu:flip_weight_bit",
}

REPROGRAM = {"rtl": "hw.finn.reprogram:reprogram_thresholds"}
"""Executors whose artifact can be given other thresholds without being built again."""

SUPPORT = {
    "onnx-int8": "export.onnx_int8:build",
    "c": "hw.mcu.plan:draft_network",
    "finn": "hw.finn.supported:require_supported",
}
"""For each kind of target the function that refuses, by a StageError, an integer model that it has no form for."""

MEMORY = {"c": "hw.mcu.memory:require_memory"}
"""For each kind of target with a memory of its own the function that refuses, by a TooLargeError, an integer model that
does not fit; it takes the options of the target behind the model."""

OPTION_LIMITS = {"c": "hw.mcu.cores:require_board_memory"}
"""For each kind of target the function that refuses, by a ConfigError, options that :mod:`pipeline.target` cannot."""

FUNCTIONS = {
    "load-network": "train.checkpoint:load_network",
    "classify": "export.integer:classify",
    "load-integer-model": "export.integer:load",
    "operations-of-sample": "export.integer:operations_of",
    "choose-weight": "export.integer:choose_weight",
    "lower-file": "export.lower:lower_file",
    "derive-again": "export.lower:derive_again",
    "prove-requantization": "export.proofs:prove_requantization",
    "activations-of": "export.lower:activations_of",
    "judge-reference": "export.float_reference:judge_reference",
    "reference-codings": "export.float_reference:reference_codings",
    "explain-divergence": "export.divergence:explain_run",
    "lint-file": "export.lint:examine_file",
    "untrained-network": "train.untrained:untrained_checkpoint",
    "save-integer-model": "export.integer:save",
    "fault-spec": "hw.faults:FaultSpec",
    "calibration-settings": "hw.calibrate:Settings",
    "calibration-samples": "hw.calibrate:Samples",
    "calibrate": "hw.calibrate:run_session",
    "calibration-loss": "hw.calibrate:held_out_loss",
    "calibration-original": "hw.calibrate:original_of",
    "prove-matrix-units": "export.proofs:prove_matrix_units",
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
