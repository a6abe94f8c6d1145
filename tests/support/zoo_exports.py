"""A network as its checkpoint and as what is lowered from its export."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from zoo_networks import Instance

from bitproof.export.lower import lower_file
from bitproof.export.lowering.lower import Lowered
from bitproof.export.qonnx import FILE, ExportQonnx
from bitproof.pipeline import Artifact, StageContext
from bitproof.train.checkpoint import load_network, save_checkpoint


def lowered_network(folder: Path, instance: Instance, network: nn.Module) -> tuple[Artifact, Lowered]:
    """Write *network* and its export into the new *folder*; return the checkpoint and the lowered network."""
    checkpoint = Artifact("train", "checkpoint", folder / "train", "0" * 64)
    for name in ("train", "export", "scratch"):
        (folder / name).mkdir(parents=True)
    save_checkpoint(network, instance.model, instance.shape, instance.classes, checkpoint.path)
    ExportQonnx(load_network).run(checkpoint, StageContext(folder / "export", folder / "scratch", 0))
    return checkpoint, lower_file(folder / "export" / FILE)
