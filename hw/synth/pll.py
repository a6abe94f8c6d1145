"""The dividers of a PLL, chosen for the frequency that a board's design runs at, within the limits of the family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bitproof.hw.board import OpenFpga
from bitproof.pipeline import ConfigError

MHZ = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What the PLL of a family can do.

    Attributes:
        inputs: dividers of the clock that comes in.
        feedbacks: its multipliers.
        outputs: dividers of the oscillator.
        compared_hz: least and largest frequency of the clock behind its divider.
        oscillator_hz: those of the oscillator.
    """

    inputs: Sequence[int]
    feedbacks: Sequence[int]
    outputs: Sequence[int]
    compared_hz: tuple[int, int]
    oscillator_hz: tuple[int, int]


LIMITS = {
    # As ecppll of Project Trellis takes them.
    "ecp5": Limits(range(1, 129), range(1, 129), range(2, 129), (3_125_000, 400 * MHZ), (400 * MHZ, 800 * MHZ)),
    # As gowin_pll of Apycula takes them for GW2AR-18 C8/I7.
    "gowin": Limits(
        range(1, 65), range(1, 65), (2, 4, 8, 16, 32, 48, 64), (3 * MHZ, 500 * MHZ), (500 * MHZ, 1250 * MHZ)
    ),
}


@dataclass(frozen=True, slots=True)
class Dividers:
    """The parameters INPUT, FEEDBACK and OUTPUT of ``ecp5_pll`` and ``gowin_pll``."""

    source: int
    feedback: int
    output: int


def dividers_for(fpga: OpenFpga) -> Dividers:
    """Return the dividers that make ``clock_hz`` of ``crystal_hz``, exactly.

    The oscillator runs as near the middle of what it can as possible.

    Raises:
        ConfigError: there are none.
    """
    limits = LIMITS[fpga.family]
    for source in limits.inputs:
        compared, rest = divmod(fpga.crystal_hz, source)
        if rest or not limits.compared_hz[0] <= compared <= limits.compared_hz[1]:
            continue
        feedback, rest = divmod(fpga.clock_hz, compared)
        if rest or feedback not in limits.feedbacks:
            continue
        low, high = limits.oscillator_hz
        outputs = [output for output in limits.outputs if low <= fpga.clock_hz * output <= high]
        if outputs:
            middle = (low + high) // 2
            return Dividers(source, feedback, min(outputs, key=lambda output: abs(fpga.clock_hz * output - middle)))
    raise ConfigError(
        f"no PLL of {fpga.family} makes {fpga.clock_hz} Hz of {fpga.crystal_hz} Hz; choose a clock_hz that is a small "
        "fraction of crystal_hz"
    )
