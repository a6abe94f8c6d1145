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
from pipeline.executor import (
    Codes,
    Executor,
    FloatReference,
    LayerTracer,
    MatrixUnit,
    Observation,
    PointRequantizer,
    Requantizer,
    WeightSign,
)
from pipeline.parity import Mismatch, ParityCheck, ParityReport, Unexplained, compare_codes, outputs_sha256
from pipeline.stage import Stage, StageContext
from pipeline.vectors import Vectors, load_vectors

__all__ = [
    "Artifact",
    "BitproofError",
    "Codes",
    "ConfigError",
    "Executor",
    "FloatReference",
    "GateError",
    "InputError",
    "IntegrityError",
    "LayerTracer",
    "MatrixUnit",
    "Mismatch",
    "Observation",
    "ParityCheck",
    "ParityReport",
    "PointRequantizer",
    "Requantizer",
    "Stage",
    "StageContext",
    "StageError",
    "TooLargeError",
    "ToolMissingError",
    "Unexplained",
    "Vectors",
    "WeightSign",
    "compare_codes",
    "digest_of",
    "load_vectors",
    "outputs_sha256",
    "sha256_of_bytes",
]
