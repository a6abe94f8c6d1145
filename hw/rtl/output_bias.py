"""The bias of a network's outputs if the hardware gives accumulators alone: added by the program that reads them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bitproof.pipeline import Codes, InputError


def add_output_bias(accumulators: Codes, bias: Sequence[int]) -> Codes:
    """Return *accumulators*, shape (N, outputs), with *bias*, one integer per output, or as they are if it is empty.

    Raises:
        InputError: they are not as many.
    """
    if not bias:
        return accumulators
    if len(bias) != accumulators.shape[1]:
        raise InputError(f"{len(bias)} output biases for {accumulators.shape[1]} outputs; build the hardware again")
    return accumulators.astype(np.int64) + np.array(bias, dtype=np.int64)
