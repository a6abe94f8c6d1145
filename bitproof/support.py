"""The verdicts of targets on an integer model, before anything is built: the same for lint, an import and a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bitproof.export.program.target import Target
from bitproof.pipeline.errors import StageError, TooLargeError

if TYPE_CHECKING:
    from bitproof.export.integer import IntegerModel


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether one target takes the network.

    Attributes:
        target: its spec.
        why: what it refuses; empty if it takes the network.
        too_large: it has a form for every layer, but not the memory.
    """

    target: str
    why: str = ""
    too_large: bool = False

    @property
    def takes(self) -> bool:
        """It does."""
        return not self.why


def require_options(targets: Iterable[Target]) -> None:
    """Check the options of *targets* as far as that takes no network.

    Raises:
        ConfigError: an option asks for what the target does not have.
    """
    for target in targets:
        target.require_options()


def ask(target: Target, model: IntegerModel) -> Verdict:
    """Ask *target* for its forms of all layers of *model*, and whether they fit its memory, without building anything.

    Raises:
        ToolMissingError: a Python package of *target* is not installed.
    """
    try:
        target.require_supported(model)
    except TooLargeError as error:
        return Verdict(str(target), str(error), too_large=True)
    except StageError as error:
        return Verdict(str(target), str(error))
    return Verdict(str(target))


def require_memory(verdicts: Iterable[Verdict]) -> None:
    """Refuse a network that is too large for a target.

    Raises:
        TooLargeError: one of *verdicts* says so; the message holds all that do.
    """
    reasons = [f"{verdict.target}: {verdict.why}" for verdict in verdicts if verdict.too_large]
    if reasons:
        raise TooLargeError("\n".join(reasons))


def require_all(verdicts: Iterable[Verdict]) -> None:
    """Refuse a network that one of the targets does not take.

    Raises:
        StageError: a target has no form for it; the message holds all refusals.
        TooLargeError: targets have its forms, but not the memory.
    """
    refused = [verdict for verdict in verdicts if not verdict.takes]
    if any(not verdict.too_large for verdict in refused):
        raise StageError("\n".join(f"{verdict.target}: {verdict.why}" for verdict in refused))
    require_memory(refused)
