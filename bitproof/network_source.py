"""The source of a network: a training and its export, or a user's QONNX file.

It is the part of a run before the integer model. The last of its stages is ``export``, which holds a QONNX file.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Protocol

from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.executor import Executor, ExecutorPlan, Place
from bitproof.pipeline.import_config import ImportConfig
from bitproof.pipeline.stage import FirstStage, Stage, StagePlan
from bitproof.pipeline.user_files import digest_of_code


class NetworkSource(Protocol):
    """What fills a run up to the QONNX file."""

    @property
    def stages(self) -> tuple[StagePlan, ...]:
        """The stages, sources before what is made from them."""
        ...

    @property
    def executors(self) -> tuple[ExecutorPlan, ...]:
        """The executors of what they make, in the order of the pipeline."""
        ...

    @property
    def baselines(self) -> tuple[str, ...]:
        """Stages that the ledger needs though no executor runs their artifacts."""
        ...


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """Read a data set, train with and without quantization, export."""

    config: RunConfig

    @property
    def stages(self) -> tuple[StagePlan, ...]:
        """Data, the float baseline, the quantized network and its export."""
        config = self.config
        data = {
            "seed": config.seed,
            "data": config.data.model_dump(mode="json"),
            "input_bits": config.model.input_bits,
            "code": digest_of_code(config.data.name),
        }
        training = {
            "seed": config.seed,
            "model": config.model.model_dump(mode="json"),
            "code": digest_of_code(config.model.name),
            "train": config.train.model_dump(mode="json"),
        }
        return (
            StagePlan("data", None, partial(_prepare_data, config), data),
            StagePlan("train-float", "data", partial(_train_float, config), training),
            StagePlan("train", "data", partial(_train_quantized, config), training, priority=10),
            StagePlan("export", "train", _export, priority=10),
        )

    @property
    def executors(self) -> tuple[ExecutorPlan, ...]:
        """The trained network itself, and its export."""
        return (ExecutorPlan("torch", "torch", "train", "the trained Brevitas network in PyTorch", _run_torch), QONNX)

    @property
    def baselines(self) -> tuple[str, ...]:
        """The network without quantization."""
        return ("train-float",)


@dataclass(frozen=True, slots=True)
class ImportedNetwork:
    """Normalize a QONNX file, then read or draw vectors of codes for its input."""

    config: ImportConfig

    @property
    def stages(self) -> tuple[StagePlan, ...]:
        """The file, then the vectors: what codes the input takes is known from the file.

        What the files hold counts, not where they lie.
        """
        config = self.config
        drawn = config.vectors is None
        file = {"source": config.source.sha256, "input": config.input}
        vectors = {
            "vectors": None if config.vectors is None else config.vectors.sha256,
            "labels": None if config.labels is None else config.labels.sha256,
            "samples": config.parity.samples if drawn else None,
            "seed": config.seed if drawn else None,
        }
        return (
            StagePlan("export", None, partial(_import, config), file, priority=10),
            StagePlan("data", "export", partial(_prepare_vectors, config), vectors),
        )

    @property
    def executors(self) -> tuple[ExecutorPlan, ...]:
        """The file itself, as binary32 and as binary64 evaluate it."""
        about = "the same file in binary64, weights and biases as integers"
        return (QONNX, ExecutorPlan("qonnx-f64", "qonnx-f64", "export", about, _run_qonnx_float64))

    @property
    def baselines(self) -> tuple[str, ...]:
        """None: how the network was trained is not known."""
        return ()


def source_of(config: RunConfig | ImportConfig) -> NetworkSource:
    """Return where the network of a run of *config* comes from."""
    return ImportedNetwork(config) if isinstance(config, ImportConfig) else TrainedNetwork(config)


def _prepare_data(config: RunConfig) -> FirstStage:
    from bitproof.train.data import PrepareData

    return PrepareData(config=config.data, input_bits=config.model.input_bits)


def _train_float(config: RunConfig) -> Stage:
    from bitproof.train.stages import TrainFloat

    return TrainFloat(model=config.model, train=config.train)


def _train_quantized(config: RunConfig) -> Stage:
    from bitproof.train.stages import TrainQuantized

    return TrainQuantized(model=config.model, train=config.train)


def _export() -> Stage:
    from bitproof.export.qonnx import ExportQonnx
    from bitproof.train.checkpoint import load_network

    return ExportQonnx(load_network)


def _import(config: ImportConfig) -> FirstStage:
    from bitproof.export.importer import ImportQonnx

    return ImportQonnx(source=config.source, input=config.input)


def _prepare_vectors(config: ImportConfig) -> Stage:
    from bitproof.export.importer import PrepareVectors

    return PrepareVectors(
        vectors=config.vectors, labels=config.labels, samples=config.parity.samples, split=config.split
    )


def _run_torch(place: Place) -> Executor:
    from bitproof.export.float_reference import reference_codings
    from bitproof.train.executor import TorchExecutor

    return TorchExecutor(place.artifact, *reference_codings(place.integer.path))


def _run_qonnx(place: Place) -> Executor:
    from bitproof.export.qonnx_executor import QonnxExecutor

    return QonnxExecutor.open(place.artifact, place.integer)


def _run_qonnx_float64(place: Place) -> Executor:
    from bitproof.export.qonnx_float64 import QonnxFloat64Executor

    return QonnxFloat64Executor.open(place.artifact, place.integer)


QONNX = ExecutorPlan("qonnx", "qonnx", "export", "the exported QONNX file, run by qonnx", _run_qonnx)
