"""The script that makes the files beside it: two small networks, exported by releases of Brevitas and both exporters.

    python make_exports.py FOLDER      # makes one virtual environment a release under FOLDER; delete it after

Weights and inputs are drawn by NumPy, so that every release exports the same networks. Beside each network lie its
inputs and what Brevitas itself gives for them, in binary32: the test compares the codes of the integer model with them.
"""

from __future__ import annotations

import subprocess  # noqa: TID251  this script makes the environments that it runs in
import sys
import venv
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
RELEASES = {
    "0.10.3": ("torch==2.5.1", "numpy==1.26.4", "onnx==1.17.0", "onnxscript==0.2.7"),
    "0.11.0": ("torch==2.5.1", "numpy==1.26.4", "onnx==1.17.0", "onnxscript==0.2.7"),
    "0.12.1": ("torch==2.12.1", "numpy==1.26.4", "onnx==1.21.0", "onnxscript==0.7.2"),
    "0.13.0": ("torch==2.12.1", "numpy==2.4.6", "onnx==1.21.0", "onnxscript==0.7.2"),
    "0.13.4": ("torch==2.13.0", "numpy==2.4.6", "onnx==1.21.0", "onnxscript==0.7.2"),
}
"""What each release of Brevitas is run with."""
SAMPLES = 40


def main(folder: Path) -> None:
    for release, others in RELEASES.items():
        home = folder / release
        if not home.exists():
            venv.create(home, with_pip=True)
            packages = [f"brevitas=={release}", *others, "onnxoptimizer"]
            subprocess.run([home / "bin" / "pip", "install", "-q", *packages], check=True)
        subprocess.run([home / "bin" / "python", __file__, "--here"], check=True)


def export_here() -> None:
    """Export both networks by the Brevitas that runs this, by every exporter that it has."""
    import brevitas
    import numpy as np
    import torch
    from brevitas.export import export_qonnx

    release = brevitas.__version__
    for name, (network, shape) in _networks().items():
        inputs = np.random.default_rng(7).normal(size=(SAMPLES, *shape)).astype(np.float32)
        _set_weights(network)
        network.train()
        with torch.no_grad():
            network(torch.from_numpy(inputs))
        network.eval()
        with torch.no_grad():
            outputs = network(torch.from_numpy(inputs)).numpy()
        np.save(HERE / f"{name}.x.npy", inputs)
        np.save(HERE / f"{name}-{release}.y.npy", outputs)
        exporters = ("torchscript", "dynamo") if release >= "0.12" else ("torchscript",)
        for exporter in exporters:
            path = HERE / f"{name}-{release}-{exporter}.onnx"
            options: dict[str, Any] = {"dynamo": exporter == "dynamo"} if release >= "0.12" else {}
            if exporter == "dynamo":
                options |= {"optimize": True, "external_data": False}
            export_qonnx(network, args=torch.from_numpy(inputs[:1]), export_path=str(path), **options)
            _drop_places(path)


def _drop_places(path: Path) -> None:
    """Drop what the newer exporter notes of the folders and lines of whoever runs it; nothing reads it."""
    import onnx

    model = onnx.load(path)
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input):
        if hasattr(part, "metadata_props"):
            del part.metadata_props[:]
        part.doc_string = ""
    onnx.save(model, path)


def _set_weights(network: Any) -> None:  # noqa: ANN401  a torch module, which this script imports late
    import numpy as np
    import torch

    random = np.random.default_rng(3)
    for name, parameter in network.named_parameters():
        if "quant" in name:
            continue
        values = random.normal(size=tuple(parameter.shape)).astype(np.float32) / 2
        with torch.no_grad():
            parameter.copy_(torch.from_numpy(values))


def _networks() -> dict[str, tuple[Any, tuple[int, ...]]]:
    import torch
    from brevitas.nn import QuantConv2d, QuantEltwiseAdd, QuantIdentity, QuantLinear, QuantReLU
    from brevitas.quant import Int8ActPerTensorFloat, Int32Bias
    from torch import nn

    class Chain(nn.Module):  # type: ignore[misc]  # torch is untyped here
        """Convolution, batch norm, ReLU quantizers and a linear layer, with biases."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.Sequential(
                QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=6, return_quant_tensor=True),
                QuantConv2d(2, 3, 3, weight_bit_width=4, weight_scaling_per_output_channel=True, bias=True),
                nn.BatchNorm2d(3),
                QuantReLU(bit_width=4, return_quant_tensor=True),
                nn.MaxPool2d(2),
                nn.Flatten(),
                QuantLinear(12, 5, bias=True, weight_bit_width=4, bias_quant=Int32Bias),
            )

        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            result = self.layers(numbers)
            return result.value if hasattr(result, "value") else result

    class Residual(nn.Module):  # type: ignore[misc]  # torch is untyped here
        """A sum of two branches that share one scale, between linear layers with biases."""

        def __init__(self) -> None:
            super().__init__()
            self.first = QuantIdentity(act_quant=Int8ActPerTensorFloat, bit_width=6, return_quant_tensor=True)
            self.branch = nn.Sequential(
                QuantLinear(6, 6, bias=True, weight_bit_width=3),
                nn.BatchNorm1d(6),
                QuantReLU(bit_width=4),
                QuantLinear(6, 6, bias=False, weight_bit_width=4),
            )
            self.sum = QuantEltwiseAdd(return_quant_tensor=True)
            self.last = nn.Sequential(QuantReLU(bit_width=4, return_quant_tensor=True), QuantLinear(6, 4, bias=True))

        def forward(self, numbers: torch.Tensor) -> torch.Tensor:
            start = self.first(numbers)
            result = self.last(self.sum(start, self.branch(start)))
            return result.value if hasattr(result, "value") else result

    return {"chain": (Chain(), (2, 6, 6)), "residual": (Residual(), (6,))}


if __name__ == "__main__":
    if sys.argv[1:] == ["--here"]:
        export_here()
    else:
        main(Path(sys.argv[1]))
