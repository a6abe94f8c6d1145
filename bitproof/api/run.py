"""A network on its targets: what ``bitproof import`` does, from Python, with the module itself compared, too."""

from __future__ import annotations

import contextlib
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bitproof.api.arrays import as_array
from bitproof.commands.import_model import ImportRequest, import_model
from bitproof.module_file import is_module, keep_inputs, write_module
from bitproof.pipeline.config import FloatReferenceGate
from bitproof.pipeline.errors import ConfigError, GateError
from bitproof.pipeline.import_config import require_run_name
from bitproof.pipeline.ledger import CheckEntry, Ledger, read_ledger
from bitproof.pipeline.run_folder import RunFolder

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """A finished deployment.

    Attributes:
        path: the folder of the run; ``bitproof verify PATH`` trusts nothing in it.
        ledger: what was made and compared.
        torch: the module that was deployed, against the integers made of it, layer by layer; None for a file. It lives
            in memory alone, so it is not in the ledger: ``verify`` could not run it again.
        reasons: why a gate was not passed; empty: all were.
    """

    path: Path
    ledger: Ledger
    torch: CheckEntry | None
    reasons: tuple[str, ...]

    @property
    def checks(self) -> tuple[CheckEntry, ...]:
        """Every comparison with the integer model, that of the module first."""
        return (*(() if self.torch is None else (self.torch,)), *self.ledger.checks)

    @property
    def equal(self) -> bool:
        """Every target gives the integers of the model, and float references differ by explained rounding at most."""
        return not self.reasons and not self.ledger.failures and all(check.ok for check in self.checks)

    @property
    def report(self) -> Path:
        """The report, one HTML file."""
        return self.path / "report.html"

    def __repr__(self) -> str:
        said = "every executor equal" if self.equal else "NOT EQUAL"
        return f"Run({self.path}: {said}; {', '.join(f'{check.actual} {check.verdict}' for check in self.checks)})"

    def _repr_html_(self) -> str:
        """Return the table of executors, for notebooks."""
        accuracy = self.ledger.accuracy
        rows = "".join(
            f"<tr><td>{html.escape(check.actual)}</td><td>{check.samples}</td><td>{check.compared}</td>"
            f"<td>{html.escape(check.verdict)}</td>"
            f"<td>{f'{accuracy[check.actual]:.2f} %' if check.actual in accuracy else '-'}</td></tr>"
            for check in self.checks
        )
        head = "<tr><th>executor</th><th>samples</th><th>codes</th><th>differing</th><th>accuracy</th></tr>"
        failed = "".join(f"<p>{html.escape(f'{f.stage}: {f.message}')}</p>" for f in self.ledger.failures)
        reasons = "".join(f"<p>{html.escape(reason)}</p>" for reason in self.reasons)
        title = html.escape(f"{self.ledger.run}: every executor against the integer model")
        return f"<b>{title}</b><table>{head}{rows}</table>{failed}{reasons}"


def deploy(
    network: str | Path | nn.Module,
    *,
    targets: Sequence[str],
    example: Tensor | None = None,
    vectors: ArrayLike | None = None,
    labels: ArrayLike | None = None,
    name: str | None = None,
    runs: str | Path = "runs",
    input_type: str | None = None,
    samples: int | None = None,
    seed: int = 0,
    float_reference: FloatReferenceGate = "explained",
) -> Run:
    """Take a trained network to *targets* and compare every one of them with its exact integers.

    What a module gives is compared with the integers, too, layer by layer. The module stays as it is: it is copied,
    and exported and run on the CPU in evaluation mode. The stages run as processes of their own and say on standard
    error how far they are; a run that was interrupted is resumed by the same call.

    Args:
        network: a QONNX file, or a Brevitas module that begins with a quantizer.
        targets: for example ``["onnx-int8", "c{core=cortex-m4}"]``.
        example: one input of a module, the batch first.
        vectors: inputs to compare on, shape (N, ...): real values, or integer codes; None: codes drawn by *seed*.
        labels: the class of each of the vectors, shape (N,).
        name: of the run; None: that of the file or of the module's class.
        runs: the folder that holds the runs.
        input_type: type of the input codes of a network that does not quantize its input, for example ``uint8*1/255``.
        samples: how many inputs are compared; None: all vectors, or 1,000 drawn ones.
        seed: of drawn inputs.
        float_reference: what floats may give otherwise: ``explained`` by their rounding errors, or ``strict``: nothing.

    Raises:
        ConfigError: an argument is missing or not valid.
        InputError: the network or the vectors cannot be read; the run stays as it was.
        RunFailedError: a stage failed: a target refused the network, or a tool is missing.
    """
    if isinstance(targets, str):
        raise ConfigError(f"targets = {targets!r} is text; give a list, for example [{targets!r}]")
    if not isinstance(targets, Sequence) or not all(isinstance(target, str) for target in targets):
        raise ConfigError(f'targets = {targets!r} is no list of texts; give one, for example ["onnx-int8"]')
    if not isinstance(runs, str | Path) or not isinstance(name, str | None):
        raise ConfigError(f"runs = {runs!r} and name = {name!r} are texts, or a path; None is the default name")
    folder = RunFolder.named("run", runs=Path(runs)).path.parent
    given = is_module(network)
    if not given and not isinstance(network, str | Path):
        raise ConfigError(f"a {type(network).__name__} is no network; give a QONNX file or a Brevitas module")
    if not given and example is not None:
        raise ConfigError(f"example has no effect on {network}: only a module is exported by running it")
    default = type(network).__name__ if given else Path(str(network)).stem
    called = default if name is None else name
    require_run_name(called)
    arrays = {"vectors": vectors, "labels": labels}

    def write(inputs: Path) -> None:
        if given:
            write_module(network, example, inputs / f"{called}.onnx")
        for kind, array in arrays.items():
            if array is not None:
                _save(array, inputs / f"{kind}.npy")

    holds = given or any(array is not None for array in arrays.values())
    kept = keep_inputs(folder / f"{called}.inputs", folder / called, write) if holds else folder
    saved = {kind: None if array is None else kept / f"{kind}.npy" for kind, array in arrays.items()}
    request = ImportRequest(
        model=kept / f"{called}.onnx" if given else Path(str(network)),
        name=called,
        vectors=saved["vectors"],
        labels=saved["labels"],
        input=input_type,
        targets=tuple(targets),
        samples=samples,
        seed=seed,
        float_reference=float_reference,
    )
    reasons: tuple[str, ...] = ()
    with contextlib.redirect_stdout(io.StringIO()):  # the table is the result's
        try:
            import_model(request, runs=folder, cores=None, as_json=False)
        except GateError as error:
            reasons = tuple(str(error).splitlines())
    run = RunFolder.open(folder / called)
    compared = _compared(network, run) if given else None
    return Run(run.path, read_ledger(run.ledger), compared, reasons)


def _save(array: ArrayLike, path: Path) -> None:
    """Write *array*, which may be a tensor on any device, to *path*.

    Raises:
        ConfigError: it holds no numbers.
    """
    values = as_array(array, path.stem)
    if values.dtype.kind not in "iuf":
        raise ConfigError(f"{path.stem} hold {values.dtype}; give integers or real numbers")
    np.save(path, values, allow_pickle=False)


def _compared(network: nn.Module, run: RunFolder) -> CheckEntry:
    """Compare the module itself with the integer model of *run*, on its vectors."""
    from bitproof.check import run_vectors
    from bitproof.export.float_reference import judge_reference, reference_codings
    from bitproof.export.integer import load
    from bitproof.export.lower import activations_of
    from bitproof.train.module_executor import ModuleExecutor

    integer = run.artifact("integer").path
    model, (outputs, names) = load(integer), reference_codings(integer)
    executor = ModuleExecutor(network, model.shape, float(model.input_scale), outputs, names)
    vectors = run_vectors(run)
    activations = cache(lambda: activations_of(model, run.artifact("export").path))
    report, _ = judge_reference(executor, model, activations, vectors.codes, vectors.origin)
    return CheckEntry.of(report)
