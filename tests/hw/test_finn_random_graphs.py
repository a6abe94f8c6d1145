"""Random graphs and reduced networks of the zoo through FINN: its execution of both graphs equals the integer model.

The comparison is the child process's own, on random and extreme codes; a network that differs ends it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hardware_graphs import GRAPHS, binary_network, reconvergent_network
from hypothesis import given, settings
from integer_graphs import on_a_line, pooled_groups
from random_graphs import SEARCH, Graph, graphs

from bitproof.export.integer import IntegerModel, save
from bitproof.export.lower import lower_file
from bitproof.hw.finn.walk import hardware_of
from bitproof.pipeline import StageError
from bitproof.pipeline.toolchain import run_program

pytestmark = [pytest.mark.tool, pytest.mark.xdist_group("finn_random_graphs")]

PROGRAM = Path(__file__).parent.parent / "support" / "finn_child_many.py"
WANTED = 40


def random_models() -> list[IntegerModel]:
    """Return random networks that the hardware takes."""
    found: list[IntegerModel] = []

    @settings(SEARCH, max_examples=WANTED + 20)
    @given(graph=graphs())
    def collect(graph: Graph) -> None:
        with TemporaryDirectory() as folder:
            model = lower_file(graph.save(Path(folder))).model
        try:
            hardware_of(model)
        except StageError:  # it moves codes on the way; test_finn_walk.py says so
            return
        found.append(model)

    collect()
    return found


def run_finn(models: list[IntegerModel], folder: Path) -> None:
    (folder / "build").mkdir()
    places = [folder / f"{number:03d}" for number in range(len(models))]
    for place, model in zip(places, models, strict=True):
        (place / "model").mkdir(parents=True)
        save(model, place / "model")
    environment = {
        "FINN_BUILD_DIR": str(folder / "build"),
        "FINN_SETTINGS": str(folder / "no-settings.yaml"),
        "OMP_NUM_THREADS": "1",
    }
    run_program(
        [sys.executable, str(PROGRAM), *map(str, places)],
        needed_by="finn",
        cwd=folder,
        log=folder / "finn.log",
        timeout_s=900,
        environment=environment,
    )
    assert all((place / "rtl" / "nodes.json").is_file() for place in places)


def test_networks_of_every_layer_go_through_finn(tmp_path: Path) -> None:
    run_finn([*GRAPHS.values(), binary_network(), reconvergent_network(), pooled_groups(), on_a_line()], tmp_path)


@pytest.mark.slow
def test_random_graphs_go_through_finn(tmp_path: Path) -> None:
    models = random_models()
    assert len(models) >= WANTED
    run_finn(models, tmp_path)
