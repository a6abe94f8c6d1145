"""Augmentation: a sample is moved and perhaps mirrored, and nothing else."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch

from bitproof.train.data.augment import USUAL, Augmentation, augmentation_from, usual_augmentation

SHAPE = (2, 4, 5)


def images(count: int) -> torch.Tensor:
    """Different numbers everywhere, none of them 0."""
    return torch.arange(1, count * 40 + 1).reshape(count, 40)


def moved(sample: torch.Tensor, rows: int, columns: int, flip: bool) -> torch.Tensor:
    """Move one sample by NumPy slices: an evaluation of its own."""
    image = sample.reshape(SHAPE).numpy()
    source = image[:, :, ::-1] if flip else image
    result = np.zeros_like(image)
    height, width = SHAPE[1:]
    for row, column in itertools.product(range(height), range(width)):
        from_row, from_column = row + rows, column + columns
        if 0 <= from_row < height and 0 <= from_column < width:
            result[:, row, column] = source[:, from_row, from_column]
    return torch.from_numpy(result).reshape(40)


@pytest.mark.parametrize(("rows", "columns", "flip"), [(2, 1, False), (0, 2, True), (1, 0, False), (3, 3, True)])
def test_every_sample_is_one_of_the_moved_ones_and_all_of_them_occur(rows: int, columns: int, flip: bool) -> None:
    originals = images(1).repeat(400, 1)
    augmented = Augmentation(SHAPE, rows, columns, flip)(originals, torch.Generator().manual_seed(0))
    expected = {
        tuple(moved(originals[0], dy, dx, mirrored).tolist())
        for dy in range(-rows, rows + 1)
        for dx in range(-columns, columns + 1)
        for mirrored in ((False, True) if flip else (False,))
    }
    seen = {tuple(sample.tolist()) for sample in augmented}
    assert seen <= expected
    # with 400 draws of at most 98 kinds, one that is possible is missed with probability below 98 * (97/98)^400 = 1.6
    assert len(seen) > 0.9 * len(expected)


def test_it_is_a_pure_function_of_values_and_generator() -> None:
    originals = images(6).float() / 256
    before = originals.clone()
    augment = Augmentation(SHAPE, 2, 2, flip=True)
    first, again, other = (augment(originals, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(originals, before)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == originals.dtype
    assert first.shape == originals.shape
    assert torch.equal(Augmentation(SHAPE, 0, 0, flip=False)(originals, torch.Generator()), originals)


def test_samples_move_independently() -> None:
    augmented = Augmentation(SHAPE, 2, 2, flip=False)(images(1).repeat(50, 1), torch.Generator().manual_seed(0))
    assert len({tuple(sample.tolist()) for sample in augmented}) > 10


@pytest.mark.parametrize("name", USUAL)
def test_description_survives_json(name: str) -> None:
    augment = usual_augmentation(name, (1, 28, 28))
    assert augment is not None
    assert augmentation_from(json.loads(json.dumps(augment.as_json()))) == augment
    assert augmentation_from(None) is None
    assert usual_augmentation("digits", (1, 8, 8)) is None
