"""Every error that a user may meet, each with the exit code it ends the command line with.

The codes are a contract (scripts depend on them): 1 a parity or accuracy gate failed, 2 bad config or
bad input, 3 a tool is missing, 4 a stage failed, 70 a bug of ours. Only 70 shows a traceback.
"""

from __future__ import annotations

from typing import ClassVar


class BitproofError(Exception):
    """Base of all errors this project raises on purpose; never raised itself."""

    exit_code: ClassVar[int] = 70

    @property
    def shown(self) -> str:
        """What the terminal shows of the message: all of it, unless a part was shown before."""
        return str(self)


class GateError(BitproofError):
    """A parity check, a proof, an accuracy gate or an integrity check does not hold."""

    exit_code = 1


class IntegrityError(GateError):
    """An artifact is not the file that was hashed when it was made."""


class ConfigError(BitproofError):
    """The configuration file or a ``name{key=value}`` spec is not valid."""

    exit_code = 2


class InputError(BitproofError):
    """A file or data set that the user gave is missing, malformed or not supported."""

    exit_code = 2


class ToolMissingError(BitproofError):
    """An external program or Python package that a stage needs is not on this machine."""

    exit_code = 3

    def __init__(self, tool: str, *, needed_by: str, install: str) -> None:
        """Say which *tool* is missing, what it is *needed_by*, and the line that installs it."""
        self.tool = tool
        super().__init__(f"{needed_by} needs {tool!r}, which was not found. Install it: {install}")


class StageError(BitproofError):
    """A stage ran and could not make its artifact."""

    exit_code = 4


INTERNAL_ERROR = 70
"""Exit code of an unexpected exception: a bug of ours, shown with its traceback."""
