r"""System tasks and functions of Verilog: those that FINN's RTL and the bench use; all others are refused by name.

A simulator is a program on the host, and Verilog can ask it for more than a simulation: ``$system`` runs a command,
``$fopen`` opens a file, Verilator's ``$c`` and ``\`systemc_header`` are C++, an imported function is one of the host.
"""

from __future__ import annotations

import re

from bitproof.pipeline import StageError

ALLOWED = frozenset(
    {
        *("$bits", "$clog2", "$left", "$right", "$high", "$low", "$size", "$signed", "$unsigned", "$countones"),
        *("$error", "$warning", "$info", "$fatal", "$display", "$write", "$sformatf", "$finish", "$stop", "$time"),
        "$readmemh",
    }
)
OUTSIDE = re.compile(r"\$\w*\s*``|\$\w*|`systemc_\w+|`include\b|\bimport\s*\"|\bexport\s*\"")
"""A task; one that a macro makes longer; C++; a file that is not among those looked at; a function of the host."""
UNBOUNDED = re.compile(r"[\[:]\s*\$\s*[\]:]")
"""The end of a queue or of an unbounded range, where a lone ``$`` is no task."""


def require_known_tasks(name: str, text: str) -> None:
    """Refuse the Verilog *text* of the file *name* if it asks the host for more than a simulation.

    Comments count, too: what is a comment is for the compiler to say.

    Raises:
        StageError: with the file, its line, what it uses and what is allowed.
    """
    plain = UNBOUNDED.sub("", text)
    for found in OUTSIDE.finditer(plain):
        if found.group() not in ALLOWED:
            line = plain.count("\n", 0, found.start()) + 1
            raise StageError(
                f"{name}, line {line}, uses {found.group().strip()!r}, which reaches beyond a simulation; allowed are "
                f"{', '.join(sorted(ALLOWED))}"
            )
