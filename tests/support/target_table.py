"""The table of ``docs/targets.md``: what each target takes, asked of its own support function, a small model a row.

``python tests/support/target_table.py`` writes it into the page.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent.parent
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]  # as pytest has them, where this is run alone

from integer_graphs import UINT3, Builder, window  # noqa: E402

from bitproof.export.integer import (  # noqa: E402
    INPUT,
    Add,
    Affine,
    Concat,
    Head,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Pad,
    Reshape,
    SumPool,
    TopK,
    Transpose,
)
from bitproof.export.integer.ops import OPERATIONS  # noqa: E402
from bitproof.support import Verdict, ask  # noqa: E402
from bitproof.targets import TARGETS as KINDS  # noqa: E402
from bitproof.targets import require_target  # noqa: E402

PAGE = ROOT / "docs" / "targets.md"
BEGIN, END = "<!-- targets: written by tests/support/target_table.py -->", "<!-- end -->"
TARGETS: Mapping[str, str] = {"onnx-int8": "onnx-int8", "c": "C", "finn": "FINN RTL"}
"""Kind of each target and its heading; every kind that there is."""
IMAGE = (2, 4, 4)
UINT8 = IntegerType(8, signed=False)


def classified(build: Builder, source: str) -> IntegerModel:
    """End the graph with a matrix product on *source*, a vector or an image of which each element is an input."""
    shape = build.values[source].shape[1:]
    if len(shape) > 1:
        source = build.add(Reshape("flat", shape, (int(np.prod(shape)),)), source)
    build.matmul(source, 3)
    return build.model()


def perceptron(
    *, levels: int = 3, lowest: int = 0, step: int = 1, source: IntegerType = UINT3, outputs_are_codes: bool = False
) -> IntegerModel:
    """A product, an activation with these codes, a product, and an activation again if *outputs_are_codes*."""
    build = Builder((6,), input=source)
    outputs = build.matmul(build.threshold(build.matmul(INPUT, 4), levels, lowest=lowest, step=step), 3)
    if outputs_are_codes:
        build.threshold(outputs)
    return build.model()


def ended_by(*factors_and_offset: int) -> IntegerModel:
    """A perceptron whose outputs are multiplied by a factor and moved by an offset."""
    model = perceptron()
    factor, offset = (np.full(3, number) for number in factors_and_offset)
    return replace(model, nodes=(*model.nodes, Affine("last", factor, offset)), wiring=None)


def recoded() -> IntegerModel:
    """A perceptron that takes 2 * code + 1 of each input code."""
    model = perceptron()
    factors, offsets = np.full(6, 2), np.full(6, 1)
    return replace(model, nodes=(Affine("recoding", factors, offsets), *model.nodes), wiring=None)


def weighted(low: int, high: int) -> IntegerModel:
    """A perceptron whose first weights are *low* and *high*."""
    model = perceptron(source=UINT8)
    first, *rest = model.nodes
    assert isinstance(first, MatMul)
    weights = np.where(first.weights > 0, high, low)
    return replace(
        model, nodes=(replace(first, weights=weights, weight_type=IntegerType.smallest_for(low, high)), *rest)
    )


def images(make: Callable[[Builder], str], shape: tuple[int, ...] = IMAGE) -> IntegerModel:
    """A graph on images of which *make* gives the value that is classified."""
    build = Builder(shape)
    return classified(build, make(build))


def branches(join: Callable[[Builder, str, str], str]) -> IntegerModel:
    """Two activations of one product's vector, joined, and classified."""
    build = Builder((6,))
    stem = build.matmul(INPUT, 4)
    one, two = build.threshold(stem), build.threshold(stem, 1)
    return classified(build, build.threshold(join(build, one, two)))


def summed() -> IntegerModel:
    """Two activations of 8 bits, added and classified without a quantizer between."""
    build = Builder((6,), input=UINT8)
    stem = build.matmul(INPUT, 4)
    one, two = build.threshold(stem, 255), build.threshold(stem, 255)
    return classified(build, build.add(Add("sum"), one, two))


def heads() -> IntegerModel:
    """Two products of one activation, each an output of its own."""
    build = Builder((6,))
    hidden = build.threshold(build.matmul(INPUT, 4))
    build.add(Concat("outputs"), build.matmul(hidden, 3), build.matmul(hidden, 2))
    return replace(build.model(), heads=(Head("classes", (3,)), Head("places", (2,))))


def ranked() -> IntegerModel:
    build = Builder((6,))
    build.add(TopK("top", 3, 1), build.matmul(INPUT, 3))
    return build.model()


def coded(low: int, high: int, step: int = 1) -> IntegerModel:
    """A perceptron on the input codes *low* to *high* in steps of *step*."""
    model = perceptron(source=IntegerType.smallest_for(low, high))
    return replace(model, input_codes=range(low, high + 1, step))


OPERATION_ROWS: Mapping[str, Callable[[], IntegerModel]] = {
    "matmul": perceptron,
    "conv": lambda: images(lambda b: b.threshold(b.conv(INPUT, 3, window(3)))),
    "threshold": perceptron,
    "affine": lambda: ended_by(2, 1),
    "add": lambda: branches(lambda b, one, two: b.add(Add("sum"), one, two)),
    "concat": lambda: branches(lambda b, one, two: b.add(Concat("both"), one, two)),
    "max-pool": lambda: images(lambda b: b.add(MaxPool("max", window(2, stride=2)), INPUT)),
    "sum-pool": lambda: images(lambda b: b.threshold(b.add(SumPool("mean", window(4)), INPUT))),
    "reshape": lambda: images(lambda b: INPUT),
    "transpose": lambda: images(lambda b: b.add(Transpose("turn", IMAGE, (0, 2, 1)), INPUT)),
    "pad": lambda: images(lambda b: b.add(Pad("pad", (1, 0), (0, 1)), INPUT)),
    "top-k": ranked,
}
"""A small model for each operation of the integer model that needs nothing else that is not in every network."""

FEATURE_ROWS: Mapping[str, Callable[[], IntegerModel]] = {
    "input codes of 8 bits, unsigned": lambda: perceptron(source=UINT8),
    "input codes of 1 bit, 0 and 1": lambda: perceptron(source=IntegerType(1, signed=False)),
    "input codes of 8 bits, signed": lambda: perceptron(source=IntegerType(8, signed=True)),
    "input codes of 8 bits about a zero point (-37..218)": lambda: coded(-37, 218),
    "input codes -1 and 1 (bipolar)": lambda: coded(-1, 1, 2),
    "one factor and one offset for all input codes": recoded,
    "weights -1 and 1": lambda: weighted(-1, 1),
    "weights of 8 bits, narrow (-127..127)": lambda: weighted(-127, 127),
    "weights of 8 bits, the least used too (-128..127)": lambda: weighted(-128, 127),
    "hidden activations of 1 bit, 0 and 1": lambda: perceptron(levels=1),
    "hidden activations of 4 bits, unsigned": lambda: perceptron(levels=15),
    "hidden activations of 8 bits, unsigned": lambda: perceptron(levels=255),
    "hidden activations of 4 bits, signed": lambda: perceptron(levels=15, lowest=-8),
    "hidden activations of 8 bits about a zero point (-37..218)": lambda: perceptron(levels=255, lowest=-37),
    "hidden activations -1 and 1 (bipolar)": lambda: perceptron(levels=1, lowest=-1, step=2),
    "biases at the outputs": lambda: ended_by(1, 5),
    "codes of a quantizer as outputs": lambda: perceptron(outputs_are_codes=True),
    "an image that is flattened": lambda: images(lambda b: INPUT),
    "a mean that goes straight into a product": lambda: images(
        lambda b: b.add(SumPool("mean", window(16)), INPUT), (2, 16, 16)
    ),
    "a sum of branches that goes straight into a product": summed,
    "several outputs": heads,
    "branches": lambda: branches(lambda b, one, two: b.add(Add("sum"), one, two)),
    "convolutions": lambda: images(lambda b: b.threshold(b.conv(INPUT, 3, window(3)))),
    "depthwise convolutions": lambda: images(lambda b: b.threshold(b.conv(INPUT, 2, window(3), groups=2))),
    "sequences (convolutions along one axis)": lambda: images(
        lambda b: b.threshold(b.conv(INPUT, 3, window(3, axes=1))), (2, 9)
    ),
}


def verdicts(model: IntegerModel) -> dict[str, Verdict]:
    """Return what each target says of *model*, by its kind."""
    return {kind: ask(require_target(kind), model) for kind in TARGETS}


def table() -> str:
    """Return the table as it stands in the page, without its markers."""
    assert set(TARGETS) == {kind.kind for kind in KINDS}, "a target is missing in the table"
    assert set(OPERATION_ROWS) == set(OPERATIONS), "an operation is missing in the table"
    lines = [f"| | {' | '.join(TARGETS.values())} |", f"|---|{'---|' * len(TARGETS)}"]
    named = {f"operation `{name}`": make for name, make in OPERATION_ROWS.items()}
    for name, make in {**named, **FEATURE_ROWS}.items():
        cells = ("yes" if verdict.takes else "no" for verdict in verdicts(make()).values())
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def in_page() -> str:
    """Return the table that the page has."""
    return PAGE.read_text().partition(f"{BEGIN}\n")[2].partition(f"\n{END}")[0]


if __name__ == "__main__":
    before, _, rest = PAGE.read_text().partition(f"{BEGIN}\n")
    PAGE.write_text(f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}")
