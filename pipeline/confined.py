"""A program that runs another with the files of a few folders and without a network, by Landlock (Linux 5.13).

``python -I -S confined.py --read FOLDER ... --write FOLDER ... -- PROGRAM ARGUMENT ...``

It imports nothing of this project, so that it starts in milliseconds, and replaces itself by PROGRAM. A kernel without
Landlock is told of on standard error; the program is run all the same.
"""

from __future__ import annotations

import ctypes
import os
import sys

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Numbers of the system calls, the same on every architecture."""
PATH_BENEATH = 1
NO_NEW_PRIVILEGES = 38
EXECUTE, WRITE_FILE, READ_FILE, READ_FOLDER = 1 << 0, 1 << 1, 1 << 2, 1 << 3
FIRST_VERSION = (1 << 13) - 1
"""All rights of version 1: those above, and to remove and make what a folder holds."""
REFER, TRUNCATE, IOCTL = 1 << 13, 1 << 14, 1 << 15
TCP = 0b11
"""To bind and to connect."""
UNUSABLE = 126


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64))


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def landlock_version() -> int:
    """Return the version of Landlock that the kernel has; below 1: none."""
    libc = ctypes.CDLL(None, use_errno=True)
    return int(libc.syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def confine(readable: list[str], writable: list[str]) -> bool:
    """Leave this process the files below *readable* to read and run, those below *writable* for anything; no others.

    Returns:
        Whether the kernel can do it.

    Raises:
        OSError: it can, and refused.
    """
    version = landlock_version()
    if version < 1:
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    every = FIRST_VERSION
    for since, right in ((2, REFER), (3, TRUNCATE), (5, IOCTL)):
        every |= right if version >= since else 0
    ruleset = _Ruleset(every, TCP if version >= 4 else 0)
    size = ctypes.sizeof(ruleset) if version >= 4 else 8
    handle = _checked(libc.syscall(CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint32(0)))
    for paths, rights in ((readable, EXECUTE | READ_FILE | READ_FOLDER), (writable, every)):
        for path in paths:
            _allow(libc, handle, path, rights)
    _checked(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    _checked(libc.syscall(RESTRICT_SELF, ctypes.c_int(handle), ctypes.c_uint32(0)))
    os.close(handle)
    return True


def _allow(libc: ctypes.CDLL, handle: int, path: str, rights: int) -> None:
    try:
        opened = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    if not os.path.isdir(path):  # noqa: PTH112  pathlib takes half of the time that this program has
        rights &= EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL
    rule = _Rule(rights, opened)
    call = (ctypes.c_int(handle), ctypes.c_int(PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0))
    _checked(libc.syscall(ADD_RULE, *call))
    os.close(opened)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def main(arguments: list[str]) -> int:
    """Run the command line *arguments*; returns only where that fails."""
    end = arguments.index("--")
    options, argv = arguments[:end], arguments[end + 1 :]
    folders: dict[str, list[str]] = {"--read": [], "--write": []}
    for option, folder in zip(options[::2], options[1::2], strict=True):
        folders[option].append(folder)
    try:
        if not confine(folders["--read"], folders["--write"]):
            sys.stderr.write(f"{argv[0]} is not confined: this kernel has no Landlock\n")
        os.execv(argv[0], argv)  # noqa: S606  no shell is wanted: this process becomes the program
    except OSError as error:
        sys.stderr.write(f"{argv[0]} cannot be run confined: {error}\n")
    return UNUSABLE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
