"""The forms of a product in C: by what its weights are multiplied at once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

Form = Literal["matrix", "pair", "square", "depthwise"]
"""What weights are multiplied by: a vector; what two windows show; what the windows at the four positions of a pool
show of one channel; or, channel by channel, what one window shows."""
POSITIONS: Mapping[Form, int] = {"matrix": 1, "pair": 2, "square": 4, "depthwise": 1}
"""How many vectors, or positions, are multiplied at once."""
QUAD = 4
"""Columns of a convolution that are laid out together."""
