"""The networks whose lowering is measured, and their export in a process of its own: it alone needs PyTorch.

``python -m benchmarks.lab.integer_networks KEY FOLDER`` writes ``FOLDER/model.onnx``. The weights are initialized, not
trained; scales and batch norms come from statistics of random inputs, so that every code and both signs of slope occur.
"""

from __future__ import annotations

import json
import math
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitproof.export.qonnx import FILE, clean
from bitproof.pipeline.config import ModelConfig

BITS: dict[str, Any] = {"weight_bits": 4, "act_bits": 4}


@dataclass(frozen=True, slots=True)
class Subject:
    """A network with 4-bit weights and activations, 8-bit inputs and power-of-two scales.

    Attributes:
        model: what to build.
        shape: of one sample.
        classes: of the output.
        title: its name in tables.
    """

    model: ModelConfig
    shape: tuple[int, ...]
    classes: int
    title: str

    @property
    def inputs(self) -> int:
        """Numbers of one sample."""
        return math.prod(self.shape)


def _subject(title: str, shape: tuple[int, ...], classes: int, **options: Any) -> Subject:  # noqa: ANN401
    return Subject(ModelConfig.model_validate({**BITS, **options}), shape, classes, title)


WHOLE = {
    "resnet8": _subject("ResNet-8", (3, 32, 32), 10, name="resnet8"),
    "ds-cnn": _subject("DS-CNN", (1, 49, 10), 12, name="ds-cnn"),
    "mobilenet-v1": _subject("MobileNetV1-0.25", (3, 96, 96), 2, name="mobilenet-v1"),
    "cnv": _subject("CNV", (3, 32, 32), 10, name="cnv"),
    "autoencoder": _subject("autoencoder", (640,), 2, name="autoencoder"),
}
"""The networks of the literature, full size."""

GROWING = {
    **{
        f"resnet8-{width:g}": _subject(f"ResNet-8, width {width:g}", (3, 32, 32), 10, name="resnet8", width=width)
        for width in (0.25, 0.5, 1, 2)
    },
    **{
        f"mlp-{units}": _subject(
            f"perceptron 784-{units}-{units}-{units}-10", (784,), 10, name="mlp", hidden=[units] * 3
        )
        for units in (64, 128, 256, 512, 1024)
    },
}
"""Two networks that grow."""

SUBJECTS = {**WHOLE, **GROWING}


def export(subject: Subject, path: Path) -> None:
    """Write *subject* to the QONNX file *path*."""
    import torch

    torch.set_num_threads(1)
    write_qonnx(initialized(subject), (subject.inputs,), path)


def write_qonnx(network: Any, shape: tuple[int, ...], path: Path) -> None:  # noqa: ANN401
    """Write *network*, which takes samples of *shape*, to the QONNX file *path*."""
    import onnx
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter warns about its own internals, from its import on
        from bitproof.export.brevitas_handlers import QonnxManager

        raw = path.with_suffix(".raw.onnx")
        QonnxManager.export(network, args=torch.zeros(1, *shape), export_path=str(raw), dynamo=True, verbose=False)
    onnx.save_model(clean(onnx.load(raw)), path)


def initialized(subject: Subject) -> Any:  # noqa: ANN401  torch is imported on use
    """Return the network in evaluation mode: scales from statistics, a fifth of the batch norms' channels falling."""
    import torch
    from torch import nn

    from bitproof.train.models import build

    torch.manual_seed(0)
    network = build(subject.model, subject.inputs, subject.classes, subject.shape)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 0.5
        nn.init.normal_(norm.bias, 0, 0.3)
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        with torch.no_grad():
            norm.weight[::5] *= -1
    for module in network.modules():
        if hasattr(module, "collect_stats_steps"):
            module.collect_stats_steps = 4
    for _ in range(8):
        network(torch.randint(0, 256, (16, subject.inputs)).float() / 256)
    with torch.no_grad():
        for norm in norms:  # the batch's own statistics would center every channel on a tie
            norm.running_mean += 0.1 * torch.randn_like(norm.running_mean) * norm.running_var.sqrt()
            norm.running_var *= torch.empty_like(norm.running_var).uniform_(0.8, 1.25)
    return network.eval()


if __name__ == "__main__":
    export(SUBJECTS[sys.argv[1]], Path(sys.argv[2]) / FILE)
    print(json.dumps({"written": str(Path(sys.argv[2]) / FILE)}))
