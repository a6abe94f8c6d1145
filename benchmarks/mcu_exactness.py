"""Whole networks in generated C on every core: how many images were compared with the integer model, and what differs.

``python -m benchmarks.mcu_exactness [KEY...]`` builds the networks of ``train/models`` at full size (or those named)
for every core, runs drawn images of 8 bits in QEMU and on this machine, and counts the codes of the outputs that are
not those of the integer model. What does not fit the memory of an emulated board is said to. Each cell is written when
it is measured, to ``benchmarks/results/mcu_exactness.json`` and the table of ``docs/c.md``; others are kept.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.lab.integer_networks import WHOLE
from benchmarks.lab.integer_page import fill
from benchmarks.mcu import PAGE, SEED, whole
from benchmarks.onnx_int8 import WORKS as ONNX_WORKS
from benchmarks.results import RESULTS, Row, write_results
from bitproof.export.integer import IntegerModel, run, save
from bitproof.hw.mcu import (
    CORES,
    HOST,
    BuildFirmware,
    BuildLibrary,
    CoreName,
    FirmwareExecutor,
    GenerateC,
    HostExecutor,
)
from bitproof.hw.mcu.plan import plan_network
from bitproof.pipeline import Artifact, Codes, StageContext, TooLargeError

COMMAND = "make bench-mcu-exactness"
NAME = "mcu_exactness"
NETWORKS: Mapping[str, Callable[[], IntegerModel]] = {
    "mlp w2a4": whole(ONNX_WORKS["mlp w2a4 (default)"].subject),
    "cnn w8w2a4": whole(ONNX_WORKS["cnn w8w2a4"].subject),
    **{f"{name} w4a4": whole(WHOLE[name]) for name in ("autoencoder", "ds-cnn", "resnet8", "mobilenet-v1", "cnv")},
}
WHERE: tuple[CoreName, ...] = (*CORES, HOST)
MOST_IMAGES = 200
MOST_MACS = 3_000_000_000
"""Of all images of a network on one core: QEMU runs some 100 to 300 million instructions a second."""


def main(arguments: Sequence[str]) -> None:
    """Compare the networks named in *arguments*, or all, on every core."""
    unknown = [key for key in arguments if key not in NETWORKS]
    if unknown:
        sys.exit(f"unknown network {unknown[0]!r}; known: {', '.join(NETWORKS)}")
    differs = False
    for name in arguments or NETWORKS:
        model = NETWORKS[name]()
        codes = np.random.default_rng(SEED).integers(
            0, model.input.maximum, (_images(model), model.inputs), endpoint=True
        )
        expected = run(model, codes)
        for core in WHERE:
            print(f"comparing {name} on {core}", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                row = compared(name, model, core, codes, expected, Path(folder))
            _keep(row)
            differs |= bool(row.ours)
    if differs:
        sys.exit("outputs of generated C do not equal the integer model")


def _images(model: IntegerModel) -> int:
    macs = sum(product.macs for product in plan_network(model).products)
    return min(MOST_IMAGES, MOST_MACS // macs)


def compared(name: str, model: IntegerModel, core: CoreName, codes: Codes, expected: Codes, folder: Path) -> Row:
    """Return how many codes of the outputs on *core* are not those *expected*; None: the network does not fit."""
    unit = f"of {expected.size:,} codes of {len(codes)} images, {core}"
    try:
        made = _outputs(model, core, codes, folder)
    except TooLargeError as error:
        return Row(name, f"codes_differing@{core}", unit, None, note=str(error))
    assert made.shape == expected.shape, "one output for each"
    differing = int((made != expected).sum())
    return Row(name, f"codes_differing@{core}", unit, differing, goal="0", met=differing == 0)


def _outputs(model: IntegerModel, core: CoreName, codes: Codes, folder: Path) -> Codes:
    """Generate and compile C of *model* for *core*, run it on *codes*, and return what it gives."""
    (folder / "integer").mkdir()
    save(model, folder / "integer")
    artifact = Artifact("integer", "integer-model", folder / "integer", "0" * 64)
    for stage in (GenerateC(core), BuildLibrary() if core == HOST else BuildFirmware(core)):
        workdir, scratch = folder / stage.name, folder / f"{stage.name}-scratch"
        workdir.mkdir()
        scratch.mkdir()
        stage.run(artifact, StageContext(workdir, scratch, SEED))
        artifact = Artifact(stage.name, stage.produces, workdir, "")
    if core == HOST:
        return HostExecutor(artifact, folder / "work")(codes)
    return FirmwareExecutor(artifact, folder / "work", core)(codes)


def _keep(measured: Row) -> None:
    """Write the row *measured* in the place of the one of the same network and core, and the table of the page."""
    path = RESULTS / f"{NAME}.json"
    kept = [Row(**row) for row in json.loads(path.read_text())["rows"]] if path.is_file() else []
    rows = {(row.work, row.metric): row for row in (*kept, measured)}
    keys = [(name, f"codes_differing@{core}") for name in NETWORKS for core in WHERE]
    ordered = [rows[key] for key in keys if key in rows]
    write_results(NAME, ordered, command=COMMAND, distributions=("numpy",))
    fill(PAGE, "mcu-exactness", table(ordered), COMMAND)


def table(rows: Sequence[Row]) -> str:
    """Return the table of the page: a line for each network, a column for each core."""
    found = {(row.work, row.metric.partition("@")[2]): row for row in rows}
    lines = [f"| network | {' | '.join(f'`{core}`' for core in WHERE)} |", "|" + "---|" * (1 + len(WHERE))]
    for name in dict.fromkeys(row.work for row in rows):
        cells = [_cell(found.get((name, core))) for core in WHERE]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    if row.ours is None:
        return "does not fit"
    images = row.unit.partition(" codes of ")[2].partition(" ")[0]
    return f"{images} images, {row.ours:,.0f} differ"


if __name__ == "__main__":
    main(sys.argv[1:])
