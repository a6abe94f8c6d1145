"""``bitproof import``: a run that begins with a QONNX file of the user's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bitproof.commands.rehearse_import import rehearse_import
from bitproof.commands.run import carry_out
from bitproof.pipeline.errors import ConfigError
from bitproof.pipeline.import_config import ImportConfig, make_config, source_file
from bitproof.pipeline.run_folder import CONFIG, RunFolder
from bitproof.targets import check_targets

DRAWN_SAMPLES = 1_000
ALL_SAMPLES = 1_000_000


@dataclass(frozen=True, slots=True)
class Request:
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


def import_model(request: Request, *, runs: Path, cores: int | None, as_json: bool) -> None:
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


def _config_of(request: Request) -> ImportConfig:
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
