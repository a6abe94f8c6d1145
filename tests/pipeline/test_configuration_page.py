"""``docs/configuration.md`` has every key of a configuration, with the type, values and default of the code."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from bitproof.hw.board import board_names
from bitproof.pipeline.config import AUGMENTED, DATA_SETS, ESTIMATOR_OPTIONS, FIXED_SHAPES, RunConfig
from bitproof.pipeline.config_file import validate
from bitproof.plan import RunPlan
from bitproof.targets import TARGETS, check_targets

PAGE = Path(__file__).parent.parent.parent / "docs" / "configuration.md"
TYPES = {bool: "boolean", int: "integer", float: "number", str: "text", Path: "path"}
CORES = [*(f"cortex-m{n}" for n in range(100)), "rv32i", "rv32imc", "rv32imac", "rv64imac", "native", "host"]
BOARDS = [*(f"pynq-z{n}" for n in range(100)), "tang-nano-9k", "tang-nano-20k", "ulx3s-25f", "ulx3s-85f"]
CANDIDATES = {"core": CORES, "board": BOARDS}
BY_VALIDATOR = {
    "name": "letters, digits, `_`, `.`, `-`; at most 100",
    "targets": "see [targets](#targets); at least one",
    "data.name": f"{', '.join(f'`{name}`' for name in DATA_SETS)}, `path/to/file.py:function`",
    "data.root": "a folder",
    "model.name": f"`mlp`, `cnn`, {', '.join(f'`{name}`' for name in FIXED_SHAPES)}, `path/to/file.py:function`",
    "model.weight_bits": "1 to 8",
    "model.act_bits": "1 to 8",
}
"""What is allowed if no type says it."""


def rows(heading: str) -> dict[str, list[str]]:
    """Return the table below ``## heading``: its first column without backticks, and the other cells."""
    _, found, rest = PAGE.read_text().partition(f"\n## {heading}\n")
    assert found, f"the page has no heading {heading!r}"
    lines = [line for line in rest.partition("\n## ")[0].splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    table = {first.strip("`"): others for first, *others in cells}
    assert len(table) == len(cells), "a key is twice in the page"
    return table


def number(value: float) -> str:
    return f"{int(value):,}" if value == int(value) else f"{value:g}"


def interval(kind: type, limits: Sequence[object]) -> str:
    found = {key: getattr(limit, key) for limit in limits for key in ("ge", "gt", "le", "lt") if hasattr(limit, key)}
    if kind is int and "lt" in found:
        found["le"] = found.pop("lt") - 1
    low = number(found["ge"]) if "ge" in found else f"above {number(found['gt'])}"
    if "le" in found:
        return f"{low} to {number(found['le'])}"
    return f"{low} to below {number(found['lt'])}" if "lt" in found else f"{low} or more"


def facts(annotation: object, limits: Sequence[object]) -> tuple[str, str]:
    """Return type and allowed values of a field; the second is empty if the type does not say them."""
    arguments = get_args(annotation)
    if get_origin(annotation) in (types.UnionType, Union):
        inner = [facts(argument, limits) for argument in arguments if argument is not type(None)]
        null = " or null" if type(None) in arguments else ""
        return " or ".join(kind for kind, _ in inner) + null, ", ".join(filter(None, (allowed for _, allowed in inner)))
    if get_origin(annotation) is Annotated:
        return facts(
            arguments[0], [m for a in arguments[1:] for m in (a.metadata if isinstance(a, FieldInfo) else [a])]
        )
    if get_origin(annotation) is Literal:
        return "choice", ", ".join(f"`{argument}`" for argument in arguments)
    if get_origin(annotation) is tuple:
        kind, allowed = facts(arguments[0], ())
        most = [f"at most {limit.max_length} entries" for limit in limits if hasattr(limit, "max_length")]
        return f"list of {kind}", "; ".join([f"each {allowed}", *most])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section", "its keys below"
    if annotation is bool:
        return "boolean", "true, false"
    bounded = annotation in (int, float) and limits
    assert isinstance(annotation, type)
    return TYPES.get(annotation, "text"), interval(annotation, limits) if bounded else ""


def shown(default: object) -> str:
    if default is None or isinstance(default, bool):
        return {None: "null", True: "true", False: "false"}[default]
    if isinstance(default, int | float):
        return number(default)
    return f"`{list(default)}`" if isinstance(default, tuple) else f"`{default}`"


def keys(section: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, list[str]]]:
    for name, field in section.model_fields.items():
        kind, allowed = facts(field.annotation, () if f"{prefix}{name}" in BY_VALIDATOR else field.metadata)
        inner = [t for t in (field.annotation, *get_args(field.annotation)) if isinstance(t, type)]
        sections = [t for t in inner if issubclass(t, BaseModel)]
        if kind != "section":
            default = "required" if field.is_required() else shown(field.default)
            yield f"{prefix}{name}", [kind, BY_VALIDATOR.get(f"{prefix}{name}", allowed), default]
        for found in sections:
            yield from keys(found, f"{prefix}{name}.")


def test_every_key_is_in_the_page_with_its_type_its_values_and_its_default() -> None:
    page, expected = rows("Keys"), dict(keys(RunConfig))
    assert list(page) == list(expected)
    for key, (*described, meaning) in page.items():
        assert described == expected[key], key
        assert len(meaning) > len("null: off"), f"{key} has no meaning"


KINDS = {target.kind: target for target in TARGETS}


def options(kind: str) -> Iterator[tuple[str, list[str]]]:
    for name, field in KINDS[kind].model_fields.items():
        described, allowed = facts(field.annotation, [m for m in field.metadata if not hasattr(m, "pattern")])
        if name == "board":
            described, allowed = "choice", ", ".join(f"`{board}`" for board in board_names())
        if name in CANDIDATES:
            described, allowed = "choice", ", ".join(f"`{value}`" for value in accepted(kind, name))
        yield f"{kind}{{{name}}}", [described, allowed, shown(field.default)]


def accepted(kind: str, name: str) -> Iterator[str]:
    for value in CANDIDATES[name]:
        try:
            KINDS[kind].model_validate({name: value})
        except ValidationError:
            continue
        yield value


def test_every_option_of_a_target_is_in_the_page() -> None:
    page = {key: cells[:3] for key, cells in rows("Targets").items() if "{" in key}
    assert page == {key: cells for kind in KINDS for key, cells in options(kind)}
    assert {key for key in rows("Targets") if "{" not in key} == {k for k in KINDS if not KINDS[k].model_fields}


def test_every_stage_to_stop_after_is_in_the_page() -> None:
    content = {"name": "x", "data": {"name": "digits"}, "model": {"name": "mlp"}, "targets": list(KINDS)}
    plan = RunPlan(validate(content, file=Path("x.yaml"), check_targets=check_targets))
    stages = [*plan.stage_names, *(f"check-{executor.file_name}" for executor in plan.executors), "parity", "report"]
    assert [stage.replace("CORE", "cortex-m4") for stage in rows("Stages")] == stages


def test_options_of_the_estimators_and_augmentation_are_in_the_page() -> None:
    page = rows("Keys")
    used: Mapping[str, list[str]] = {
        option: [name for name, taken in ESTIMATOR_OPTIONS.items() if option in taken]
        for option in {option for taken in ESTIMATOR_OPTIONS.values() for option in taken}
    }
    for option, names in used.items():
        of = re.match(r"Of ((?:`[\w-]+`(?:, )?)+)", page[f"train.estimator.{option}"][-1])
        assert of is not None, option
        assert re.findall(r"`([\w-]+)`", of.group(1)) == names, option
    assert re.findall(r"`([\w-]+)`", page["data.augment"][-1]) == list(AUGMENTED)
