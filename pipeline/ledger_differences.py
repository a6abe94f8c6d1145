"""Field by field, where two ledgers differ: the one at hand and the one that was derived from the same inputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ABSENT = "absent"
Json = Any
KEYS: Mapping[str, tuple[str, ...]] = {
    "artifacts": ("path",),
    "checks": ("actual",),
    "proofs": ("actual", "layer"),
    "failures": ("stage",),
    "layers": ("executor", "layer"),
    "costs": ("executor", "part"),
    "calibrations": ("executor", "faults", "fault_seed"),
}
"""By what the entries of each list are told apart; of several with the same, the first is the first of the others."""
MOST_SHOWN = 120
"""Characters of a value in a line."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One field.

    Attributes:
        field: its place, for example ``checks[rtl].compared``.
        recorded: what the ledger at hand has.
        derived: what was derived.
    """

    field: str
    recorded: Json
    derived: Json

    def __str__(self) -> str:
        return f"{self.field}: the ledger has {_shown(self.recorded)}, derived is {_shown(self.derived)}"


def differences(recorded: Mapping[str, Json], derived: Mapping[str, Json]) -> list[Difference]:
    """Return every field in which the JSON values of two ledgers differ, in the order of their names."""
    return list(_of_values("", recorded, derived))


def _of_values(field: str, one: Json, two: Json) -> Iterator[Difference]:
    if isinstance(one, dict) and isinstance(two, dict):
        for key in sorted(one.keys() | two.keys()):
            inner = f"{field}.{key}" if field else key
            yield from _of_values(inner, one.get(key, ABSENT), two.get(key, ABSENT))
    elif field in KEYS and isinstance(one, list) and isinstance(two, list):
        yield from _of_entries(field, one, two)
    elif type(one) is not type(two) or one != two:
        yield Difference(field, one, two)


def _of_entries(field: str, one: Sequence[Json], two: Sequence[Json]) -> Iterator[Difference]:
    first, second = _by_key(field, one), _by_key(field, two)
    for key in sorted(first.keys() | second.keys(), key=str):
        yield from _of_values(f"{field}[{_name(key)}]", first.get(key, ABSENT), second.get(key, ABSENT))
    if first.keys() == second.keys() and list(first) != list(second):
        yield Difference(f"{field} (order)", [_name(key) for key in first], [_name(key) for key in second])


def _by_key(field: str, entries: Sequence[Json]) -> dict[tuple[Hashable, ...], Json]:
    seen: Counter[tuple[Hashable, ...]] = Counter()
    found = {}
    for entry in entries:
        key = tuple(str(entry.get(name)) for name in KEYS[field])
        seen[key] += 1
        found[(*key, seen[key])] = entry
    return found


def _name(key: tuple[Hashable, ...]) -> str:
    *parts, number = key
    words = [str(part) for part in parts if part not in ("", "0")]
    return " ".join([*words, *([f"#{number}"] if number != 1 else [])])


def _shown(value: Json) -> str:
    if value == ABSENT:
        return "none"
    text = repr(value)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}..."
