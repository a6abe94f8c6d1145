"""The target that a network is deployed to: a kind with its options, and all that the pipeline asks of it.

A target is a chain of stages that starts at the integer model, and the executors that run what they made. Its class
holds everything that is particular to it, so that adding a target is adding a folder and its line in the table of
targets.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from bitproof.pipeline.executor import ExecutorPlan
from bitproof.pipeline.import_config import SourceFile
from bitproof.pipeline.record import Record
from bitproof.pipeline.stage import StagePlan
from bitproof.pipeline.target import TargetSpec

if TYPE_CHECKING:  # configurations are read without the integer model
    from bitproof.export.integer import IntegerModel


class Target(Record, ABC):
    """One target; a subclass is a kind of target, and its fields are the options: immutable, defaults included."""

    kind: ClassVar[str]
    """What it is called in a configuration."""

    @property
    def name(self) -> str:
        """Its name within a run and in file names, for example ``c-cortex-m4``."""
        return self.kind

    @property
    def spec(self) -> TargetSpec:
        """How it is written in a configuration, with all options that have a value."""
        given = self.model_dump(mode="json", exclude_none=True)
        return TargetSpec(self.kind, tuple((key, str(value)) for key, value in given.items()))

    def __str__(self) -> str:
        return str(self.spec)

    @property
    def inputs(self) -> Mapping[str, SourceFile]:
        """The users' files that its options name, by the name of the option: a run keeps copies of them."""
        return {}

    @abstractmethod
    def stages(self) -> tuple[StagePlan, ...]:
        """Return its stages in their order; the first is made from the artifact ``integer``."""

    @abstractmethod
    def executors(self) -> tuple[ExecutorPlan, ...]:
        """Return the executors of what its stages make, in the order of the pipeline."""

    @abstractmethod
    def require_supported(self, model: IntegerModel) -> None:
        """Check that it has a form for every node of *model*, and the memory for it, without building anything.

        Raises:
            StageError: it has no form for a node; the message names the node and the target.
            TooLargeError: the network does not fit its memory.
            ToolMissingError: a Python package that it needs is not installed.
        """

    def require_options(self) -> None:
        """Check the options as far as that takes no network.

        Raises:
            ConfigError: an option asks for what the target does not have.
        """

    def reprogram(self, source: Path, copy: Path, original: IntegerModel, model: IntegerModel) -> bool:
        """Copy the artifact of *original* in *source* to the new folder *copy*, with the numbers of *model*.

        Returns:
            Whether it was copied: not if it has to be built again.

        Raises:
            StageError: what differs does not fit the artifact.
        """
        del source, copy, original, model
        return False
