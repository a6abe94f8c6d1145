"""The benchmark of the integer model: what it says of a difference is true, and its page names what there is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from qonnx_files import qonnx_executor, random_mlp

from benchmarks.integer import KEYS, RAW, describe, rows_of
from benchmarks.lab import integer_page
from benchmarks.lab.integer_cost import macs_of, partings
from benchmarks.lab.integer_networks import SUBJECTS, WHOLE
from benchmarks.lab.integer_picture import PATH, draw
from benchmarks.lab.ordinary_networks import ORDINARY
from bitproof.export.integer import IntegerModel, Threshold, run, trace
from bitproof.export.integer.ops import OPERATIONS as INTEGER_OPERATIONS
from bitproof.export.lower import lower_file
from bitproof.export.lowering.operations import OPERATIONS as LOWERED_OPERATIONS


def shifted(model: IntegerModel) -> IntegerModel:
    """The model with the lowest threshold of one channel one higher."""
    nodes = list(model.nodes)
    index = next(i for i, node in enumerate(nodes) if isinstance(node, Threshold))
    node = nodes[index]
    assert isinstance(node, Threshold)
    thresholds = node.thresholds.copy()
    thresholds[1, 0] += 1
    nodes[index] = replace(node, thresholds=np.sort(thresholds, axis=1))
    return replace(model, nodes=tuple(nodes))


def test_equal_networks_part_nowhere_and_a_wrong_threshold_is_where_they_part(tmp_path: Path) -> None:
    path = random_mlp(tmp_path / "net" / "model.onnx", 3)
    executor, model = qonnx_executor(path), lower_file(path).model
    codes = np.random.default_rng(0).integers(256, size=(3000, model.inputs))
    assert (run(model, codes) == executor(codes)).all()
    assert partings(model, executor, codes[:3]) == []

    wrong = shifted(model)
    node = wrong.nodes_of(Threshold)[0]
    hit = np.flatnonzero((trace(wrong, codes)[node.name] != trace(model, codes)[node.name]).any(axis=1))
    assert len(hit), "no sample meets the threshold that is wrong"
    found = partings(wrong, executor, codes[hit[:3]])
    accumulator = int(model.nodes_of(Threshold)[0].thresholds[1, 0])
    assert [(p["layer"], p["channel"], p["accumulator"]) for p in found] == [(node.name, 1, accumulator)]
    assert found[0]["qonnx"] == found[0]["exact"] + 1


def test_a_parting_that_the_chain_alone_does_not_show_is_not_called_explained() -> None:
    parting = {"layer": "act0", "channel": 1, "accumulator": 5, "exact": 2, "qonnx": 1, "explained": False}
    assert "NOT explained" in describe(parting)
    assert "rounds this accumulator so" in describe({**parting, "explained": True})


def test_macs_of_a_perceptron_are_its_weights(tmp_path: Path) -> None:
    model = lower_file(random_mlp(tmp_path / "net" / "model.onnx", 0, widths=(12, 9, 7, 4))).model
    assert macs_of(model) == 12 * 9 + 9 * 7 + 7 * 4


def test_the_page_names_every_operation() -> None:
    page = integer_page.PAGE.read_text()
    assert [name for name in (*LOWERED_OPERATIONS, *INTEGER_OPERATIONS) if f"`{name}`" not in page] == []


def test_pages_show_the_figures_that_were_measured() -> None:
    found = {key: json.loads((RAW / f"{key}.json").read_text()) for key in KEYS}
    page, readme = integer_page.PAGE.read_text(), integer_page.README.read_text()
    assert integer_page.figures(found) in page
    assert integer_page.growth(found) in page
    assert integer_page.imports(found) in page
    assert integer_page.short(found) in readme
    rows = json.loads((RAW.parent / "integer.json").read_text())["rows"]
    assert len(rows) == sum(len(rows_of(key, content)) for key, content in found.items())


def test_a_figure_that_misses_its_goal_is_not_met() -> None:
    content = json.loads((RAW / "resnet8.json").read_text())
    slow = {**content, "proving_s": 61.0, "peak_mib": 2048.0, "holding": content["holding"] - 1, "unequal": 1}
    slow["interpreter_s"] = [59.0, 60.0, 59.0]
    assert [row.met for row in rows_of("resnet8", slow)] == [False] * 5
    assert [row.met for row in rows_of("resnet8", content)] == [True] * 5
    assert [row.peer for row in rows_of("mlp-64", {**content}) if row.peer] == []
    assert set(WHOLE) < set(SUBJECTS)


@pytest.mark.parametrize("key", ORDINARY)
def test_an_import_that_takes_too_long_is_not_met(key: str) -> None:
    content = json.loads((RAW / f"{key}.json").read_text())
    (row,) = rows_of(key, content)
    assert (row.work, row.metric, row.unit) == (ORDINARY[key].title, "import_s", "processor s")
    assert row.met is (row.ours is not None and row.ours <= ORDINARY[key].goal_s)
    (late,) = rows_of(key, {**content, "import_s": ORDINARY[key].goal_s + 0.1})
    assert late.met is False
    assert content["checks"]["onnx-int8"][0] == 0


def test_the_picture_is_the_one_that_the_code_draws(tmp_path: Path) -> None:
    draw(tmp_path / "picture.svg")
    assert (tmp_path / "picture.svg").read_bytes() == PATH.read_bytes()
