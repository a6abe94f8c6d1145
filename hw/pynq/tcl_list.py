"""Tcl lists as strings: split as Tcl itself splits the lists that it has written."""

from __future__ import annotations


def split_list(text: str) -> list[str]:
    r"""Return the elements of the Tcl list *text*: words, and what braces or backslashes hold together.

    >>> split_list(r"a {b {c d}} {} e\ f")
    ['a', 'b {c d}', '', 'e f']
    """
    found: list[str] = []
    place = 0
    while True:
        while place < len(text) and text[place].isspace():
            place += 1
        if place == len(text):
            return found
        element, place = _braced(text, place) if text[place] == "{" else _word(text, place)
        found.append(element)


def _braced(text: str, start: int) -> tuple[str, int]:
    depth, place = 0, start
    while place < len(text):
        depth += {"{": 1, "}": -1}.get(text[place], 0)
        place += 2 if text[place] == "\\" else 1
        if depth == 0:
            return text[start + 1 : place - 1], place
    raise ValueError(f"a brace is not closed in the list {text!r}")


def _word(text: str, start: int) -> tuple[str, int]:
    word, place = "", start
    while place < len(text) and not text[place].isspace():
        if text[place] == "\\" and place + 1 < len(text):
            place += 1
        word += text[place]
        place += 1
    return word, place
