"""Every error that a user may meet, each with the exit code it ends the command line with.

The codes are a contract (scripts depend on them): 1 a parity or accuracy gate failed, 2 bad config, input
or path, 3 a tool is missing, 4 a stage or the machine failed, 70 a bug of ours. Only 70 shows a traceback.
"""

from __future__ import annotations

import errno
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


class TooLargeError(InputError):
    """The network does not fit the memory of a target."""


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

WRONG_PATHS = frozenset(
    {
        errno.EACCES,
        errno.EEXIST,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOTDIR,
        errno.ENOTEMPTY,
        errno.EPERM,
        errno.EROFS,
    }
)
"""What the operating system says of a path that is not what it was named for; anything else is the machine's fault."""


def error_of(error: OSError, *, go_on: str) -> InputError | StageError:
    """Return what *error* of the operating system is to the user: a wrong path, or a machine that failed.

    *go_on* tells what to do once the machine works again.
    """
    said = error.strerror or str(error) or type(error).__name__
    where = "" if error.filename is None else f"{one_line(error.filename)}: "
    if error.errno in WRONG_PATHS:
        return InputError(
            f"{where}{said}; give a path that is there, leads through folders only, and that this user may read and, "
            "where results go, write"
        )
    return StageError(f"{where}{said} (is the disk full?); {go_on}")


def one_line(said: str | bytes | int) -> str:
    """Return *said*, a path or what another machine says, as a message shows it: one line, no control characters."""
    text = str(said)
    return text if text.isprintable() else ascii(text)
