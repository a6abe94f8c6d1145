"""The choice between proven constructions is that of a table of times; whatever is chosen, the file is exact."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cost_tables import made_up
from hypothesis import given, settings
from hypothesis import strategies as st
from integer_graphs import graph_codes
from written_onnx import Written

from bitproof.export.integer import Conv, IntegerModel, MatMul, Threshold
from bitproof.export.onnx_int8 import build, tune
from bitproof.export.onnx_int8.context import Construction
from bitproof.export.onnx_int8.costs import (
    SHIPPED,
    LayerShape,
    MeasuredLayer,
    Way,
    parse_table,
    ranked,
    read_table,
    shipped_table,
    ways_of,
)
from bitproof.export.onnx_int8.target import OnnxInt8Target
from bitproof.export.onnx_int8.tune import Probe, measure
from bitproof.pipeline import ConfigError
from bitproof.pipeline.artifact import sha256_of_bytes

PROBES = (
    Probe("convolution", 4, 6, 3, 5),
    Probe("pointwise", 4, 6, 1, 5),
    Probe("depthwise", 4, 4, 3, 5),
    Probe("matrix", 12, 6),
)
"""One small layer of each kind."""
SAID: dict[Way, str] = {
    "quantized-int8": "int8 weights",
    "quantized-uint8": "uint8 weights",
    "carried": "float32 convolution",
    "single-steps": "multiply and shift",
}


def chosen(written: Written) -> dict[str, str]:
    return {entry["layer"]: entry["method"] for entry in written.layers["activations"]}


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.kind)
def test_the_cheapest_construction_is_chosen_and_each_is_exact(probe: Probe) -> None:
    model = probe.network(layer=True)
    codes = graph_codes(model, 100)
    activation = next(node for node in model.nodes_of(Threshold) if node.name == "layer_act")
    for way in ways_of(probe.kind):
        written = Written.of(model, costs=made_up(way))
        assert SAID[way] in chosen(written)["layer_act"], way
        assert written.unequal(model, codes) == []
        assert written.with_flipped_threshold(activation, 0, 3).unequal(model, codes), "a wrong threshold shows"


@pytest.mark.parametrize(
    ("cheapest", "construction", "said"),
    [
        ("carried", "integer-only", "int8 weights"),
        ("carried", "single-steps", "multiply and shift"),
        ("quantized-uint8", "single-steps", "multiply and shift"),
    ],
)
def test_an_option_comes_before_the_table(cheapest: Way, construction: Construction, said: str) -> None:
    model = PROBES[0].network(layer=True)
    written = Written.of(model, construction, made_up(cheapest))
    assert all(said in method for method in chosen(written).values())
    assert written.unequal(model, graph_codes(model, 50)) == []


def off_a_line(model: IntegerModel) -> IntegerModel:
    """Return *model* with thresholds of its layer that no quantized operator has."""
    layer = model.node("layer_act")
    assert isinstance(layer, Threshold)
    rows = layer.thresholds.copy()
    rows[:, 1] = rows[:, 0] + 1
    other = replace(layer, thresholds=rows)
    return replace(model, nodes=tuple(other if node is layer else node for node in model.nodes), wiring=None)


def test_what_is_cheapest_but_not_proven_is_passed_over() -> None:
    model = off_a_line(PROBES[0].network(layer=True))
    for way in ways_of("convolution"):
        written = Written.of(model, costs=made_up(way))
        assert chosen(written)["layer_act"] == "comparison with every threshold"
        assert written.unequal(model, graph_codes(model, 50)) == []
        times = {entry["layer"]: entry["time_ps"] for entry in written.layers["activations"]}
        assert times["layer_act"] is None, "a comparison was not measured"
        assert times["first_act"] is not None


def test_a_table_gives_the_same_file_each_time(tmp_path: Path) -> None:
    table = made_up("carried")
    (tmp_path / "table.json").write_text(table.to_json())
    model = PROBES[0].network(layer=True)
    files = [build(model, costs=costs) for costs in (table, read_table(tmp_path / "table.json"))]
    assert files[0][0].SerializeToString(deterministic=True) == files[1][0].SerializeToString(deterministic=True)
    assert files[0][1] == files[1][1]
    other = build(model, costs=made_up("quantized-int8"))
    assert other[0].SerializeToString(deterministic=True) != files[0][0].SerializeToString(deterministic=True)


def layer(inputs: int, times: tuple[int, int, int, int], positions: int = 64) -> MeasuredLayer:
    shape = LayerShape(kind="convolution", inputs=inputs, outputs=8, window=9, positions=positions)
    return MeasuredLayer(shape=shape, samples=1, times_ps=dict(zip(ways_of("convolution"), times, strict=True)))


def test_a_layer_takes_the_time_of_the_nearest_one_scaled_by_products() -> None:
    others = [entry for entry in made_up("carried").layers if entry.shape.kind != "convolution"]
    near, far = layer(4, (100, 200, 300, 400)), layer(64, (7000, 6000, 5000, 4000))
    table = made_up("carried").model_copy(update={"layers": (far, near, *others)})
    conv = PROBES[0].network(layer=True).node("layer")
    assert isinstance(conv, Conv)
    assert conv.weights.shape == (6, 4, 3, 3)
    products, measured = 6 * 4 * 9 * 25, 8 * 4 * 9 * 64
    expected = [-(-time * products // measured) for time in (100, 200, 300, 400)]
    estimated = table.estimate_ps(conv, 25)
    assert [estimated[way] for way in ways_of("convolution")] == expected
    assert ranked(estimated)[0] == "quantized-int8"
    wide = replace(conv, weights=np.ones((6, 40, 3, 3), dtype=np.int64))
    assert ranked(table.estimate_ps(wide, 25))[0] == "single-steps", "64 channels are nearer to 40 than 4 are"


def test_equal_times_are_decided_by_the_order_of_constructions() -> None:
    assert ranked({"single-steps": 5, "carried": 5, "quantized-uint8": 5, "quantized-int8": 5}) == [
        *ways_of("convolution")
    ]


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 1 << 40), st.integers(1, 1 << 40))
def test_distances_are_those_of_logarithms_rounded_down(one: int, two: int) -> None:
    def shape(number: int) -> LayerShape:
        return LayerShape(kind="matrix", inputs=number, outputs=1, window=1, positions=1)

    steps = [shape(number).distance(shape(1)) for number in (one, two)]
    for number, found in zip((one, two), steps, strict=True):
        assert 2**found <= number**64 < 2 ** (found + 1)
    assert shape(one).distance(shape(two)) == abs(steps[0] - steps[1])


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: probe.kind)
def test_a_probe_has_the_shape_that_its_node_is_looked_up_by(probe: Probe) -> None:
    node = probe.network(layer=True).node("layer")
    assert isinstance(node, Conv | MatMul)
    assert LayerShape.of(node, probe.shape.positions) == probe.shape


def changed(change: Callable[[Any], object]) -> bytes:
    content = json.loads(made_up("carried").to_json())
    change(content)
    return json.dumps(content).encode()


ONE = "one of each of matrix, convolution, pointwise, depthwise"
ALL = "quantized-int8, quantized-uint8, carried, single-steps"
MALFORMED: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"{", "the file = '{': Invalid JSON: EOF while parsing an object at line 1 column 1"),
    "another format": (
        changed(lambda content: content.update(format=2)),
        "format = 2: Input should be 1",
    ),
    "a time of 0": (
        changed(lambda content: content["layers"][0]["times_ps"].update({"single-steps": 0})),
        "layers.0.times_ps.single-steps = 0: Input should be greater than or equal to 1",
    ),
    "a time that is no integer": (
        changed(lambda content: content["layers"][1]["times_ps"].update(carried=1.5)),
        "layers.1.times_ps.carried = 1.5: Input should be a valid integer",
    ),
    "a key more": (
        changed(lambda content: content.update(note="x")),
        "note = 'x': Extra inputs are not permitted",
    ),
    "no date": (
        changed(lambda content: content.update(date="today")),
        "date = 'today': String should match pattern '^\\d{4}-\\d{2}-\\d{2}$'",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_table_is_refused_with_value_and_remedy(name: str) -> None:
    content, said = MALFORMED[name]
    with pytest.raises(ConfigError) as caught:
        parse_table(content, "t.json")
    end = "; 'bitproof tune --out FILE' measures one"
    assert str(caught.value) == f"t.json is not a table of times: {said}{end}"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda content: content["layers"].pop(), f"no layer of the kind depthwise; it needs {ONE}"),
        (lambda content: content["layers"].append(content["layers"][0]), "two layers have one shape"),
        (
            lambda content: content["layers"][1]["times_ps"].pop("carried"),
            f"a convolution layer has times for {ALL.replace(' carried,', '')}; it needs those for {ALL}",
        ),
        (
            lambda content: content["layers"][0]["times_ps"].update(carried=1),
            f"it needs those for {ALL.replace(' carried,', '')}",
        ),
    ],
)
def test_a_table_that_does_not_decide_every_layer_is_refused(change: Callable[[Any], object], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_table(changed(change), "t.json")
    assert said in str(caught.value)


def test_a_table_that_is_not_there_or_another_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^the table of times .*none\.json cannot be read: .*measures one$"):
        read_table(tmp_path / "none.json")
    path = tmp_path / "table.json"
    path.write_text(made_up("carried").to_json())
    digest = sha256_of_bytes(path.read_bytes())
    assert read_table(path, digest) == made_up("carried")
    path.write_text(made_up("carried", ps=7).to_json())
    with pytest.raises(ConfigError, match=f"the run was configured with {digest}: put that table back"):
        read_table(path, digest)


def test_the_shipped_table_is_a_measurement_of_every_probe() -> None:
    table = shipped_table()
    assert [entry.shape for entry in table.layers] == [probe.shape for probe in tune.PROBES]
    assert SHIPPED.read_text() == table.to_json()
    assert "onnxruntime" in table.about


def test_a_short_measurement_gives_a_table(tmp_path: Path) -> None:
    said: list[str] = []
    table = measure(PROBES, budget_s=0, progress=lambda part, done, total: said.append(f"{done} of {total}: {part}"))
    assert [entry.shape for entry in table.layers] == [probe.shape for probe in PROBES]
    assert parse_table(table.to_json().encode(), "here") == table
    assert said[0] == "0 of 4: writing a convolution layer"
    model = PROBES[0].network(layer=True)
    assert Written.of(model, costs=table).unequal(model, graph_codes(model, 50)) == []


def test_every_construction_of_the_first_and_the_last_shipped_probe_is_proven() -> None:
    for probe in (tune.PROBES[0], tune.PROBES[-1]):
        for way in ways_of(probe.kind):
            written = Written.of(probe.network(layer=True), costs=made_up(way))
            assert SAID[way] in chosen(written)["layer_act"]


def test_another_table_makes_the_artifact_stale_and_its_place_does_not(tmp_path: Path) -> None:
    places = [tmp_path / name for name in ("one.json", "same.json", "other.json")]
    ways: tuple[Way, ...] = ("carried", "carried", "single-steps")
    for path, cheapest in zip(places, ways, strict=True):
        path.write_text(made_up(cheapest).to_json())
    one, same, other = (OnnxInt8Target.model_validate({"table": str(path)}).stages()[0].options for path in places)
    assert one == same
    assert one != other
    assert OnnxInt8Target().stages()[0].options["table_sha256"] == sha256_of_bytes(SHIPPED.read_bytes())
