"""``bitproof lint``: whether a network deploys, said before any training."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bitproof.commands.rehearse_run import MODEL_FILE, export_untrained
from bitproof.export.importer import normalized
from bitproof.export.lint import LintReport, examine_file
from bitproof.export.lowering import TooLargeError
from bitproof.export.program.target import Target
from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.errors import ConfigError, GateError, InputError
from bitproof.pipeline.input_type import parse_input_type
from bitproof.pipeline.ledger import warnings_of
from bitproof.pipeline.user_files import blaming_users_lines, users_names
from bitproof.plan import RunPlan
from bitproof.support import Verdict, ask, require_options
from bitproof.targets import TARGETS, require_target
from bitproof.yaml_file import read_config

MOST = {"weights": 1 << 21, "products": 1 << 26, "values": 1 << 17}
"""The largest network of a configuration that lint looks at, in seconds and in about 1 GB."""
NAMES = {
    "weights": "weights",
    "products": "multiplications a sample",
    "values": "outputs a sample in one layer",
}
MOST_EFFORT = 1 << 18
"""Units of exact arithmetic that lint spends on the network of a configuration."""
BY_A_RUN = "'bitproof run' asks the same before it trains, and has no such limit"


def lint(
    path: Path, targets: tuple[str, ...], assignments: tuple[str, ...], *, input_type: str | None, as_json: bool
) -> None:
    """Examine the configuration or the QONNX file at *path* and print what keeps it from being deployed.

    A configuration is asked for its own targets unless *targets* names others. A file is asked for all of them, and
    one that takes it is enough, unless *targets* says which must. *input_type* declares the input codes of a file that
    does not quantize them; *assignments*, ``section.key=value``, replace values of a configuration.

    Raises:
        ConfigError: the configuration or a target is not valid, the file is of neither kind, or *input_type* is given
            for a configuration, *assignments* for a file.
        InputError: the file cannot be read, or the network not be built.
        GateError: a target that was asked for refuses the network, or a proof of a file's integers fails.
    """
    asked = tuple(require_target(spec) for spec in targets)
    require_options(asked)
    if input_type is not None:
        _require_input_type(input_type)
    if path.suffix == ".onnx":
        if assignments:
            raise ConfigError(f"--set {assignments[0]} has no effect on {path}; it is for .yaml configurations")
        examined = _examine_file(path, input_type)
        chosen = asked or tuple(kind() for kind in TARGETS)
    elif path.suffix in (".yaml", ".yml"):
        if input_type is not None:
            raise ConfigError(f"--input {input_type} has no effect on {path}; it is for .onnx files")
        examined, own = _examine_config(path, assignments)
        chosen = asked or own
    else:
        raise ConfigError(f"{path} ends with {path.suffix or 'nothing'!r}; give a .yaml configuration or an .onnx file")
    verdicts = [_ask(target, examined) for target in chosen]
    all_must = bool(asked) or path.suffix != ".onnx"
    ok = all(v.takes for v in verdicts) if all_must else any(v.takes for v in verdicts)
    # An import judges the same proofs; those of a network that is not trained yet are only an example.
    ok = ok and (path.suffix != ".onnx" or all(proof.holds for proof in examined.proofs))
    if not as_json and path.suffix != ".onnx":
        typer.echo("not trained: weights, scales and thresholds are those of a start by the seed", err=True)
    if as_json:
        answers = [{"target": v.target, "takes": v.takes, "why": v.why or None} for v in verdicts]
        typer.echo(json.dumps({"file": str(path), "ok": ok, "targets": answers, **examined.as_json()}, sort_keys=True))
    else:
        _print(examined, verdicts)
    if not ok:
        raise GateError(_reason(path, examined, verdicts))


def _require_input_type(text: str) -> None:
    try:
        parse_input_type(text)
    except ValueError as error:
        raise ConfigError(f"--input {error}") from error


def _reason(path: Path, examined: LintReport, verdicts: list[Verdict]) -> str:
    if examined.model is None:
        refused = len(examined.unsupported)
        return f"{path}: {'1 node' if refused == 1 else f'{refused} nodes'} cannot be lowered to integers exactly"
    failing = [proof for proof in examined.proofs if not proof.holds]
    if failing and path.suffix == ".onnx":
        return f"{path}: layer {failing[0].layer}: this does not hold: {failing[0].claim} ({len(failing)} such proofs)"
    return f"{path} cannot be deployed to {', '.join(v.target for v in verdicts if not v.takes)}"


def _examine_file(path: Path, input_type: str | None) -> LintReport:
    """Normalize the file as an import does, and examine what comes of it."""
    with normalized(path, input_type) as file:
        return examine_file(file, path.stem)


def _examine_config(path: Path, assignments: tuple[str, ...]) -> tuple[LintReport, tuple[Target, ...]]:
    """Build the network of the configuration without training it, export it, and examine the file."""
    config = read_config(path, assignments)
    targets = RunPlan(config).targets
    require_options(targets)
    with blaming_users_lines(users_names(config)), tempfile.TemporaryDirectory(prefix="bitproof-lint-") as name:
        _require_small(config)
        made = export_untrained(config, Path(name))
        try:
            examined = examine_file(made / MODEL_FILE, config.name, configured=True, most_effort=MOST_EFFORT)
        except TooLargeError as error:
            raise InputError(f"{error}. {BY_A_RUN}") from error
    return examined, targets


def _require_small(config: RunConfig) -> None:
    """Refuse a network that cannot be examined in seconds.

    Raises:
        InputError: it does not fit its data, or is larger than :data:`MOST`.
    """
    from bitproof.train.untrained import size_of

    size = size_of(config.data, config.model, config.seed)
    for what, most in MOST.items():
        if size is not None and (held := getattr(size, what)) > most:
            raise InputError(f"{config.name} has {held:,} {NAMES[what]}; lint looks at {most:,} at most. {BY_A_RUN}")


def _ask(target: Target, examined: LintReport) -> Verdict:
    if examined.model is None:
        return Verdict(str(target), "the network cannot be lowered to integers")
    return ask(target, examined.model)


def _print(examined: LintReport, verdicts: list[Verdict]) -> None:
    console = Console()
    if examined.unsupported:
        table = Table(title=escape(f"{examined.name}: nodes that cannot be lowered to integers exactly"))
        table.add_column("node", overflow="fold")
        for node in examined.unsupported:
            table.add_row(escape(node))
        console.print(table)
    if examined.layers:
        console.print(_layer_table(examined))
        holding = sum(proof.holds for proof in examined.proofs)
        console.print(f"proofs: {holding} of {len(examined.proofs)} hold")
    table = Table(title="targets")
    for heading in ("target", "", "why"):
        table.add_column(heading, overflow="fold")
    for verdict in verdicts:
        table.add_row(verdict.target, "takes it" if verdict.takes else "refuses", escape(verdict.why))
    console.print(table)
    for line in warnings_of(examined.proofs):
        console.print(f"warning: {line}", soft_wrap=True, highlight=False, markup=False)
    for line in examined.advice:
        console.print(f"- {line}", soft_wrap=True, highlight=False, markup=False)


def _layer_table(examined: LintReport) -> Table:
    table = Table(title=escape(f"{examined.name}: the integer model"), box=SIMPLE)
    for heading in ("layer", "op", "shape", "integers", "type", "levels", "float32"):
        table.add_column(heading, overflow="fold")
    for layer in examined.layers:
        undecided = sum(layer.order_dependent.values())
        table.add_row(
            layer.name,
            layer.op,
            "x".join(map(str, layer.shape)),
            f"{layer.reachable.low}..{layer.reachable.high}",
            str(layer.kind),
            str(layer.levels or "-"),
            f"{undecided} by order" if undecided else ("rounds" if layer.sums_round else "exact"),
        )
    return table
