"""Boundaries that a quantized operator can have: equally far from each other, from a whole offset on.

Such an operator, QLinearConv for one, gives the code ``rint((a + B) * m)`` of the accumulator ``a``, counted from the
lowest code. Its bias B is an integer, its boundaries are

    u_i = s * (i - 1/2) - B,    s = 1 / m,    i = 1, 2, ...

Those of a batch norm, ``t_i``, have the same distance s, but begin anywhere. They decide every accumulator as the
``u_i`` do if no integer lies between the two of any i. With s = n / p and n odd, every ``u_i`` is an odd multiple of
``1/2p``: there is room of ``1/2p`` on both sides for what float32 rounds of m, of products and of the batch norm's own
constants. ``gamma`` changes by ``1/(p s)`` of itself at most, and the boundary in the middle moves by half an
accumulator unit at most. The finest p with room for all roundings is taken.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from bitproof.pipeline.float_error import relative_error
from bitproof.train.activations import Reals
from bitproof.train.nudged_channel import PARTS, SLACK, NudgedChannel, distances

OPERATOR_ROUNDINGS = 4
"""At most so many lie between the sum and its code: of m or its inverse, of the sum, of the product or quotient."""
LARGEST_SUM = (1 << 31) - 1
"""An operator adds in 32 bits."""


def has_whole_offset(channel: NudgedChannel) -> bool:
    """Tell whether an operator with a whole B decides every accumulator as *channel* does, all float32 errors apart."""
    given = channel.rising
    if len(channel.reals) <= 1:
        return True  # m alone says where one boundary lies
    bases = channel.spacing * (np.arange(len(given)) + 0.5)
    offset = float(np.rint(np.median(bases - given)))
    errors = float(relative_error(OPERATOR_ROUNDINGS)) * (bases + 1)
    ends = np.abs([channel.low, channel.high]) + abs(offset)
    made = np.asarray(bases - offset, dtype=np.float64)
    same = np.ceil(made) == np.ceil(given)
    room = np.minimum(distances(made), distances(given)) > errors
    return bool(ends.max() <= LARGEST_SUM and (same & room)[_reached(channel, given)].all())


def with_whole_offset(channel: NudgedChannel) -> NudgedChannel:
    """Return *channel* with a whole offset, clear of float errors if a place is; itself if no place has one.

    One that has it, and can only be moved to where it has hardly more room, stays. So does one with a single boundary.
    """
    whole = has_whole_offset(channel)
    if len(channel.reals) <= 1 or (whole and channel.is_clear()):
        return channel
    best: NudgedChannel | None = None
    for moved in filter(has_whole_offset, _lattices(channel)):
        if moved.is_clear():
            return moved
        best = moved if best is None or moved.room > best.room else best
    if best is None or (whole and best.room <= SLACK * channel.room):
        return channel
    return best


def _reached(channel: NudgedChannel, rising: Reals) -> NDArray[np.bool_]:
    """Tell which boundaries an accumulator can cross, of those of *channel* or of its negative."""
    low, high = sorted(channel.sign * end for end in (channel.low, channel.high))
    reached: NDArray[np.bool_] = (rising >= low - 1) & (rising <= high + 1)
    return reached


def _lattices(channel: NudgedChannel) -> Iterator[NudgedChannel]:
    """Yield *channel* with an odd multiple of 1/p between its boundaries, and a whole offset; finest p first."""
    given, spacing = channel.rising, channel.spacing
    reached = given[_reached(channel, given)]
    if not len(reached):
        return
    middle = int(np.searchsorted(given, reached[len(reached) // 2]))
    place = float(given[middle])
    reach = float(np.abs(reached - place).max())
    real = channel.real_at(channel.sign * place)
    for parts in range(PARTS, 0, -1):
        wanted = (2 * round((spacing * parts - 1) / 2) + 1) / parts
        if wanted > 0 and reach * abs(wanted / spacing - 1) + 0.5 < spacing:
            base = wanted * (middle + 0.5)
            target = base - round(base - place)
            yield channel.through(real, channel.sign * target, channel.gamma * spacing / wanted)
