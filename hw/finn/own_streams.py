"""Our forks, joins, scalings and requantizers as layers of FINN's graph. Runs in the child process only."""

from __future__ import annotations

from collections.abc import Mapping
from math import gcd, prod
from typing import Any, ClassVar

import numpy as np

from bitproof.export.integer import IntegerType, Interval, Ranges, Threshold
from bitproof.export.integer import MultiplyShift as Constants
from bitproof.hw.finn.own_layers import OwnLayer
from bitproof.hw.rtl import modules
from bitproof.hw.rtl.joint_schedules import Alternating, Together
from bitproof.hw.rtl.modules.module import layout


class _PerChannel(OwnLayer):
    """What has *Channels* channels at each pixel."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = {"Channels": ("i", True, 0)}

    @property
    def divisible(self) -> int:
        """The number of channels."""
        return self.number("Channels")

    @property
    def pixels(self) -> int:
        """How many a sample has."""
        return prod(self.numbers("Pixels"))

    @property
    def words_of_sample(self) -> int:
        """Words of one sample."""
        return self.pixels * self.divisible // self.number("PE")


class StreamDuplicate(_PerChannel):
    """One stream in two."""

    def module(self) -> modules.Duplicate:
        """Return the module."""
        return modules.Duplicate(layout(self.kind(), self.number("PE"), self.words_of_sample))


class StreamAdd(_PerChannel):
    """The sum of two streams."""

    def module(self) -> modules.Add:
        """Return the module."""
        return modules.Add(self.kind(0), self.kind(1), self.number("PE"), self.words_of_sample)

    def schedule(self) -> Together:
        """Return the schedule: a word of both at once."""
        return Together(self.words_of_sample)


class StreamScaledAdd(_PerChannel):
    """The sum of two streams with *Factors*, shape (2, channels), and *Offsets*."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **_PerChannel.attributes,
        "Factors": ("t", True, None),
        "Offsets": ("t", True, None),
    }

    def module(self) -> modules.ScaledAdd:
        """Return the module."""
        constants = self.integers("Factors"), self.integers("Offsets")
        return modules.ScaledAdd(self.kind(0), self.kind(1), self.number("PE"), self.pixels, *constants)

    def schedule(self) -> Together:
        """Return the schedule: a word of both at once."""
        return Together(self.words_of_sample)


class StreamAffine(_PerChannel):
    """A factor and an offset for each channel."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = StreamScaledAdd.attributes

    def module(self) -> modules.Affine:
        """Return the module."""
        constants = self.integers("Factors"), self.integers("Offsets")
        return modules.Affine(self.kind(), self.number("PE"), self.pixels, *constants)


class StreamConcat(OwnLayer):
    """The channels of two streams, *Counts* of both."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = {"Counts": ("ints", True, [])}

    def module(self) -> modules.Concat:
        """Return the module."""
        one, two, lanes = self.kind(0), self.kind(1), self.number("PE")
        first, second = (count // lanes for count in self.numbers("Counts"))
        pixels = prod(self.numbers("Pixels"))
        return modules.Concat(one, two, modules.type_of_both(one, two), lanes, (first, second), pixels)

    @property
    def divisible(self) -> int:
        """The greatest number that divides the channels of both."""
        return gcd(*self.numbers("Counts"))

    def schedule(self) -> Alternating:
        """Return the schedule: the words of one, then those of the other."""
        module = self.module()
        return Alternating(module.pixels, module.words)


class SelectLargest(OwnLayer):
    """The indices of the *Count* largest of *Channels* codes."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = {"Channels": ("i", True, 0), "Count": ("i", True, 0)}

    def module(self) -> modules.SelectLargest:
        """Return the module."""
        lanes = self.number("PE")
        return modules.SelectLargest(self.kind(), lanes, self.number("Channels") // lanes, self.number("Count"))

    @property
    def divisible(self) -> int:
        """The number of channels, if the largest alone is asked for: else they come one by one."""
        return self.number("Channels") if self.number("Count") == 1 else 1


class _Requantizer(_PerChannel):
    """An activation by constants: its thresholds, and the accumulators on which they were proven, stay with it."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **_PerChannel.attributes,
        "Thresholds": ("t", True, None),
        "Reachable": ("t", True, None),
        "Lowest": ("i", True, 0),
        "CodeBits": ("i", True, 0),
        "CodeSigned": ("i", True, 0),
        "Offsets": ("t", True, None),
        "Shift": ("i", True, 0),
    }

    def place(self) -> modules.Place:
        """Return what it stands for."""
        thresholds, lowest = self.integers("Thresholds"), self.number("Lowest")
        codes = IntegerType(self.number("CodeBits"), bool(self.number("CodeSigned")))
        flipped = np.zeros(len(thresholds), dtype=np.bool_)
        node = Threshold(self.onnx_node.output[0], thresholds, codes, lowest, flipped)
        reachable: Ranges = tuple(Interval(low, high) for low, high in self.integers("Reachable").tolist())
        return modules.Place(node, reachable, self.kind(), codes, self.number("PE"), self.pixels)

    @property
    def latency_cycles(self) -> int:
        """Constants, product, sum, code."""
        return 4

    def bench_parameters(self) -> dict[str, int]:
        """Return channels, lanes and the shift."""
        return {"PE": self.number("PE"), "channels": self.divisible, "shift": self.number("Shift")}


class MultiplyShift(_Requantizer):
    """An activation by a multiplication and a shift."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = {**_Requantizer.attributes, "Multipliers": ("t", True, None)}

    def module(self) -> modules.MultiplyShiftUnit:
        """Return the module."""
        constants = Constants(
            self.integers("Multipliers"), self.integers("Offsets"), self.number("Shift"), word_bits=64
        )
        return modules.MultiplyShiftUnit(self.place(), constants)

    def dsp_estimation(self, fpgapart: str) -> int:  # noqa: ARG002
        """Return two for each lane: a factor of more than 18 bits takes so many."""
        return 2 * self.number("PE")


class RoundingShift(_Requantizer):
    """An activation by a shift that rounds to the nearest."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        **_Requantizer.attributes,
        "Ties": ("s", True, "", set(modules.TIES)),
    }

    def module(self) -> modules.RoundingShiftUnit:
        """Return the module."""
        ties = self.get_nodeattr("Ties")
        return modules.RoundingShiftUnit(self.place(), self.integers("Offsets"), self.number("Shift"), ties)
