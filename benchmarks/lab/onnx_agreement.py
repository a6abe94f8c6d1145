"""Whether forms of a network give what the integer model gives, on the same samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitproof.export.integer import EXACT_FLOAT32, IntegerModel, classify
from bitproof.pipeline import Codes
from bitproof.pipeline.float_error import is_power_of_two

BATCH = 64


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far a form agrees with the integer model.

    Attributes:
        classes: share of the samples that get the same class.
        exact: share of the samples whose outputs are, all of them, the codes of the integer model, or the real numbers
            that these stand for; None: binary32 does not hold those numbers, so equality would say nothing.
    """

    classes: float
    exact: float | None


def made_by(session: Any, given: NDArray[Any]) -> NDArray[Any]:  # noqa: ANN401  onnxruntime has no types
    """Run *session* on all samples of *given*, and return its output, shape (N, outputs)."""
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: given[start : start + BATCH]})[0] for start in range(0, len(given), BATCH)]
    made: NDArray[Any] = np.concatenate(parts).reshape(len(given), -1)
    return made


def agreement_of_codes(made: Codes, model: IntegerModel, expected: Codes) -> Agreement:
    """Compare the codes *made*, shape (N, outputs), with those *expected* of *model*."""
    classes = float((classify(model, made) == classify(model, expected)).mean())
    return Agreement(classes, _exact_share(made, expected))


def agreement_of_reals(made: NDArray[np.float32], model: IntegerModel, expected: Codes) -> Agreement:
    """Compare the real outputs *made*, shape (N, outputs), with the codes *expected* of *model*."""
    classes = made.argmax(axis=1) if made.shape[1] > 1 else (made[:, 0] > 0).astype(np.int64)
    same = float((classes == classify(model, expected)).mean())
    magnitude = int(np.abs(expected).max(initial=0))
    if model.output_codings or not is_power_of_two(model.output_scale) or magnitude > EXACT_FLOAT32:
        return Agreement(same, None)
    return Agreement(same, _exact_share(made, expected * float(model.output_scale)))


def _exact_share(made: NDArray[Any], expected: NDArray[Any]) -> float:
    """Return the share of the samples whose numbers *made*, shape (N, outputs), are all those *expected*."""
    return float((made == expected).all(axis=1).mean())
