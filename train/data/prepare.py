"""The data stage: one data set as codes and labels, split, in NumPy files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from bitproof.pipeline import FirstStage, StageContext
from bitproof.pipeline.config import DataConfig
from bitproof.train.data.augment import usual_augmentation
from bitproof.train.data.sources import read_source
from bitproof.train.data.splits import CODE_BITS, split


@dataclass(frozen=True)
class PrepareData(FirstStage):
    """Read the data set, hold out validation samples, write ``{split}_codes.npy`` and ``{split}_labels.npy``.

    Codes keep their *input_bits* high bits (of 8), so that the host that feeds a target does no more than a shift.
    """

    config: DataConfig
    input_bits: int = 8
    name: ClassVar[str] = "data"
    produces: ClassVar[str] = "dataset"
    distributions: ClassVar[tuple[str, ...]] = ("numpy",)

    def run(self, ctx: StageContext) -> Mapping[str, str]:
        """Write the splits and ``dataset.json``."""
        found = read_source(self.config, ctx.scratch, ctx.seed)
        splits = split(found, self.config.validation, ctx.seed)
        for name in ("train", "validation", "test"):
            pixels, labels = getattr(splits, name)
            np.save(ctx.workdir / f"{name}_codes.npy", pixels >> (CODE_BITS - self.input_bits), allow_pickle=False)
            np.save(ctx.workdir / f"{name}_labels.npy", labels, allow_pickle=False)
        augmentation = usual_augmentation(self.config.name, found.shape) if self.config.augment else None
        description = {
            "name": found.name,
            "inputs": int(found.train[0].shape[1]),
            "shape": list(found.shape),
            "classes": list(found.classes),
            "input_bits": self.input_bits,
            "augment": None if augmentation is None else augmentation.as_json(),
        }
        (ctx.workdir / "dataset.json").write_text(json.dumps(description, indent=1, sort_keys=True) + "\n")
        return {}
