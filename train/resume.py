"""The file from which a killed training resumes, to the same bits as one that was not killed.

It lies outside the artifact, in a folder that survives the stage's failure, and belongs to one training: same options,
same data, same seed, same versions. Any other file, and any damaged one, is discarded.
"""

from __future__ import annotations

import hashlib
import io
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric import Fabric

from bitproof.pipeline import InputError
from bitproof.train.checkpoint import READING_ERRORS
from bitproof.train.training_state import TrainingState

FILE = "state"
FORMAT = "bitproof-training-1"
SECONDS_BETWEEN_SAVES = 30.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ResumeFile:
    """Where the state of one training is kept.

    One header line (format, key, SHA-256 of the rest), then what ``torch.save`` writes, read with ``weights_only``.

    Attributes:
        folder: made when there is something to keep.
        key: digest of everything that the training depends on.
    """

    folder: Path
    key: str

    @property
    def path(self) -> Path:
        """The file itself; it is whole or not there."""
        return self.folder / FILE

    def write(self, content: object) -> None:
        """Replace the file."""
        buffer = io.BytesIO()
        torch.save(content, buffer)
        payload = buffer.getvalue()
        header = f"{FORMAT} {self.key} {hashlib.sha256(payload).hexdigest()}\n"
        self.folder.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix(".partial")
        partial.write_bytes(header.encode() + payload)
        partial.replace(self.path)

    def read(self) -> object | None:
        """Return what was written, on the CPU; None, and a warning, if that is no use."""
        try:
            header, _, payload = self.path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        if header.split(b" ")[:2] != [FORMAT.encode(), self.key.encode()]:
            self._discard("it belongs to a training with other options, data, seed or versions")
            return None
        if header.split(b" ")[2:] != [hashlib.sha256(payload).hexdigest().encode()]:
            self._discard("it is damaged")
            return None
        try:
            content: object = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
        except READING_ERRORS as error:
            self._discard(f"it cannot be read: {error}")
            return None
        return content

    def _discard(self, why: str) -> None:
        _log.warning("training starts from the beginning; the saved state %s is discarded: %s", self.path, why)
        self.path.unlink()


class Keeper:
    """Saves the state of a training now and then, and puts it back at the start."""

    def __init__(self, fabric: Fabric, state: TrainingState, file: ResumeFile | None, label: str) -> None:
        self._fabric = fabric
        self._state = state
        self._file = file
        self._label = label
        self._saved_at = time.monotonic()
        self.saved_step: int | None = None

    def restore(self) -> None:
        """Put the saved state back, if there is one.

        Raises:
            InputError: what was saved is not of this network.
        """
        if self._file is None:
            return
        content = self._fabric.broadcast(self._file.read() if self._fabric.is_global_zero else None)
        if content is None:
            return
        try:
            self._state.restore(content, self._fabric)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise InputError(f"{self._file.path} does not fit this training ({error}); delete it") from error
        self.saved_step = self._state.step
        if self._fabric.is_global_zero:
            _log.warning("training of the %s network resumes at step %d", self._label, self._state.step)

    def save_if_due(self) -> None:
        """Save if the last time is long ago; called by all processes together, the first one's clock decides."""
        due = time.monotonic() - self._saved_at >= SECONDS_BETWEEN_SAVES
        if self._file is not None and self._fabric.broadcast(due):
            self.save()

    def save(self) -> None:
        """Save the state, unless it is already lost: weights that are not finite do not replace finite ones."""
        if self._file is None or not self._fabric.broadcast(self._state.is_finite()):
            return
        content = self._state.content(self._fabric)
        if self._fabric.is_global_zero:
            self._file.write(content)
        self.saved_step = self._state.step
        self._saved_at = time.monotonic()

    @property
    def where(self) -> str:
        """Say, for an error message, which state is kept."""
        if self._file is None or self.saved_step is None:
            return "no state was saved before it"
        return f"the last good state, of step {self.saved_step}, is kept in {self._file.path}"
