"""Sixty random networks of stock Brevitas layers import, and equal torch in float32 but for what rounding explains."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from bitproof_command import bitproof_without_scheduler
from stock_brevitas import exported, observed, stock_network
from torch import nn

from bitproof.export.float_reference import judge_reference, output_coding, walk
from bitproof.export.importer.normalize import normalize
from bitproof.export.integer import Threshold, run
from bitproof.export.lowering import Lowered, lower_graph, origins_of
from bitproof.export.onnx_int8 import OnnxInt8Executor, build
from bitproof.export.onnx_int8.writer import FILE, LAYERS
from bitproof.export.proofs import prove_lowering
from bitproof.export.qonnx import load_qonnx
from bitproof.export.qonnx_executor import QonnxExecutor
from bitproof.export.qonnx_float64 import QonnxFloat64Executor
from bitproof.pipeline import Artifact, Codes, InputError, Observation

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Named tensors:UserWarning"),
    pytest.mark.filterwarnings("ignore:Computing zero point of output accumulator:UserWarning"),
    pytest.mark.xdist_group("stock_brevitas"),
]

SEEDS = range(60)
DOCUMENTED = ("supported",)
"""What a refusal of a documented limit says; docs/integer-model.md lists them."""
MOST_REFUSED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """A network, its file after normalization, and what is lowered from it."""

    network: nn.Module
    shape: tuple[int, ...]
    file: onnx.ModelProto
    lowered: Lowered
    codes: Codes

    def torch_gives(self) -> Observation:
        model = self.lowered.model
        values = torch.from_numpy((self.codes * float(model.input_scale)).astype(np.float32))
        names = [node.name for node in model.nodes_of(Threshold) if node.name in self.lowered.origins]
        seen = observed(self.network, values.reshape(-1, *self.shape), names, self.codes)
        coding = output_coding(model)
        return Observation(seen.layers, coding.in_codes(seen.outputs), coding.nearest(seen.outputs, "torch"))


def imported(seed: int, folder: Path) -> Imported | str:
    """Import the network of *seed*, or return why it is refused."""
    network, shape = stock_network(seed)
    path = folder / f"net{seed}.onnx"
    exported(network, shape, path)
    try:
        file = normalize(load_qonnx(path))
        lowered = lower_graph(file, path, "net")
    except InputError as error:
        return str(error)
    allowed = np.array(lowered.model.allowed_codes)
    codes = np.random.default_rng(seed).choice(allowed, size=(40, lowered.model.inputs)).astype(np.int64)
    return Imported(network, shape, file, lowered, codes)


def packed(found: Imported, folder: Path) -> OnnxInt8Executor:
    proto, layers = build(found.lowered.model)
    folder.mkdir()
    onnx.save_model(proto, folder / FILE)
    (folder / LAYERS).write_text(json.dumps(layers))
    return OnnxInt8Executor(Artifact("onnx-int8", "onnx-int8", folder, ""))


@pytest.mark.parametrize("part", range(6))
def test_random_networks_equal_torch_but_for_what_rounding_explains(tmp_path: Path, part: int) -> None:
    refused = []
    for seed in SEEDS[part::6]:
        found = imported(seed, tmp_path)
        if isinstance(found, str):
            refused.append(found)
            continue
        lowered, codes = found.lowered, found.codes
        model, exact = lowered.model, lowered.activations
        assert all(proof.holds for proof in prove_lowering(lowered)), seed
        torchs = walk(model, codes, found.torch_gives(), lambda exact=exact: exact, precision=24)  # type: ignore[misc]
        assert torchs.first is None, (seed, torchs.first)
        for executor in (QonnxExecutor, QonnxFloat64Executor):
            report, _ = judge_reference(
                executor(found.file, model, origins_of(lowered)),
                model,
                lambda exact=exact: exact,  # type: ignore[misc]
                codes,
                "drawn",
            )
            assert report.ok, (seed, report.summary())
        assert not report.differing, f"binary64 gives the integers themselves: {report.summary()}"
        assert np.array_equal(packed(found, tmp_path / f"int8-{seed}")(codes), run(model, codes)), seed
    assert len(refused) <= MOST_REFUSED
    assert all(any(word in text for word in DOCUMENTED) for text in refused), refused


def test_a_weight_that_torch_does_not_have_is_unexplained(tmp_path: Path) -> None:
    """The negative control: torch with one other weight code is not explained by rounding."""
    found = imported(SEEDS[0], tmp_path)
    assert isinstance(found, Imported)
    layer = next(m for m in found.network.modules() if hasattr(m, "weight_quant") and hasattr(m, "quant_weight"))
    with torch.no_grad():
        step = layer.quant_weight().scale.reshape(-1)[0]
        layer.weight.view(-1)[0] += 3 * step * (1 if layer.weight.view(-1)[0] < 0 else -1)
    wrong = walk(found.lowered.model, found.codes, found.torch_gives(), lambda: found.lowered.activations, precision=24)
    assert wrong.first is not None


@pytest.mark.parametrize("seed", [3, 9])
def test_the_command_imports_them(tmp_path: Path, seed: int) -> None:
    network, shape = stock_network(seed)
    exported(network, shape, tmp_path / "net.onnx")
    done = bitproof_without_scheduler(
        "import", tmp_path / "net.onnx", "--target", "onnx-int8", "--samples", "50", "--runs", tmp_path
    )
    assert done.code == 0, done.err
    ledger = json.loads((tmp_path / "net" / "ledger.json").read_text())
    checks = {check["actual"]: check for check in ledger["checks"]}
    assert checks.keys() == {"qonnx", "qonnx-f64", "onnx-int8"}
    assert checks["qonnx"]["differing"] == checks["qonnx"]["explained"]
    assert all(checks[name]["differing"] == 0 for name in ("qonnx-f64", "onnx-int8"))
