"""Arrays as users have them: lists, NumPy arrays, tensors on any device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from bitproof.pipeline.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor


def as_array(array: ArrayLike, name: str) -> NDArray[Any]:
    """Return *array*, called *name* in messages, as NumPy has it; a tensor may be on any device, of any precision.

    Raises:
        InputError: it is no array, such as a list of rows of different lengths, or a tensor without dense data.
    """
    try:
        if not hasattr(array, "detach"):
            return np.asarray(array)
        tensor: Tensor = array.detach().cpu()
        return np.asarray((tensor.float() if tensor.is_floating_point() else tensor).numpy())
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        raise InputError(f"{name} cannot be read as an array of numbers: {error}") from error
