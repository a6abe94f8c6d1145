"""The cycles in which a module with two inputs takes and gives its words, computed, as in :mod:`schedules`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from bitproof.hw.rtl.schedules import Schedule, Times, in_turn


class Joint(ABC):
    """When a module with two inputs takes and gives words."""

    @property
    @abstractmethod
    def words(self) -> tuple[int, int]:
        """Words that it takes of one sample, of either input."""

    @abstractmethod
    def run(self, first: Times, second: Times) -> tuple[tuple[Times, Times], Times]:
        """Return when it takes each word of both, and when it gives each."""

    @property
    @abstractmethod
    def period(self) -> int:
        """Cycles from sample to sample if all words are there and none waits behind."""


@dataclass(frozen=True, slots=True)
class Together(Joint):
    """A sum: it takes a word of both in one cycle.

    Attributes:
        of_either: words of one sample.
    """

    of_either: int

    @property
    def words(self) -> tuple[int, int]:
        """Words that it takes of one sample, of either input."""
        return (self.of_either, self.of_either)

    @property
    def period(self) -> int:
        """One cycle for each word."""
        return self.of_either

    def run(self, first: Times, second: Times) -> tuple[tuple[Times, Times], Times]:
        """Take two words when both are there."""
        taken = in_turn(np.maximum(first, second))
        return (taken, taken), taken + 1


@dataclass(frozen=True, slots=True)
class Alternating(Joint):
    """A concatenation: of each pixel it takes the words of the first input, then those of the second.

    Attributes:
        pixels: of one sample.
        of_pixel: words of a pixel of either input.
    """

    pixels: int
    of_pixel: tuple[int, int]

    @property
    def words(self) -> tuple[int, int]:
        """Words that it takes of one sample, of either input."""
        return (self.pixels * self.of_pixel[0], self.pixels * self.of_pixel[1])

    @property
    def period(self) -> int:
        """One cycle for each word of both."""
        return sum(self.words)

    def run(self, first: Times, second: Times) -> tuple[tuple[Times, Times], Times]:
        """Take the words in turn."""
        one, two = self.of_pixel
        merged = np.concatenate([first.reshape(-1, one), second.reshape(-1, two)], axis=1)
        taken = in_turn(merged.ravel())
        by_pixel = taken.reshape(-1, one + two)
        return (by_pixel[:, :one].ravel(), by_pixel[:, one:].ravel()), taken + 1


AnySchedule: TypeAlias = Schedule | Joint
