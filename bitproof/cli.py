"""The command line: ``bitproof VERB``. Results go to stdout, progress to stderr, every error to its exit code."""

from __future__ import annotations

import io
import json
import logging
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated

import typer

from bitproof.extras import missing_package
from bitproof.pipeline.errors import INTERNAL_ERROR, BitproofError, ConfigError, error_of
from bitproof.pipeline.signals import Terminated, end_properly_on_signals, interruption_behind, trust_exit_codes
from bitproof.pipeline.toolchain import distribution_version

INTERRUPTED = 130
"""What typer makes of Ctrl-C."""
RESUME = "run the same command again to resume"
FLIP = "EXECUTOR[@LAYER[:I,J,...]]"

app = typer.Typer(
    name="bitproof",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder, for example runs/fashion_mnist_mlp.")]


def _say_version(asked: bool) -> None:
    if asked:
        typer.echo(f"bitproof {distribution_version('bitproof') or 'unknown'}")
        raise typer.Exit


@app.callback()
def bitproof(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_say_version, help="Show the version and end.")
    ] = False,
) -> None:
    """From a training script to an FPGA or a microcontroller, with the same integers at every stage."""


@app.command()
def run(
    config: Annotated[Path, typer.Argument(metavar="CONFIG", help="The YAML file of the run.")],
    until: Annotated[str | None, typer.Option(help="Stop after this stage.", metavar="STAGE")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Replace one value, for example --set train.epochs=3.", metavar="KEY=VALUE"),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    cores: Annotated[int | None, typer.Option(help="Stages to run at once; default: all cores.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Run a configuration from data to report; only what is stale is made again."""
    from bitproof.commands.run import run_pipeline

    run_pipeline(config, tuple(assignments or ()), runs=runs, until=until, cores=cores, as_json=as_json)


@app.command("import")
def import_model(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="The QONNX file, or FILE.py:function, which returns a Brevitas module."),
    ],
    weights: Annotated[
        Path | None, typer.Option(help="State dict of that module, as torch.save wrote it.", metavar="FILE.pth")
    ] = None,
    input_shape: Annotated[
        str | None, typer.Option(help="Shape of one input of that module, for example 1,28,28.", metavar="SIZES")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; default: the file's, or the function's.")] = None,
    vectors: Annotated[
        Path | None, typer.Option(help="Inputs to compare on, .npy: integer codes or real values; default: drawn.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(help="Class of each of the vectors, .npy.")] = None,
    input_type: Annotated[
        str | None,
        typer.Option("--input", metavar="TYPE", help="Type of the input codes, for a file that does not quantize it."),
    ] = None,
    targets: Annotated[
        list[str] | None, typer.Option("--target", metavar="SPEC", help="A target, for example c{core=cortex-m4}.")
    ] = None,
    samples: Annotated[int | None, typer.Option(help="Inputs to compare on; default: all, 1000 drawn ones.")] = None,
    seed: Annotated[int, typer.Option(help="Of drawn inputs.")] = 0,
    float_reference: Annotated[
        str,
        typer.Option(
            metavar="RULE",
            help="What qonnx may give otherwise in floats: explained (by its rounding errors) or strict (nothing).",
        ),
    ] = "explained",
    runs: Annotated[Path, typer.Option(help="Folder that holds the runs.")] = Path("runs"),
    cores: Annotated[int | None, typer.Option(help="Stages to run at once; default: all cores.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Take a network that is trained already to every target, with the same integers in each."""
    from bitproof.commands.import_model import ImportRequest, exported
    from bitproof.commands.import_model import import_model as carry_out_import

    file, default_name = exported(model, weights, input_shape, runs=runs, name=name)
    request = ImportRequest(
        model=file,
        name=name or default_name,
        vectors=vectors,
        labels=labels,
        input=input_type,
        targets=tuple(targets or ()),
        samples=samples,
        seed=seed,
        float_reference=float_reference,
    )
    carry_out_import(request, runs=runs, cores=cores, as_json=as_json)


@app.command()
def stage(
    name: Annotated[str, typer.Argument(metavar="STAGE", help="The stage, or check-EXECUTOR, parity, report.")],
    run_path: Annotated[Path, typer.Option("--run", help="The run's folder.")],
) -> None:
    """Carry out one stage of a run (what the rules of the Snakefile call)."""
    from bitproof.commands.stage import run_stage

    run_stage(name, run_path)


@app.command()
def verify(
    run_path: RunPath,
    flip_bit: Annotated[
        str | None,
        typer.Option(
            "--flip-bit",
            metavar=FLIP,
            help="Flip one weight bit in an executor's artifact that is made again; it must be found (exit code 1).",
        ),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Hash the artifacts again, and do nothing else.")] = False,
    trust_code: Annotated[
        bool, typer.Option("--trust-code", help="Execute the Python files that the run's configuration names.")
    ] = False,
    signed_by: Annotated[
        Path | None,
        typer.Option(metavar="KEY.pub", help="The SSH public key whose holder must have signed the ledger."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a run again from its inputs, and compare every file and every field of its ledger; execute nothing of it."""
    from bitproof.commands.verify import flip_and_verify, verify_run

    if flip_bit is None:
        verify_run(run_path, quick=quick, trust_code=trust_code, signed_by=signed_by, as_json=as_json)
    elif quick:
        raise ConfigError("--quick runs nothing, and a flipped bit is found by running; give one of the two")
    else:
        flip_and_verify(run_path, flip_bit, trust_code=trust_code, as_json=as_json)


@app.command()
def sign(
    run_path: RunPath,
    key: Annotated[
        Path, typer.Option(help="The file of an SSH private key, or of the public key that an agent holds.")
    ],
    as_json: Json = False,
) -> None:
    """Sign the ledger of a run with an SSH key, for those who verify it."""
    from bitproof.commands.sign import sign_run

    sign_run(run_path, key, as_json=as_json)


@app.command()
def explain(
    run_path: RunPath,
    executor: Annotated[str | None, typer.Option(help="One executor, looked into as far as it allows.")] = None,
    samples: Annotated[int | None, typer.Option(help="Most samples to run; default: those of the run.", min=1)] = None,
    flip_bit: Annotated[
        str | None,
        typer.Option(
            "--flip-bit",
            metavar=FLIP,
            help="Explain a copy of an executor's artifact with one weight bit flipped (exit code 1).",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the first layer in which an executor diverges from the integer model, and say why."""
    from bitproof.commands.explain import explain_executors

    explain_executors(run_path, executor=executor, samples=samples, flip_bit=flip_bit, as_json=as_json)


@app.command()
def board(
    run_path: RunPath,
    port: Annotated[str, typer.Option(help="The serial port of the board, for example /dev/ttyUSB0.")],
    samples: Annotated[int | None, typer.Option(help="Most samples to send; default: those of the run.", min=1)] = None,
    as_json: Json = False,
) -> None:
    """Send a run's images to an open FPGA that holds its bitstream, and compare the codes with the ledger."""
    from bitproof.commands.board import compare_board

    compare_board(run_path, port, samples=samples, as_json=as_json)


@app.command()
def lint(
    path: Annotated[Path, typer.Argument(metavar="CONFIG|MODEL.onnx", help="A configuration, or a QONNX file.")],
    targets: Annotated[
        list[str] | None,
        typer.Option("--target", help="A target to ask; default: the configuration's, or all.", metavar="SPEC"),
    ] = None,
    input_type: Annotated[
        str | None,
        typer.Option("--input", help="Type of the input codes, for a file that does not quantize it.", metavar="TYPE"),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", help="Replace one value of a configuration, as run does.", metavar="KEY=VALUE"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Say before any training whether a network deploys: what refuses it, and what floats may decide otherwise."""
    from bitproof.commands.lint import lint as lint_path

    lint_path(path, tuple(targets or ()), tuple(assignments or ()), input_type=input_type, as_json=as_json)


@app.command()
def calibrate(
    run_path: RunPath,
    executor: Annotated[str, typer.Option(help="The device: integer, or an executor of the run.")] = "integer",
    faults: Annotated[
        str, typer.Option(help="Faults of a simulated chip, for example stuck=0.05,offset=0.5,flip=0.001,wrap=9.")
    ] = "",
    fault_seed: Annotated[int, typer.Option(help="Number of the simulated chip.", min=0)] = 0,
    access: Annotated[str, typer.Option(help="What can be read from the device: scalar or logits.")] = "scalar",
    parameters: Annotated[
        str | None, typer.Option(help="Of output, thresholds, all; default: all, thresholds for rtl and finn-hw.")
    ] = None,
    keep_weights: Annotated[bool, typer.Option(help="With logits: calibrate no weights.")] = False,
    images: Annotated[int, typer.Option(help="Images of an evaluation.")] = 256,
    pairs: Annotated[int, typer.Option(help="With scalar: antithetic pairs per step.")] = 8,
    evaluations: Annotated[int | None, typer.Option(help="Budget; default: by executor.")] = None,
    held_out: Annotated[int | None, typer.Option(help="Validation images that decide; default: all.")] = None,
    seed: Annotated[int, typer.Option(help="Of batches and directions.", min=0)] = 0,
    as_json: Json = False,
) -> None:
    """Tune thresholds, output scale and biases by the loss of the device that runs them; keep it if it is better."""
    from bitproof.commands.calibrate import CalibrateRequest, calibrate_run
    from bitproof.pipeline.run_folder import RunFolder

    request = CalibrateRequest(
        executor=executor,
        faults=faults,
        fault_seed=fault_seed,
        access=access,
        parameters=parameters,
        keep_weights=keep_weights,
        images=images,
        pairs=pairs,
        evaluations=evaluations,
        held_out=held_out,
        seed=seed,
    )
    calibrate_run(RunFolder.open(run_path), request, as_json=as_json)


@app.command()
def bitstream(
    run_path: RunPath,
    board: Annotated[str | None, typer.Option(help="A PYNQ board; default: that of the target finn.")] = None,
    as_json: Json = False,
) -> None:
    """Write and check the Vivado project of a run, and build its bitstream if Vivado is installed."""
    from bitproof.commands.bitstream import make_bitstream

    make_bitstream(run_path, board=board, as_json=as_json)


@app.command()
def bundle(
    run_path: RunPath,
    board: Annotated[str | None, typer.Option(help="A PYNQ board; default: that of the target finn.")] = None,
    out: Annotated[Path, typer.Option(help="Folder that holds the bundles.")] = Path("dist"),
    bit: Annotated[
        Path | None, typer.Option(help="A bit file, its .hwh beside it; default: that of the run.", metavar="FILE.bit")
    ] = None,
    as_json: Json = False,
) -> None:
    """Write the folder that goes onto a board: driver, vectors, ledger, self-test, notebook, bitstream."""
    from bitproof.commands.bundle import make_bundle

    make_bundle(run_path, board=board, out=out, bit=bit, as_json=as_json)


@app.command()
def deploy(
    run_path: RunPath,
    to: Annotated[str, typer.Option("--to", help="The board.", metavar="USER@HOST[:PORT]")],
    board: Annotated[str | None, typer.Option(help="A PYNQ board; default: that of the target finn.")] = None,
    bit: Annotated[
        Path | None, typer.Option(help="A bit file, its .hwh beside it; default: that of the run.", metavar="FILE.bit")
    ] = None,
    ask_password: Annotated[
        bool, typer.Option("--ask-password", help="Ask for the user's password, for SSH and sudo; default: keys alone.")
    ] = False,
    known_hosts: Annotated[Path | None, typer.Option(help="File of host keys; default: that of ssh.")] = None,
    keys: Annotated[
        list[Path] | None, typer.Option("--key", help="A private key; default: those of ssh and of its agent.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Most images of one transfer.", min=1)] = 1000,
    dma_timeout: Annotated[float, typer.Option(help="Seconds to wait for the DMA.", min=0.1, max=3600)] = 10.0,
    repeats: Annotated[int, typer.Option(help="How often to measure; 0: do not.", min=0)] = 20,
    as_json: Json = False,
) -> None:
    """Upload a run to a PYNQ board, run it there, compare its codes, and record them in the ledger."""
    from dataclasses import replace

    from bitproof.commands.deploy import deploy_run
    from bitproof.hw.pynq.deploy import TEST_S, SelfTest
    from bitproof.hw.pynq.login import Login

    login = replace(Login.parse(to), known_hosts=known_hosts, keys=tuple(keys or ()))
    test = SelfTest(batch=batch, timeout_s=dma_timeout, repeats=repeats, limit_s=TEST_S + dma_timeout)
    deploy_run(run_path, login, board=board, bit=bit, test=test, ask_password=ask_password, as_json=as_json)


@app.command()
def report(run_path: RunPath, as_json: Json = False) -> None:
    """Write the report of a run again and say where it is."""
    from bitproof.commands.report import make_report

    make_report(run_path, as_json=as_json)


@app.command()
def tune(
    out: Annotated[Path, typer.Option(help="Where the table is written.", metavar="FILE")] = Path("tuned.json"),
    seconds: Annotated[float, typer.Option(help="Time for all measurements together.", min=0, max=3600)] = 60,
    as_json: Json = False,
) -> None:
    """Measure onnxruntime on this machine: which operators of a packed-int8 file are the fastest here."""
    from bitproof.commands.tune import tune as measure_table

    measure_table(out, seconds=seconds, as_json=as_json)


@app.command()
def doctor(as_json: Json = False) -> None:
    """Show every tool: found or not, its version, the version wanted, how to install it."""
    from bitproof.commands.doctor import examine

    examine(as_json=as_json)


def main() -> None:
    """Run the command line and end the process with the exit code of the result.

    The warnings of torch, brevitas and qonnx about their own insides are not the user's: they are not shown.
    """
    warnings.simplefilter("ignore")
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    trust_exit_codes()
    end_properly_on_signals()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: a name on disk may be no text
    sys.exit(run_command_line(sys.argv[1:]))


def run_command_line(arguments: list[str]) -> int:
    """Run the command line on *arguments* and return the exit code; errors are printed, never raised."""
    try:
        app(arguments, standalone_mode=True)
    except SystemExit as end:
        if end.code == INTERRUPTED:
            return _ended(KeyboardInterrupt(), arguments)
        return end.code if isinstance(end.code, int) else int(bool(end.code))
    except Terminated as end:
        return _ended(end, arguments)
    except Exception as error:  # noqa: BLE001  the last line of defence
        told = interruption_behind(error)
        return _failed(error, arguments) if told is None else _ended(told, arguments)
    return 0


def _ended(told: Terminated | KeyboardInterrupt, arguments: list[str]) -> int:
    """Say that a signal asked for the end. A stage ends with the run that started it, which is the one to say so."""
    what, code = (str(told), told.exit_code) if isinstance(told, Terminated) else ("interrupted", INTERRUPTED)
    return code if arguments[:1] == ["stage"] else _fail(f"{what}; {RESUME}", code, arguments)


def _failed(error: Exception, arguments: list[str]) -> int:
    """Say what *error* is for the user; what is none of theirs is a bug of ours."""
    match error:
        case BitproofError():
            return _fail(str(error), error.exit_code, arguments, shown=error.shown)
        case OSError():
            failure = error_of(error, go_on=RESUME)
            return _fail(str(failure), failure.exit_code, arguments)
        case ModuleNotFoundError():
            missing = missing_package(error, needed_by=f"bitproof {' '.join(arguments[:1])}")
            return _bug(error, arguments) if missing is None else _fail(str(missing), missing.exit_code, arguments)
        case _:
            return _bug(error, arguments)


def _bug(error: Exception, arguments: list[str]) -> int:
    traceback.print_exception(error)
    return _fail("this is a bug of bitproof; please report it with the lines above", INTERNAL_ERROR, arguments)


def _fail(message: str, exit_code: int, arguments: list[str], *, shown: str | None = None) -> int:
    """Print *message* as JSON if that was asked for, and *shown* or else *message* for the user."""
    if "--json" in arguments:
        typer.echo(json.dumps({"error": message, "exit_code": exit_code}))
    text = f"error: {shown or message}"
    typer.echo(text.encode("utf-8", "backslashreplace").decode(), err=True)  # a name on disk may be no text
    return exit_code


if __name__ == "__main__":
    main()
