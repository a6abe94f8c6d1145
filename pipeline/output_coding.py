"""The coding of outputs: from a float executor's real numbers to the integer codes that they stand for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bitproof.pipeline.errors import StageError
from bitproof.pipeline.executor import Codes

Reals = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class OutputCoding:
    """What the output codes stand for: ``scale * code + offset``; all arrays have the shape (outputs,).

    Attributes:
        scales: real value of one code, not 0.
        offsets: real value of the code 0.
        errors: how far a float sum may lie from the exact one; 0: it is exact.
    """

    scales: Reals
    offsets: Reals
    errors: Reals

    def in_codes(self, values: Reals) -> Reals:
        """Return *values*, shape (N, outputs), in units of the codes, not rounded."""
        return (values - self.offsets) / self.scales

    def nearest(self, values: Reals, name: str) -> Codes:
        """Return the codes nearest to *values*, shape (N, outputs), that the executor *name* gave.

        Raises:
            StageError: a value is not finite, or further than its float error from the nearest code; if that error
                reaches half a step, every value is near some code.
        """
        if not np.isfinite(values).all():
            row, output = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
            raise StageError(f"{name}: sample {row}, output {output} is {values[row, output]}; it must be finite")
        codes: Codes = np.rint(self.in_codes(values)).astype(np.int64)
        distance = np.abs(codes * self.scales + self.offsets - values)
        off_grid = np.argwhere((distance > self.errors) & (2 * self.errors < np.abs(self.scales)))
        if len(off_grid):
            row, output = (int(i) for i in off_grid[0])
            raise StageError(
                f"{name}: sample {row}, output {output}: {float(values[row, output])!r} is further than the float "
                f"error {float(self.errors[output])!r} from every number that a code stands for: "
                f"{float(self.scales[output])!r} * code + {float(self.offsets[output])!r}"
            )
        return codes
