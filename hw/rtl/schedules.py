"""The cycles in which a module takes and gives its words, computed: what the depths of FIFOs follow from.

A schedule holds if nothing behind the module makes it wait. With FIFOs that never fill, every module keeps such a
schedule, and each is computed from that of the module before it alone. FIFOs that hold what then lies in them change
nothing: the times are a solution of the design with those FIFOs too, and as soon as a word can move it does, so no word
is later (the times at which modules fire are monotone in each other: max-plus algebra, Baccelli et al.,
*Synchronization and Linearity*, 1992).

Times are int64 arrays, one entry per word, ascending. A word that is given in cycle t can be taken in cycle t + 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import Shape, Window

Times: TypeAlias = NDArray[np.int64]


class Schedule(ABC):
    """When a module takes and gives words."""

    @property
    @abstractmethod
    def words(self) -> int:
        """Words that it takes of one sample."""

    @abstractmethod
    def run(self, there: Times) -> tuple[Times, Times]:
        """Return when it takes each word, and when it gives each, if its words are *there* from these cycles on."""

    @property
    def period(self) -> int:
        """Cycles from sample to sample if all words are there and none waits behind."""
        samples = 3
        taken, given = self.run(np.zeros(samples * self.words, dtype=np.int64))
        each_taken, each_given = taken.reshape(samples, -1), given.reshape(samples, -1)
        return int(max(each_taken[2, 0] - each_taken[1, 0], each_given[2, -1] - each_given[1, -1]))


def occupancy(given: Times, taken: Times) -> int:
    """Return how many words are given and not yet taken at most."""
    before = np.searchsorted(given, taken, side="right")  # given up to the cycle in which each is taken
    return int((before - np.arange(len(taken))).max())


def in_turn(there: Times, every: int = 1) -> Times:
    """Return when words are taken that are *there* from these cycles on, one in *every* cycles at most."""
    steps = every * np.arange(len(there), dtype=np.int64)
    times: Times = np.maximum.accumulate(there - steps) + steps
    return times


@dataclass(frozen=True, slots=True)
class Regular(Schedule):
    """A module that needs the first words for its first ones, in proportion: thresholds, width converters, reducers.

    Attributes:
        taken: words that it takes for each sample.
        given: words that it gives for it.
    """

    taken: int
    given: int

    @property
    def words(self) -> int:
        """Words that it takes of one sample."""
        return self.taken

    def run(self, there: Times) -> tuple[Times, Times]:
        """Take a word in every cycle, unless more come out than go in: then the next has to wait for them."""
        samples = len(there) // self.taken
        outputs = np.arange(samples * self.given)
        last = ((outputs + 1) * self.taken - 1) // self.given  # the word that completes each output
        if self.given <= self.taken:
            taken = in_turn(there)
            return taken, in_turn(taken[last] + 1)
        given = in_turn(there[last] + 1)
        inputs = np.arange(len(there))
        return given[-(-inputs * self.given // self.taken)] - 1, given


@dataclass(frozen=True, slots=True)
class Matrix(Schedule):
    """A matrix unit: it keeps a vector while it goes through the groups of its rows.

    Attributes:
        vectors: in a sample.
        inputs: words of a vector.
        groups: of rows: words that it gives for a vector.
    """

    vectors: int
    inputs: int
    groups: int

    @property
    def words(self) -> int:
        """Words that it takes of one sample."""
        return self.vectors * self.inputs

    def run(self, there: Times) -> tuple[Times, Times]:
        """Take a vector while the last group of the one before it is calculated; its memory holds a power of two."""
        if self.groups == 1:
            taken = in_turn(there)
            return taken, taken[self.inputs - 1 :: self.inputs] + 1
        room = 1 << max(1, (self.inputs - 1).bit_length())
        steps = np.arange(self.inputs, dtype=np.int64)
        taken, given = np.empty_like(there), np.empty(len(there) // self.inputs * self.groups, dtype=np.int64)
        freed = np.full(len(there) + room, -1, dtype=np.int64)  # when the place of word i + room is free
        used, last = -1, -1  # the cycles of the last step and of the last word taken
        for vector in range(len(there) // self.inputs):
            here = slice(vector * self.inputs, (vector + 1) * self.inputs)
            ready = np.maximum(there[here], freed[here] + 1)
            ready[0] = max(ready[0], last + 1)
            taken[here] = in_turn(ready)
            last = int(taken[here][-1])
            start = taken[here] + 1
            start[0] = max(start[0], used + 1)
            first = in_turn(start)  # the steps of the first group, each on a word that may just have come
            ends = first[-1] + self.inputs * np.arange(self.groups)
            freed[here.start + room : here.stop + room] = ends[-1] - self.inputs + 1 + steps
            given[vector * self.groups : (vector + 1) * self.groups] = ends + 1
            used = int(ends[-1])
        return taken, given


@dataclass(frozen=True, slots=True)
class Replaying(Schedule):
    """Our matrix unit: it takes a vector while it computes the first group of rows, and keeps it for the others.

    Attributes:
        vectors: in a sample.
        inputs: words of a vector.
        groups: of rows: words that it gives for a vector.
    """

    vectors: int
    inputs: int
    groups: int

    @property
    def words(self) -> int:
        """Words that it takes of one sample."""
        return self.vectors * self.inputs

    def run(self, there: Times) -> tuple[Times, Times]:
        """Take a vector when the last group of the one before it is done."""
        taken, ends, free = np.empty_like(there), [], 0
        for first in range(0, len(there), self.inputs):
            ready = there[first : first + self.inputs].copy()
            ready[0] = max(int(ready[0]), free)
            taken[first : first + self.inputs] = in_turn(ready)
            ends.append(int(taken[first + self.inputs - 1]))
            free = ends[-1] + self.inputs * (self.groups - 1) + 1
        steps = self.inputs * np.arange(self.groups, dtype=np.int64)
        return taken, (np.array(ends, dtype=np.int64)[:, None] + steps + 1).ravel()


@dataclass(frozen=True, slots=True)
class Padded(Schedule):
    """Padding of an image: it gives a word in every cycle, and waits for those of the image.

    Attributes:
        inside: for each word that it gives, whether it is one of the image.
    """

    inside: tuple[bool, ...]

    @property
    def words(self) -> int:
        """Words that it takes of one sample."""
        return sum(self.inside)

    def run(self, there: Times) -> tuple[Times, Times]:
        """Give the word that was taken in the cycle before."""
        samples = len(there) // self.words
        inside = np.tile(np.array(self.inside), samples)
        ready = np.zeros(len(inside), dtype=np.int64)
        ready[inside] = there + 1
        given = in_turn(ready)
        return given[inside] - 1, given


def padded(size: Shape, begin: Shape, end: Shape, fold: int) -> Padded:
    """Return the padding of an image of *size*, each position of *fold* words."""
    height, width = size
    image = np.pad(np.ones((height, width), dtype=np.bool_), tuple(zip(begin, end, strict=True)))
    return Padded(tuple(np.repeat(image.ravel(), fold).tolist()))


@dataclass(frozen=True, slots=True)
class Sliding(Schedule):
    """A window generator with a memory for the rows that a window needs; it begins an image when the last is done.

    Attributes:
        words_of_image: in a sample.
        order: the word of the image that each word that it gives is.
        kept: for each of these words the first that is needed behind it: no later one takes its place before.
        memory: words that it holds.
    """

    words_of_image: int
    order: Sequence[int]
    kept: Sequence[int]
    memory: int

    @property
    def words(self) -> int:
        """Words that it takes of one sample."""
        return self.words_of_image

    def run(self, there: Times) -> tuple[Times, Times]:
        """Take a word if its place is free, and give one if it is there, both in one cycle."""
        taken: list[int] = []
        given: list[int] = []
        start = 0
        for sample in range(len(there) // self.words_of_image):
            arrivals = there[sample * self.words_of_image : (sample + 1) * self.words_of_image].tolist()
            start = self._image(arrivals, start, taken, given)
        return np.array(taken, dtype=np.int64), np.array(given, dtype=np.int64)

    def _image(self, there: Sequence[int], cycle: int, taken: list[int], given: list[int]) -> int:
        """Go through one image from *cycle* on; return when the next can begin."""
        order, limits, last, count = self.order, self._limits, len(self.order), len(there)
        words = outputs = 0
        while outputs < last or words < count:
            gives = outputs < last and order[outputs] < words
            takes = words < count and (outputs >= last or words < limits[outputs]) and there[words] <= cycle
            if takes:
                taken.append(cycle)
            if gives:
                given.append(cycle + 1)
                outputs += 1
            words += takes
            if takes or gives:
                cycle += 1
            else:
                cycle = max(cycle + 1, there[words])
        return max(cycle, given[-1] + 1)

    @property
    def _limits(self) -> list[int]:
        """Before each word that is given: no word of the image from this one on may be taken yet."""
        needed = np.minimum(np.concatenate([[0], self.kept[:-1]]), self.order) + self.memory
        return [int(limit) for limit in needed]


@dataclass(frozen=True, slots=True)
class Shifting(Schedule):
    """A window generator that gives a whole window in a word, while the image is shifted through it.

    Attributes:
        words_of_image: in a sample.
        complete: the word of the image that completes each window.
    """

    words_of_image: int
    complete: tuple[int, ...]

    @property
    def words(self) -> int:
        """Words that it takes of one sample."""
        return self.words_of_image

    def run(self, there: Times) -> tuple[Times, Times]:
        """Take a word in every cycle, and none in the cycle in which an image ends."""
        samples = len(there) // self.words_of_image
        gaps = np.repeat(np.arange(samples), self.words_of_image)
        taken = in_turn(there - gaps) + gaps
        windows = taken.reshape(samples, -1)[:, list(self.complete)]
        return taken, windows.ravel() + 1


def sliding(image: Shape, window: Window, fold: int, *, by_channel: bool, memory: int) -> Sliding:
    """Return the window generator with a *memory* of so many words, for an *image* whose positions have *fold* each."""
    starts, taps = _starts_and_taps(image, window, fold)
    lanes = np.arange(fold)
    inner = lanes[:, None] + taps if by_channel else (taps[:, None] + lanes).reshape(1, -1)
    firsts = (starts[:, None] + np.arange(len(inner))).ravel()  # of each run through the taps
    words = image[0] * image[1] * fold
    behind = np.append(firsts[1:], words)
    order = starts[:, None, None] + inner
    return Sliding(words, order.ravel().tolist(), np.repeat(behind, inner.shape[1]).tolist(), memory)


def shifting(image: Shape, window: Window, fold: int) -> Shifting:
    """Return the window generator that gives whole windows of an *image* whose positions have *fold* words each."""
    starts, taps = _starts_and_taps(image, window, fold)
    complete = (starts + taps[-1])[:, None] + np.arange(fold)
    return Shifting(image[0] * image[1] * fold, tuple(complete.ravel().tolist()))


def _starts_and_taps(image: Shape, window: Window, fold: int) -> tuple[Times, Times]:
    """Return the first word of each window, and how far from it each tap is, in words."""
    counts = window.output_sizes(image)
    below, beside = (np.arange(count) * stride for count, stride in zip(counts, window.strides, strict=True))
    starts = (below[:, None] * image[1] + beside) * fold
    below, beside = (np.arange(taps) * step for taps, step in zip(window.kernel, window.dilations, strict=True))
    return starts.ravel(), ((below[:, None] * image[1] + beside) * fold).ravel()
