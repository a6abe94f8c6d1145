"""The part of a run before the integer model: a training and its export, or a QONNX file of the user's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.import_config import ImportConfig
from bitproof.pipeline.user_files import digest_of_code


@dataclass(frozen=True, slots=True)
class ExecutorStep:
    """One executor of a run.

    Attributes:
        name: its name in the ledger.
        slot: its name in file names and make targets.
        source: the slot of the artifact that it runs.
        kind: its entry in the registry.
        core: the processor of a C target; None for every other.
    """

    name: str
    slot: str
    source: str
    kind: str
    core: str | None = None


QONNX = ExecutorStep("qonnx", "qonnx", "export", "qonnx")


class Front(Protocol):
    """What fills the slots before the integer model; the last of them is ``export``, a QONNX file."""

    @property
    def sources(self) -> Mapping[str, str | None]:
        """The slots, sources before what is made from them, each with the slot that it is made from."""
        ...

    @property
    def executors(self) -> tuple[ExecutorStep, ...]:
        """The executors of these slots, in the order of the pipeline."""
        ...

    @property
    def baselines(self) -> tuple[str, ...]:
        """Slots that the ledger needs though no executor runs them."""
        ...

    def stage(self, slot: str) -> tuple[str, dict[str, Any]]:
        """Return the name in the registry of the stage that fills *slot*, and its arguments."""
        ...

    def options(self, slot: str) -> dict[str, Any]:
        """Return the options that the stage of *slot* depends on, as plain JSON values."""
        ...


@dataclass(frozen=True, slots=True)
class TrainedFront:
    """Read a data set, train with and without quantization, export."""

    config: RunConfig

    @property
    def sources(self) -> Mapping[str, str | None]:
        """The slots with their sources."""
        return {"data": None, "train-float": "data", "train": "data", "export": "train"}

    @property
    def executors(self) -> tuple[ExecutorStep, ...]:
        """The trained network itself, and its export."""
        return (ExecutorStep("torch", "torch", "train", "torch"), QONNX)

    @property
    def baselines(self) -> tuple[str, ...]:
        """The network without quantization."""
        return ("train-float",)

    def stage(self, slot: str) -> tuple[str, dict[str, Any]]:
        """Return the stage of *slot* and its arguments."""
        config = self.config
        if slot == "data":
            return slot, {"config": config.data, "input_bits": config.model.input_bits}
        return slot, {} if slot == "export" else {"model": config.model, "train": config.train}

    def options(self, slot: str) -> dict[str, Any]:
        """Return the options of the stage of *slot*."""
        config = self.config
        if slot == "data":
            return {
                "seed": config.seed,
                "data": config.data.model_dump(mode="json"),
                "input_bits": config.model.input_bits,
                "code": digest_of_code(config.data.name),
            }
        if slot == "export":
            return {}
        return {
            "seed": config.seed,
            "model": config.model.model_dump(mode="json"),
            "code": digest_of_code(config.model.name),
            "train": config.train.model_dump(mode="json"),
        }


@dataclass(frozen=True, slots=True)
class ImportedFront:
    """Normalize a QONNX file, then read or draw vectors of codes for its input."""

    config: ImportConfig

    @property
    def sources(self) -> Mapping[str, str | None]:
        """The slots with their sources: what codes the input takes is known from the file."""
        return {"export": None, "data": "export"}

    @property
    def executors(self) -> tuple[ExecutorStep, ...]:
        """The file itself, as binary32 and as binary64 evaluate it."""
        return (QONNX, ExecutorStep("qonnx-f64", "qonnx-f64", "export", "qonnx-f64"))

    @property
    def baselines(self) -> tuple[str, ...]:
        """None: how the network was trained is not known."""
        return ()

    def stage(self, slot: str) -> tuple[str, dict[str, Any]]:
        """Return the stage of *slot* and its arguments."""
        config = self.config
        if slot == "export":
            return "import", {"source": config.source, "input": config.input}
        return "import-vectors", {
            "vectors": config.vectors,
            "labels": config.labels,
            "samples": config.parity.samples,
            "split": config.split,
        }

    def options(self, slot: str) -> dict[str, Any]:
        """Return the options of the stage of *slot*: what the files hold counts, not where they lie."""
        config = self.config
        if slot == "export":
            return {"source": config.source.sha256, "input": config.input}
        drawn = config.vectors is None
        return {
            "vectors": None if config.vectors is None else config.vectors.sha256,
            "labels": None if config.labels is None else config.labels.sha256,
            "samples": config.parity.samples if drawn else None,
            "seed": config.seed if drawn else None,
        }


def front_of(config: RunConfig | ImportConfig) -> Front:
    """Return the front of a run of *config*."""
    return ImportedFront(config) if isinstance(config, ImportConfig) else TrainedFront(config)
