"""The last step of the templates: what depends on the length of names is laid out as ``.clang-format`` says.

clang-format itself is not asked: the same network must give the same bytes, whatever version is installed. Comments and
what stands between ``clang-format off`` and ``on`` stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

COLUMNS = 120
FUNCTION = re.compile(r"^[a-z][\w ]*[ *]\w+\(.*\) \{$")
DECLARED = re.compile(r"^(\w+) (\w+\(.*)$")
FEW = 5
"""Members of a structure that clang-format lays out in one line with its name or each in a line of its own."""
NAMES = re.compile(r"^(static )?const .* = \{$")


def laid_out(text: str) -> str:
    """Return the C *text* with short functions and structures in one line, and with no call that is too long.

    >>> print(laid_out("static void f(int a) {" + chr(10) + "    g(a);" + chr(10) + "}"))
    static void f(int a) { g(a); }
    """
    return "\n".join(_lines(text.split("\n")))


def _lines(lines: Sequence[str]) -> Iterator[str]:
    place, formats, comment = 0, True, False
    while place < len(lines):
        line = lines[place]
        formats = (formats or "clang-format on" in line) and "clang-format off" not in line
        comment = (comment or line.startswith("/*")) and "*/" not in line
        taken = _joined(lines[place : place + 5]) if formats and not comment else None
        if taken is not None:
            text, count = taken
            yield text
            place += count
            continue
        place += 1
        if formats and not comment and len(line) > COLUMNS and "/*" not in line:
            yield from _wrapped(line)
        else:
            yield line


def _joined(lines: Sequence[str]) -> tuple[str, int] | None:
    """Return what the first of *lines* become, and how many they are; None: they stay."""
    first, *others = (line.strip() for line in lines)
    if FUNCTION.match(first) and others[1:2] == ["}"] and others[0].endswith(";"):
        joined = f"{first} {others[0]} }}"
        return (joined, 3) if len(joined) <= COLUMNS else None
    if NAMES.match(first) and "};" in others and re.match(r"[a-z&].*,$", others[0]):
        inner = " ".join(others[: others.index("};")])
        members = inner.rstrip(",").split(", ")
        whole, below = f"{first}{', '.join(members)}}};", f"    {inner}"
        count = 2 + others.index("};")
        if len(whole) <= COLUMNS:
            return whole, count
        if len(below) > COLUMNS or len(members) < FEW:
            below = "\n".join(f"    {member}," for member in members)
        return f"{first}\n{below}\n}};", count
    return None


def _wrapped(line: str) -> Iterator[str]:
    """Yield *line* broken between the arguments of its outermost parentheses, each line as full as it can be.

    The type that a function returns has a line of its own if that brings its parameters from three lines into one, or
    saves three lines.
    """
    whole, declared = list(_filled(line)), DECLARED.match(line)
    below = whole if declared is None else list(_filled(declared[2]))
    if declared is not None and (len(below) == 1 < len(whole) - 1 or len(below) <= len(whole) - 3):
        yield declared[1]
        yield from below
    else:
        yield from whole


def _filled(line: str) -> Iterator[str]:
    start = line.find("(") + 1
    pieces = _arguments(line[start:]) if start else [line]
    indent, current = " " * start, line[:start]
    for number, piece in enumerate(pieces):
        added = piece if number == 0 else f" {piece}"
        if number and len(current) + len(added) > COLUMNS:
            yield current
            current = indent + piece
        else:
            current += added
    yield current


def _arguments(text: str) -> list[str]:
    """Return the parts of *text* behind an opened parenthesis that commas of its own level end, commas included."""
    depth, parts, begin = 1, [], 0
    for place, character in enumerate(text):
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(character, 0)
        if character == "," and depth == 1:
            parts.append(text[begin : place + 1].strip())
            begin = place + 1
    return [*parts, text[begin:].strip()]
