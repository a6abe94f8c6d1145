"""``bitproof tune``: measure onnxruntime on this machine, for the choice between constructions of ``onnx-int8``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import typer

from bitproof.pipeline.errors import InputError
from bitproof.pipeline.progress import ProgressLines

HEADINGS = ("kind", "inputs x window -> outputs", "ns a sample", "uint8", "float32", "single steps")
LINE = "{:<12}{:<34}{:>12}{:>8}{:>9}{:>14}"


def tune(out: Path, *, seconds: float, as_json: bool) -> None:
    """Measure a table of times, print it as ratios to int8, and write it to *out* by a rename.

    Raises:
        InputError: *out* cannot be written.
    """
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise InputError(f"{out} cannot be written: give a file in a folder that exists, for example --out tuned.json")
    from bitproof.export.onnx_int8.tune import measure, ratios

    table = measure(budget_s=seconds, progress=ProgressLines("tune", partial(typer.echo, err=True)))
    partial_file = out.with_name(f"{out.name}.partial")
    partial_file.write_text(table.to_json())
    partial_file.replace(out)
    if as_json:
        typer.echo(json.dumps({"table": str(out.absolute()), **table.model_dump(mode="json")}))
        return
    typer.echo(f"{table.about}: quantized operators with int8 weights, and the time of the others as a ratio to that")
    for row in (HEADINGS, *ratios(table)):
        typer.echo(LINE.format(*row))
    typer.echo(f"written to {out}; a run takes it by the target 'onnx-int8{{table={out}}}'")
