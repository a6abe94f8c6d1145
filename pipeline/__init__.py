"""The kernel: artifacts, stages, executors, parity, the ledger and the command line."""

from pipeline.artifact import Artifact, digest_of, sha256_of_bytes
from pipeline.errors import (
    BitproofError,
    ConfigError,
    GateError,
    InputError,
    IntegrityError,
    StageError,
    TooLargeError,
    ToolMissingError,
)
from pipeline.executor import Codes, Executor, LayerTracer, MatrixUnit, Requantizer, WeightSign
from pipeline.parity import Mismatch, ParityCheck, ParityReport, compare_codes, outputs_sha256
from pipeline.stage import Stage, StageContext
from pipeline.vectors import Vectors, load_vectors

__all__ = [
    "Artifact",
    "BitproofError",
    "Codes",
    "ConfigError",
    "Executor",
    "GateError",
    "InputError",
    "IntegrityError",
    "LayerTracer",
    "MatrixUnit",
    "Mismatch",
    "ParityCheck",
    "ParityReport",
    "Requantizer",
    "Stage",
    "StageContext",
    "StageError",
    "TooLargeError",
    "ToolMissingError",
    "Vectors",
    "WeightSign",
    "compare_codes",
    "digest_of",
    "load_vectors",
    "outputs_sha256",
    "sha256_of_bytes",
]
