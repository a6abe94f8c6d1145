"""A data set on the training device: whole tensors, so that a batch is one indexing operation."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from bitproof.pipeline import Artifact
from bitproof.train.data.augment import Augmentation, augmentation_from

SAMPLES_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, eq=False)
class SplitTensors:
    """One split.

    Attributes:
        codes: uint8, shape (N, inputs), 0..2^input_bits - 1.
        labels: class of each sample, int64, shape (N,).
        scale: real value of one code, 2^-input_bits: the network sees values in [0, 1).
    """

    codes: torch.Tensor
    labels: torch.Tensor
    scale: float

    def values(self, index: torch.Tensor | slice) -> torch.Tensor:
        """Return the real inputs of the chosen samples."""
        return self.codes[index].float() * self.scale

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class DatasetTensors:
    """The three splits; the number of input codes of a sample, its shape, the number of classes; how to augment."""

    train: SplitTensors
    validation: SplitTensors
    test: SplitTensors
    inputs: int
    shape: tuple[int, ...]
    classes: int
    augment: Augmentation | None = None


def load_dataset(source: Artifact, device: torch.device) -> DatasetTensors:
    """Put the data set *source* on *device*."""

    def load(split: str, part: str) -> torch.Tensor:
        return torch.from_numpy(np.load(source.path / f"{split}_{part}.npy", allow_pickle=False)).to(device)

    description = json.loads((source.path / "dataset.json").read_text())
    scale = 2.0 ** -int(description["input_bits"])
    splits = {
        split: SplitTensors(load(split, "codes"), load(split, "labels"), scale)
        for split in ("train", "validation", "test")
    }
    return DatasetTensors(
        **splits,
        inputs=int(description["inputs"]),
        shape=tuple(description["shape"]),
        classes=len(description["classes"]),
        augment=augmentation_from(description["augment"]),
    )


def real_outputs(network: Callable[[torch.Tensor], torch.Tensor], values: torch.Tensor) -> torch.Tensor:
    """Run *network* and return its outputs as a plain tensor (brevitas may put a QuantTensor around it)."""
    outputs = network(values)
    plain: torch.Tensor = getattr(outputs, "value", outputs)
    return plain


@torch.no_grad()
def accuracy_percent(network: nn.Module, split: SplitTensors) -> float:
    """Return how many percent of *split* the network classifies correctly, in evaluation mode."""
    was_training = network.training
    network.eval()
    correct = 0
    for start in range(0, len(split), SAMPLES_AT_ONCE):
        chosen = slice(start, start + SAMPLES_AT_ONCE)
        outputs = real_outputs(network, split.values(chosen))
        correct += int((outputs.argmax(dim=1) == split.labels[chosen]).sum())
    network.train(was_training)
    return 100.0 * correct / len(split)
