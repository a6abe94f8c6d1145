"""``bitproof import``: a run that begins with a user's QONNX file, or with a module and its trained weights."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import prod
from pathlib import Path

import typer

from bitproof.commands.rehearse_import import rehearse_import
from bitproof.commands.run import carry_out
from bitproof.pipeline.errors import ConfigError
from bitproof.pipeline.import_config import ImportConfig, make_config, require_run_name, source_file
from bitproof.pipeline.run_folder import CONFIG, RunFolder
from bitproof.targets import check_targets

DRAWN_SAMPLES = 1_000
ALL_SAMPLES = 1_000_000
MAX_INPUTS = 1 << 26
"""Numbers of one input."""


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to import, and what to compare on.

    Attributes:
        model: the QONNX file.
        name: of the run; None: the file's, without its ending.
        vectors: inputs, .npy; None: drawn.
        labels: class of each of the vectors, .npy.
        input: type of the input codes of a file that does not quantize its input.
        targets: specs.
        samples: how many inputs are compared; None: all, or :data:`DRAWN_SAMPLES` drawn ones.
        seed: of drawn inputs.
        float_reference: what the file run in floats may give otherwise: ``explained`` or ``strict``.
    """

    model: Path
    name: str | None = None
    vectors: Path | None = None
    labels: Path | None = None
    input: str | None = None
    targets: tuple[str, ...] = ()
    samples: int | None = None
    seed: int = 0
    float_reference: str = "explained"


def exported(
    model: str, weights: Path | None, input_shape: str | None, *, runs: Path, name: str | None
) -> tuple[Path, str]:
    """Return the QONNX file that *model* stands for, and what its run is called by default.

    ``FILE.py:function`` is called, given the state dict in *weights*, and exported beside its run.

    Raises:
        ConfigError: an option has no effect, or the shape of an input is missing or none.
        InputError: the function, its module or the weights are not what they must be.
    """
    file, colon, function = model.rpartition(":")
    if not (colon and file.endswith(".py")):
        for option, value in (("--weights", weights), ("--input-shape", input_shape)):
            if value is not None:
                raise ConfigError(f"{option} {value} has no effect on {model}; it is for FILE.py:function")
        return Path(model), Path(model).stem
    if re.fullmatch(r"[1-9][0-9]{0,6}(,[1-9][0-9]{0,6}){0,3}", input_shape or "") is None:
        said = "is missing" if input_shape is None else f"{input_shape!r} is no shape"
        raise ConfigError(f"--input-shape {said}; give the sizes of one input without the batch, for example 1,28,28")
    sizes = [int(size) for size in (input_shape or "").split(",")]
    if prod(sizes) > MAX_INPUTS:
        raise ConfigError(f"--input-shape {input_shape} has {prod(sizes)} numbers; at most {MAX_INPUTS} are taken")
    import torch

    from bitproof.module_file import keep_inputs, module_of, write_module

    if weights is None:
        typer.echo(f"no --weights: the weights are those that {function}() of {Path(file).name} leaves", err=True)
    called = name or function
    require_run_name(called)
    network, file_name = module_of(model, weights), f"{called}.onnx"
    kept = keep_inputs(
        runs / f"{called}.inputs",
        runs / called,
        lambda folder: write_module(network, torch.zeros(1, *sizes), folder / file_name),
    )
    return kept / file_name, called


def import_model(request: ImportRequest, *, runs: Path, cores: int | None, as_json: bool) -> None:
    """Carry out the import.

    Raises:
        ConfigError: an option is not valid.
        InputError: a file is missing, empty or not supported, or the vectors do not fit; the run stays as it was.
        RunFailedError: a stage failed.
        GateError: a parity check, a proof or a gate does not hold.
    """
    config = _config_of(request)
    run = RunFolder.named(config.name, runs=runs)
    if (run.path / CONFIG).is_file() and not isinstance(run.config(), ImportConfig):
        raise ConfigError(f"{run.path} is a run that trained its network; give this one another name: --name NAME")
    rehearse_import(run, config)
    carry_out(config, runs=runs, until=None, cores=cores, as_json=as_json)


def _config_of(request: ImportRequest) -> ImportConfig:
    if request.labels is not None and request.vectors is None:
        raise ConfigError("--labels has no effect without --vectors: drawn inputs have no classes")
    files = {"source": request.model, "vectors": request.vectors, "labels": request.labels}
    default = DRAWN_SAMPLES if request.vectors is None else ALL_SAMPLES
    return make_config(
        {
            **{key: None if path is None else source_file(path) for key, path in files.items()},
            "name": request.model.stem if request.name is None else request.name,
            "seed": request.seed,
            "input": request.input,
            "targets": request.targets,
            "gates": {"float_reference": request.float_reference},
            "parity": {"samples": default if request.samples is None else request.samples},
        },
        check_targets,
    )
