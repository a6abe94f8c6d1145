"""The source of a network: a training and its export, or a user's QONNX file.

It is the part of a run before the integer model. The last of its stages is ``export``, which holds a QONNX file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.errors import InputError
from bitproof.pipeline.executor import Executor, ExecutorPlan, Place
from bitproof.pipeline.import_config import ImportConfig, SourceFile
from bitproof.pipeline.run_folder import RunFolder
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

    def inputs(self, *, trust_code: bool) -> tuple[str, ...]:
        """Return the stages that a run is derived from: what they make is not made again.

        With *trust_code*, Python files that the configuration names may be executed.
        """
        ...

    def left_out(self, *, trust_code: bool) -> tuple[str, ...]:
        """Return the executors that would execute a user's code; none with *trust_code*."""
        ...

    def measured(self, run: RunFolder) -> Mapping[str, float | int]:
        """Return the accuracies that the artifacts of *run* give on its data, by their names in the ledger.

        They execute a user's code if the network is one.
        """
        ...

    @property
    def stated(self) -> tuple[tuple[str, str], ...]:
        """What a run says of its inputs that it does not show: the stage that was given them, and the statement."""
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

    def inputs(self, *, trust_code: bool) -> tuple[str, ...]:
        """Data and weights; the QONNX file too, if the network is a user's code that may not be executed."""
        trained = ("data", "train-float", "train")
        return trained if trust_code or not self._is_user_code else (*trained, "export")

    def left_out(self, *, trust_code: bool) -> tuple[str, ...]:
        """The trained network, if it is a user's code that may not be executed."""
        return () if trust_code or not self._is_user_code else ("torch",)

    def measured(self, run: RunFolder) -> Mapping[str, float | int]:
        """The accuracy of the checkpoint on the whole test split."""
        from bitproof.train.stages import test_accuracy

        accuracy, samples = test_accuracy(run.artifact("train"), run.artifact("data"), self.config.model)
        return {"quantized": accuracy, "test_samples": samples}

    @property
    def stated(self) -> tuple[tuple[str, str], ...]:
        """That the training gave the weights, and the baseline, of which there are none."""
        return (
            ("data", f"its codes are those of {self.config.data.name}"),
            ("train", "its weights come from the training that the configuration describes"),
            ("train-float", "accuracy.float is that of the baseline, whose weights are no part of a run"),
        )

    @property
    def _is_user_code(self) -> bool:
        return ":" in self.config.model.name


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

    def inputs(self, *, trust_code: bool) -> tuple[str, ...]:
        """The normalized file and the vectors, if the files that they were made from are not at hand."""
        del trust_code  # it names none
        taken_over = () if _at_hand(self.config.source) else ("export",)
        given = [file for file in (self.config.vectors, self.config.labels) if file is not None]
        return taken_over if all(map(_at_hand, given)) else (*taken_over, "data")

    def left_out(self, *, trust_code: bool) -> tuple[str, ...]:
        """None: a file is no code."""
        del trust_code
        return ()

    def measured(self, run: RunFolder) -> Mapping[str, float | int]:
        """None beyond those of the executors."""
        del run
        return {}

    @property
    def stated(self) -> tuple[tuple[str, str], ...]:
        """That normalized file and vectors were made from a user's files, which are no part of a run."""
        config = self.config
        named = (("export", config.source), ("data", config.vectors), ("data", config.labels))
        return tuple(
            (stage, f"it was made from {file.path.name}, SHA-256 {file.sha256}")
            for stage, file in named
            if file is not None
        )


def _at_hand(file: SourceFile) -> bool:
    """Tell whether the file is where it was, with the same bytes."""
    try:
        file.require_unchanged()
    except InputError:
        return False
    return True


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
