"""What each step of a network takes in the generated C: the names of its constants, and its part of the arena."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bitproof.hw.mcu.activation import PlannedActivation
from bitproof.hw.mcu.manifest import StepEntry
from bitproof.hw.mcu.plan import NetworkPlan, finish_of
from bitproof.hw.mcu.steps import PlannedJoin, PlannedMove, PlannedProduct, PlannedStep, PlannedSum, Rescaling
from bitproof.hw.mcu.storage import NUMBER_BYTES, Stored


def step_entries(plan: NetworkPlan) -> tuple[StepEntry, ...]:
    """Return the entry of each step of *plan*, in execution order."""
    return tuple(
        StepEntry(
            name=step.name,
            symbols=tuple(_symbols(plan, step)),
            macs=step.macs if isinstance(step, PlannedProduct) else 0,
            arena_bytes=_arena_bytes(step),
        )
        for step in plan.steps
    )


def _symbols(plan: NetworkPlan, step: PlannedStep) -> Iterator[str]:
    """Yield the names that the templates give the constants of *step*; some of them only certain forms have."""
    p = plan.prefix
    if isinstance(step, PlannedProduct):
        i = place_of(plan.products, step)
        yield from (f"{p}_{kind}_{i}" for kind in ("weights", "matrix", "depthwise", "decoding"))
        yield f"row_offsets_{i}"
    elif isinstance(step, PlannedSum):
        i = place_of([each for each in plan.steps if isinstance(each, PlannedSum)], step)
        yield from (f"{p}_terms_{i}", f"{p}_offsets_{i}", *(f"factors_{i}_{j}" for j in range(len(step.factors))))
    elif isinstance(step, PlannedMove):
        i = place_of([each for each in plan.steps if isinstance(each, PlannedMove)], step)
        yield f"{p}_origins_{i}"
    elif isinstance(step, PlannedJoin):
        joins = [each for each in plan.steps if isinstance(each, PlannedJoin)]
        tables = [codes for join in joins for codes in join.recodes if isinstance(codes, tuple)]
        yield from (f"{p}_recoding_{place_of(tables, codes)}" for codes in step.recodes if isinstance(codes, tuple))
    finish = finish_of(step)
    if finish is not None:
        yield from _of_activation(plan, finish.activation)
        yield from _of_rescaling(plan, finish.rescaling)


def _of_activation(plan: NetworkPlan, activation: PlannedActivation | None) -> Iterator[str]:
    if activation is not None:
        i = place_of(plan.activations, activation)
        yield from (f"{kind}_{i}" for kind in ("thresholds", "affine", "multipliers", "offsets"))
        yield f"{plan.prefix}_requantization_{i}"


def _of_rescaling(plan: NetworkPlan, rescaling: Rescaling | None) -> Iterator[str]:
    if rescaling is not None:
        made = [finish.rescaling for _, finish in plan.finishes if finish.rescaling is not None]
        i = place_of(made, rescaling)
        yield from (f"{plan.prefix}_rescaling_{i}", f"rescaling_factors_{i}", f"rescaling_offsets_{i}")


def place_of(those: Sequence[object], one: object) -> int:
    """Return which of *those* is *one* itself."""
    return next(number for number, each in enumerate(those) if each is one)


def _arena_bytes(step: PlannedStep) -> int:
    held = {value.place: _size_in_arena(value) for value in (*step.takes, step.makes)}
    return sum(held.values()) + NUMBER_BYTES * step.sums + step.shown


def _size_in_arena(value: Stored) -> int:
    return value.size * value.number_bytes if value.place.startswith("arena") else 0
