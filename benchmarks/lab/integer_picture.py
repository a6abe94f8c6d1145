"""The picture of ``docs/integer-model.md``: a channel's exact value, its quantizer's boundaries, its thresholds.

Values, codes and thresholds come from :mod:`bitproof.export.integer`; only the float32 error is drawn far too wide.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from bitproof.export.integer import Activation, Chain, Interval, Quantizer, Rounding, thresholds_of

PATH = Path(__file__).parents[2] / "docs" / "integer-model.svg"
STYLE = {"svg.hashsalt": "bitproof", "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 9}
GREEN, GREY, RED, BLUE = "#0b6e4f", "#888888", "#b3401f", "#2456a6"

REACHABLE = Interval(-7, 26)
TIE = 2
"""The accumulator whose value lies exactly on the first boundary, which belongs to the even code below it."""
SLOPE = Fraction(20, 169)
ERROR = Fraction(4, 100)
ACTIVATION = Activation(
    Chain.of(SLOPE, Fraction(1, 2) - TIE * SLOPE).clamped(0, None),
    Quantizer(Fraction(1), 0, 0, 3, Rounding.ROUND),
)


def draw(path: Path = PATH) -> None:
    """Write the picture to *path*; the same code gives the same bytes."""
    accumulators = range(REACHABLE.low, REACHABLE.high + 1)
    values = [float(ACTIVATION.chain.value(a)) for a in accumulators]
    codes = [ACTIVATION.code(a) for a in accumulators]
    thresholds = thresholds_of(ACTIVATION, REACHABLE)
    boundaries = [(Fraction(n, d), inclusive) for n, d, inclusive in ACTIVATION.boundaries]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9, 4.6), layout="constrained")
        axes = figure.subplots()
        low = [max(value - float(ERROR), 0) for value in values]
        axes.fill_between(accumulators, low, [v + float(ERROR) for v in values], color=BLUE, alpha=0.2, lw=0)
        axes.plot(accumulators, values, color=BLUE, lw=1)
        axes.step(accumulators, codes, where="post", color=GREEN, lw=0.8, alpha=0.5)
        axes.plot(accumulators, codes, "o", color=GREEN, ms=4)
        for (at, inclusive), threshold in zip(boundaries, thresholds, strict=True):
            axes.axhline(float(at), color=GREY, lw=0.8, ls="--" if inclusive else ":")
            axes.axvline(threshold, ymax=0.96, color=RED, lw=0.8)
        _label(axes, thresholds)
        axes.set(xlabel="accumulator a (integer)", ylabel="real value, in steps of the quantizer; code")
        axes.set(
            ylim=(-0.45, 3.6), xlim=(REACHABLE.low - 0.5, REACHABLE.high + 0.5), yticks=[0, 0.5, 1, 1.5, 2, 2.5, 3]
        )
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _label(axes: Any, thresholds: list[int]) -> None:  # noqa: ANN401  matplotlib is untyped here
    first, _, last = thresholds
    for level, threshold in enumerate(thresholds, start=1):
        axes.text(threshold + 0.2, 3.4, f"T{level} = {threshold}", color=RED)
    arrow = {"arrowstyle": "->", "color": "black", "lw": 0.8}
    end = float(ACTIVATION.chain.value(last))
    near = (
        f"a = {last} is within\nits float32 error of\na boundary: the order\nof a sum may decide\nthe code; exactly: 3"
    )
    notes = (
        ("clamp: ReLU", (-5, 0), (-6.5, 0.75)),
        (
            f"a tie: a = {TIE} is exactly ½;\nhalf to even gives 0,\nso the threshold is {first}",
            (TIE, 0.5),
            (-6.5, 1.9),
        ),
        (
            near,
            (last, end),
            (19.6, 0.35),
        ),
        ("exact value and, far too wide,\nits float32 error", (13.5, 0.5 + 11.5 * float(SLOPE)), (4, 2.75)),
    )
    for text, at, where in notes:
        axes.annotate(text, at, xytext=where, arrowprops=arrow)


if __name__ == "__main__":
    draw()
