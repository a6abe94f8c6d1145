"""The lines of long work: none for short work, not too many, and a time left that follows from what is done."""

from __future__ import annotations

from bitproof.pipeline.progress import ProgressLines


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def lines_of(steps: list[tuple[float, str, int, int]]) -> list[str]:
    clock, said = Clock(), list[str]()
    lines = ProgressLines("check-qonnx", said.append, clock)
    for seconds, part, done, total in steps:
        clock.now += seconds
        lines(part, done, total)
    return said


def test_short_work_says_nothing() -> None:
    assert lines_of([(0.1, f"act{n}", n, 19) for n in range(19)]) == []


def test_the_time_left_is_that_of_the_parts_done() -> None:
    assert lines_of([(0, "act0", 0, 5), (3, "act1", 1, 5), (1, "act2", 2, 5), (5, "act3", 3, 5)]) == [
        "check-qonnx: act1, 20 % done, about 12 s left",
        "check-qonnx: act3, 60 % done, about 6 s left",
    ]


def test_a_line_comes_at_most_every_five_seconds() -> None:
    assert len(lines_of([(0.5, f"act{n}", n, 200) for n in range(200)])) == 20


def test_another_number_of_parts_is_another_piece_of_work() -> None:
    assert lines_of([(0, "samples 0", 0, 10), (50, "act0", 0, 4), (3, "act1", 1, 4)]) == [
        "check-qonnx: act1, 25 % done, about 9 s left"
    ]


def test_work_of_one_part_says_nothing_of_itself() -> None:
    assert lines_of([(9, "samples", 0, 1)] * 9) == []
