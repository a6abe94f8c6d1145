"""The executor of FINN's hardware layers: codes in, codes out, by FINN's own Python execution."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path

import numpy as np

from bitproof.hw.finn.process import run_child
from bitproof.hw.rtl.host_order import from_stream, to_stream
from bitproof.hw.rtl.output_bias import add_output_bias
from bitproof.pipeline import Artifact, Codes, InputError

HARDWARE = "hw.onnx"
SUMMARY = "graph.json"


class FinnExecutor:
    """FINN's Python execution of ``hw.onnx``, the layers before RTL is chosen, in a child process.

    A bias of the outputs, which FINN has no layer for, is added to what they give.
    """

    name = "finn-hw"

    def __init__(self, artifact: Artifact, workdir: Path) -> None:
        """Execute *artifact* with files and logs in the existing folder *workdir*."""
        self._graph = artifact.path / HARDWARE
        if not self._graph.is_file():
            raise InputError(f"{artifact.path} holds no FINN graph ({HARDWARE} is missing)")
        self._workdir = workdir
        self._summary = artifact.path / SUMMARY

    def __call__(self, codes: Codes) -> Codes:
        """Run *codes*, shape (N, inputs), and return the output codes, shape (N, outputs)."""
        graph = self._described()
        inputs_of_one = prod(graph["input_shape"])
        if codes.ndim != 2 or not len(codes) or codes.shape[1] != inputs_of_one:
            raise InputError(f"finn-hw takes codes of shape (N >= 1, {inputs_of_one}), not {codes.shape}")
        inputs, outputs = self._workdir / "finn-inputs.npy", self._workdir / "finn-outputs.npy"
        np.save(inputs, to_stream(codes, graph["input_shape"]), allow_pickle=False)
        outputs.unlink(missing_ok=True)
        run_child("execute", [self._graph, inputs, outputs], needed_by=self.name, scratch=self._workdir)
        result: Codes = np.load(outputs, allow_pickle=False)
        return add_output_bias(from_stream(result, graph["output_shape"]), graph["output_bias"])

    def _described(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of inputs and outputs and the bias of the outputs."""
        try:
            summary = json.loads(self._summary.read_text())
            return {name: tuple(map(int, summary[name])) for name in ("input_shape", "output_shape", "output_bias")}
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(f"{self._summary} does not describe a FINN graph: {error!r}") from error
