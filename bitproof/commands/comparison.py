"""A run compared with its derivation: the files and fields that differ, and what nothing can show."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from bitproof.commands.derivation import Derivation, differing_files
from bitproof.commands.report import costs_of, page_of
from bitproof.pipeline.artifact import MANIFEST, Artifact
from bitproof.pipeline.errors import IntegrityError
from bitproof.pipeline.ledger import Ledger, read_ledger
from bitproof.pipeline.ledger_differences import Difference, differences
from bitproof.pipeline.toolchain import HOST_COMPILERS, TOOLS

OF_THE_MACHINE = ("created_by", "tools.")
"""Fields that say which programs were used: another machine has others."""
NEVER_DERIVED = ("sha256", "previous", "accuracy.float", "calibrations", "deployments")
"""The seal is checked when the ledger is read, calibrations are measured again; the others are stated."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a run states and what is so.

    Attributes:
        files: the files of derived artifacts that are not what was made again, one line each.
        fields: the fields of the ledger that are not what was derived.
        stated: what the run says and nothing here shows, one line each.
    """

    files: tuple[str, ...]
    fields: tuple[Difference, ...]
    stated: tuple[str, ...]

    @property
    def lines(self) -> tuple[str, ...]:
        """All differences."""
        return (*self.files, *map(str, self.fields))


def compare_with_derivation(derivation: Derivation, ledger: Ledger, *, trust_code: bool) -> Comparison:
    """Compare artifacts and *ledger* of a run with what was derived of its inputs.

    Raises:
        IntegrityError: an artifact holds what is no plain file.
    """
    other_tools = dict(_made_by_other_tools(derivation))
    left_out = derivation.plan.network.left_out(trust_code=trust_code)
    excused = [*(f"artifacts[{name}].sha256" for name in other_tools), *_fields_of(left_out)]
    executors = [plan.name for plan in derivation.plan.executors if plan.source in other_tools]
    excused += [field for name in (*executors, *other_tools) for field in (f"resources.{name}.", f"costs[{name} ")]
    files = [line for name, line in _files(derivation) if name not in other_tools]
    files += _manifests(derivation)
    derived = read_ledger(derivation.again.ledger).model_dump(mode="json")
    if not left_out:
        derived["accuracy"] |= derivation.plan.network.measured(derivation.again)
    fields, stated = [], [f"artifact {name}: {why}" for name, why in other_tools.items()]
    for found in differences(ledger.model_dump(mode="json"), derived):
        if found.field.startswith(OF_THE_MACHINE):
            stated.append(f"{found.field}: the ledger has {found.recorded!r}, here it is {found.derived!r}")
        elif not found.field.startswith((*NEVER_DERIVED, *excused)):
            fields.append(found)
    stated += [f"everything of {name}: it is a user's code, and --trust-code was not given" for name in left_out]
    stated += [f"{stage}: {what}" for stage, what in derivation.plan.network.stated if stage in derivation.taken_over]
    inputs = derivation.plan.inputs.items()
    stated += [f"inputs.{name}: it is what {file.path.name} held, SHA-256 {file.sha256}" for name, file in inputs]
    stated += [f"deployments[{entry.executor}]: {entry.summary()}" for entry in ledger.deployments]
    if ledger.previous is not None:
        stated.append(f"previous: that it replaced a ledger with the SHA-256 {ledger.previous}")
    return Comparison(tuple(files), tuple(fields), tuple(stated))


def _fields_of(executors: tuple[str, ...]) -> Iterator[str]:
    for name in executors:
        yield from (f"checks[{name}]", f"proofs[{name} ", f"accuracy.{name}", f"resources.{name}", f"layers[{name} ")
        yield f"costs[{name} "
        yield from (f"failures[check-{name}]", "accuracy.quantized", "accuracy.test_samples")


def _files(derivation: Derivation) -> Iterator[tuple[str, str]]:
    """Yield stage and line for each file of a derived artifact that differs."""
    for recorded, made in _artifacts(derivation):
        for name in differing_files(recorded, made):
            yield made.stage, f"artifact {made.stage}: {name} is not what is made of its source"


def _manifests(derivation: Derivation) -> Iterator[str]:
    """Yield a line for each manifest that says something else than what was made again."""
    for name in derivation.plan.stage_names:
        if (derivation.run.path / name / MANIFEST).is_file() and (derivation.again.path / name / MANIFEST).is_file():
            recorded, made = derivation.run.artifact(name), derivation.again.artifact(name)
            for field in ("stage", "kind"):
                one, two = getattr(recorded, field), getattr(made, field)
                if one != two:
                    yield f"artifact {name}: its manifest has {field} {one!r}, derived is {two!r}"
            sources = [derivation.run.artifact(source).sha256 for source in _source_of(derivation, name)]
            if list(recorded.made_from) != sources:
                yield f"artifact {name}: its manifest has made_from {list(recorded.made_from)}, its source is {sources}"


def _source_of(derivation: Derivation, name: str) -> list[str]:
    source = derivation.plan.stage(name).source
    return [] if source is None else [source]


def _made_by_other_tools(derivation: Derivation) -> Iterator[tuple[str, str]]:
    """Yield the artifacts whose bytes differ and that other versions of a program (a compiler) made, with these.

    What this project and its libraries write is the same everywhere: nothing excuses another byte of it.
    """
    programs = {tool.name for tool in (*TOOLS, *HOST_COMPILERS)}
    for recorded, made in _artifacts(derivation):
        if not differing_files(recorded, made):
            continue
        changed = sorted(
            f"{name} {recorded.tools.get(name, 'none')} (here {version})"
            for name, version in made.tools.items()
            if name in programs and recorded.tools.get(name) != version
        )
        if changed:
            yield made.stage, f"made by {', '.join(changed)}, with other bytes; the one made here was run"


def _artifacts(derivation: Derivation) -> Iterator[tuple[Artifact, Artifact]]:
    """Yield each artifact that both hold and that was made again."""
    for name in derivation.plan.stage_names:
        folders = [run.path / name for run in (derivation.run, derivation.again)]
        if name not in derivation.taken_over and all((folder / MANIFEST).is_file() for folder in folders):
            recorded, made = map(Artifact.load, folders)
            yield recorded, made


def report_differs(derivation: Derivation, ledger: Ledger) -> list[str]:
    """Return which files of the run's report are not what *ledger* gives; a run may be without them."""
    given = {derivation.run.report: page_of(derivation.again, ledger), derivation.run.costs: costs_of(ledger)}
    try:
        return [
            file.name for file, text in given.items() if file.is_file() and file.read_text(encoding="utf-8") != text
        ]
    except (OSError, UnicodeDecodeError) as error:
        raise IntegrityError(f"a report of {derivation.run.path} cannot be read: {error}") from error


def as_json(comparison: Comparison) -> dict[str, object]:
    """Return the comparison as plain JSON values."""
    return {
        "files": list(comparison.files),
        "differences": [
            {"field": found.field, "recorded": found.recorded, "derived": found.derived} for found in comparison.fields
        ],
        "stated": list(comparison.stated),
    }
