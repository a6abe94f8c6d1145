"""The roundings of QONNX, each known by the real numbers at which it reaches the next integer.

Each is a non-falling function from the reals to the integers, so its boundaries say all of it: it reaches the integer
``q`` from a number on, that number included or not.
"""

from __future__ import annotations

from enum import Enum
from fractions import Fraction
from math import floor


class Rounding(Enum):
    """The roundings of QONNX, by their names there (``qonnx.custom_op.general.intquant.resolve_rounding_mode``)."""

    ROUND = "ROUND"
    """To the nearest integer, a tie to the even one."""
    CEIL = "CEIL"
    """Up, towards infinity."""
    FLOOR = "FLOOR"
    """Down, towards minus infinity."""
    UP = "UP"
    """Away from zero."""
    DOWN = "DOWN"
    """Towards zero."""
    HALF_UP = "HALF_UP"
    """To the nearest integer, a tie away from zero."""
    HALF_DOWN = "HALF_DOWN"
    """To the nearest integer, a tie towards zero."""

    @classmethod
    def parse(cls, name: str) -> Rounding:
        """Return the rounding that QONNX calls *name*, in any case; ``HALF_EVEN`` is ``ROUND``.

        Raises:
            ValueError: there is none of this name.
        """
        wanted = name.upper()
        if wanted == "HALF_EVEN":
            return cls.ROUND
        if wanted not in cls.__members__:
            allowed = ", ".join((*cls.__members__, "HALF_EVEN"))
            raise ValueError(f"rounding mode {name!r} is not one of QONNX: {allowed}")
        return cls[wanted]

    def boundary(self, integer: int) -> tuple[Fraction, bool]:
        """Return (x, inclusive): a real number rounds to at least *integer* iff it is > x, or >= x if inclusive.

        Towards or away from zero, a boundary's side changes with the sign: *integer* >= 1 lies on the positive side.
        """
        positive = integer >= 1
        half = Fraction(2 * integer - 1, 2)
        match self:
            case Rounding.ROUND:
                return half, integer % 2 == 0
            case Rounding.HALF_UP:
                return half, positive
            case Rounding.HALF_DOWN:
                return half, not positive
            case Rounding.FLOOR:
                return Fraction(integer), True
            case Rounding.CEIL:
                return Fraction(integer - 1), False
            case Rounding.DOWN:
                return (Fraction(integer), True) if positive else (Fraction(integer - 1), False)
            case Rounding.UP:
                return (Fraction(integer - 1), False) if positive else (Fraction(integer), True)

    def apply(self, number: Fraction) -> int:
        """Round *number*, exactly: to one of the two integers next to it, the upper one iff its boundary is passed."""
        upper = floor(number) + 1
        at, inclusive = self.boundary(upper)
        return upper if number > at or (inclusive and number == at) else upper - 1
