"""The kernel: artifacts, stages, executors, parity, the ledger and the configuration."""

from bitproof.pipeline.artifact import Artifact, digest_of, sha256_of_bytes
from bitproof.pipeline.errors import (
    BitproofError,
    ConfigError,
    GateError,
    InputError,
    IntegrityError,
    StageError,
    TooLargeError,
    ToolMissingError,
)
from bitproof.pipeline.executor import (
    Codes,
    Executor,
    FloatReference,
    LayerTracer,
    MatrixUnit,
    Observation,
    PairedMatrixUnit,
    PointRequantizer,
    Requantizer,
    WeightSign,
)
from bitproof.pipeline.parity import Mismatch, ParityCheck, ParityReport, Unexplained, compare_codes, outputs_sha256
from bitproof.pipeline.stage import FirstStage, Stage, StageContext, StagePlan
from bitproof.pipeline.vectors import Vectors, load_vectors

__all__ = [
    "Artifact",
    "BitproofError",
    "Codes",
    "ConfigError",
    "Executor",
    "FirstStage",
    "FloatReference",
    "GateError",
    "InputError",
    "IntegrityError",
    "LayerTracer",
    "MatrixUnit",
    "Mismatch",
    "Observation",
    "PairedMatrixUnit",
    "ParityCheck",
    "ParityReport",
    "PointRequantizer",
    "Requantizer",
    "Stage",
    "StageContext",
    "StageError",
    "StagePlan",
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
