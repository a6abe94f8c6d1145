"""The usual changes to training samples: moved by a few places, mirrored.

A sample is moved by a whole number of places and what comes in from outside is code 0: black, or silence. So an
augmented sample is again a sample of codes, and nothing but its place has changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the data stage names an augmentation and runs none: it does without the seconds that torch takes
    import torch
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class Augmentation:
    """Move each sample by its own random distance, and mirror it with probability 1/2 if *flip*.

    Attributes:
        shape: (channels, height, width) of a sample.
        rows: most places up or down; for sound, in time.
        columns: most places left or right.
        flip: left and right are exchanged.
    """

    shape: tuple[int, int, int]
    rows: int
    columns: int
    flip: bool

    def __call__(self, values: Tensor, generator: torch.Generator) -> Tensor:
        """Return new samples for *values*, shape (N, inputs), any type; *generator* is on their device."""
        import torch

        count, (channels, height, width) = len(values), self.shape
        samples = values.reshape(count, *self.shape)
        padded = torch.nn.functional.pad(samples, (self.columns, self.columns, self.rows, self.rows))
        rows = self._starts(self.rows, count, generator)[:, None] + torch.arange(height, device=values.device)
        columns = self._starts(self.columns, count, generator)[:, None] + torch.arange(width, device=values.device)
        if self.flip:
            mirrored = torch.rand(count, generator=generator, device=values.device) < 0.5
            columns = torch.where(mirrored[:, None], columns.flip(1), columns)
        sample = torch.arange(count, device=values.device)[:, None, None, None]
        channel = torch.arange(channels, device=values.device)[None, :, None, None]
        return padded[sample, channel, rows[:, None, :, None], columns[:, None, None, :]].reshape(values.shape)

    def _starts(self, most: int, count: int, generator: torch.Generator) -> Tensor:
        """Return the first place of each sample in the padded one, 0 to twice *most*."""
        import torch

        return torch.randint(0, 2 * most + 1, (count,), generator=generator, device=generator.device)

    def as_json(self) -> dict[str, int]:
        """Return the fields as JSON values, for :func:`augmentation_from`."""
        channels, height, width = self.shape
        sizes = {"channels": channels, "height": height, "width": width}
        return {**sizes, "rows": self.rows, "columns": self.columns, "flip": int(self.flip)}


USUAL = {
    "cifar-10": {"rows": 4, "columns": 4, "flip": True},
    "fashion-mnist": {"rows": 2, "columns": 2, "flip": False},
    "mnist": {"rows": 2, "columns": 2, "flip": False},
    "speech-commands": {"rows": 5, "columns": 0, "flip": False},
}
"""By data set. Images of MNIST have no mirror image in the set; speech is moved by up to 100 ms."""


def usual_augmentation(name: str, shape: tuple[int, ...]) -> Augmentation | None:
    """Return what is usual for the data set *name* (of the configuration) with samples of *shape*; None: nothing is."""
    if name not in USUAL:
        return None
    channels, height, width = shape
    options = USUAL[name]
    return Augmentation((channels, height, width), int(options["rows"]), int(options["columns"]), bool(options["flip"]))


def augmentation_from(description: Mapping[str, int] | None) -> Augmentation | None:
    """Return the augmentation that ``as_json`` described; None: none."""
    if description is None:
        return None
    channels, height, width, rows, columns, flip = (
        int(description[key]) for key in ("channels", "height", "width", "rows", "columns", "flip")
    )
    return Augmentation((channels, height, width), rows, columns, bool(flip))
