"""A network as exact integers: run, proven, and asked of targets without building anything."""

from __future__ import annotations

import html
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from bitproof.api.arrays import as_array
from bitproof.export.importer import normalized
from bitproof.export.integer import IntegerModel, require_codes, run
from bitproof.export.lower import lower_file
from bitproof.export.lowering import Lowered
from bitproof.export.proofs import prove_lowering
from bitproof.export.qonnx import FILE
from bitproof.module_file import is_module, write_module
from bitproof.pipeline.errors import ConfigError, InputError
from bitproof.pipeline.executor import Codes
from bitproof.pipeline.input_type import parse_input_type
from bitproof.pipeline.ledger import ProofEntry
from bitproof.pipeline.run_folder import RunFolder
from bitproof.support import Verdict, ask, require_options
from bitproof.targets import require_target

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True, eq=False)
class Model:
    """The integer model of a network.

    Attributes:
        name: the network's.
        lowered: the integer model with what is known of where it comes from.
    """

    name: str
    lowered: Lowered

    @property
    def integer(self) -> IntegerModel:
        """The graph of integer operations."""
        return self.lowered.model

    def __call__(self, codes: ArrayLike) -> Codes:
        """Return the output codes, int64, shape (N, outputs), of integer input codes, shape (N, inputs).

        Samples may also have the shape of the input; one code stands for ``integer.input_scale``.

        Raises:
            InputError: the codes are no integers, have another shape, or are not codes of the input.
        """
        given = as_array(codes, "codes")
        if given.dtype.kind not in "iu" or given.ndim < 2:
            raise InputError(
                f"{self.name!r} takes integer codes of shape (N, {self.integer.inputs}), not {given.dtype} of shape "
                f"{given.shape}; one code stands for {float(self.integer.input_scale):.6g}"
            )
        flat = given.reshape(len(given), self.integer.inputs) if given.shape[1:] == self.integer.shape else given
        require_codes(self.integer, flat)
        return run(self.integer, flat.astype(np.int64))

    def proofs(self) -> list[ProofEntry]:
        """Prove thresholds, widths and float order of every layer, over every reachable accumulator."""
        return prove_lowering(self.lowered)

    def lint(self, target: str) -> Verdict:
        """Ask *target*, written as in a configuration, whether it takes the network, and why not.

        Raises:
            ConfigError: there is no such target, or an option is not valid.
        """
        asked = require_target(target)
        require_options([asked])
        return ask(asked, self.integer)

    def __repr__(self) -> str:
        model = self.integer
        weights = sum(node.weights.size for node in model.products)
        return f"Model({self.name}: {model.inputs} {model.input} codes to {model.outputs}, {weights} weights)"

    def _repr_html_(self) -> str:
        """Return a table of the layers, for notebooks."""
        rows = "".join(
            f"<tr><td>{html.escape(node.name)}</td><td>{node.op}</td>"
            f"<td>{' x '.join(map(str, self.integer.values[node.name].shape))}</td>"
            f"<td>{self.integer.values[node.name].type}</td></tr>"
            for node in self.integer.nodes
        )
        head = "<tr><th>layer</th><th>operation</th><th>shape</th><th>codes</th></tr>"
        return f"<b>{html.escape(repr(self))}</b><table>{head}{rows}</table>"


def load(network: str | Path | nn.Module, *, example: Tensor | None = None, input_type: str | None = None) -> Model:
    """Read a network into exact integers.

    Args:
        network: a QONNX file, the folder of a run, or a Brevitas module.
        example: one input of a module, the batch first; it is exported by running it.
        input_type: type of the input codes of a network that does not quantize its input, for example ``uint8*1/255``.

    Raises:
        ConfigError: an argument is missing or has no effect.
        InputError: the network cannot be read, exported, or lowered to integers exactly; the message names the node.
    """
    if input_type is not None:
        try:
            parse_input_type(input_type)
        except (ValueError, AttributeError, TypeError) as error:
            raise ConfigError(f"input_type = {input_type!r}: {error}") from error
    if is_module(network):
        with tempfile.TemporaryDirectory(prefix="bitproof-load-") as folder:
            path = Path(folder) / f"{type(network).__name__}.onnx"
            write_module(network, example, path)
            try:
                return _read(path, input_type)
            except InputError as error:  # the file is not one of the user
                raise InputError(str(error).replace(str(path), f"the exported {type(network).__name__}")) from error
    if not isinstance(network, str | Path):
        raise ConfigError(
            f"a {type(network).__name__} is no network; give a QONNX file, the folder of a run, or a Brevitas module"
        )
    path = Path(network)
    if example is not None:
        raise ConfigError(f"example has no effect on {path}: only a module is exported by running it")
    if path.is_dir():
        if input_type is not None:
            raise ConfigError(f"input_type = {input_type!r} has no effect on {path}: the run knows its input")
        artifact = RunFolder.open(path).artifact("export")
        artifact.verify()
        return Model(path.resolve().name, lower_file(artifact.path / FILE))
    return _read(path, input_type)


def _read(path: Path, input_type: str | None) -> Model:
    """Normalize the file as an import does, and lower it."""
    try:
        with normalized(path, input_type) as file:
            return Model(path.stem, lower_file(file))
    except InputError as error:  # the option is an argument here
        raise InputError(str(error).replace("--input TYPE", "input_type=TYPE")) from error
