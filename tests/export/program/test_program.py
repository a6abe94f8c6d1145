"""Programs run in one arena of bytes and equal the integer model, whatever the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from agreement import Subject, random_codes
from hypothesis import given
from integer_graphs import Builder, every_operation, graph_codes, residual_network, window
from random_graphs import SEARCH, Graph, graphs, perceptrons
from target_table import FEATURE_ROWS, OPERATION_ROWS
from zoo_exports import lowered_network
from zoo_networks import initialized, small

import bitproof
from bitproof.export.integer import (
    INPUT,
    Add,
    Affine,
    IntegerModel,
    IntegerType,
    MaxPool,
    Pad,
    Reshape,
    Threshold,
    Transpose,
    run,
)
from bitproof.export.program.arena import Arena, plan_arena, require_disjoint
from bitproof.export.program.interpret import run_in_arena
from bitproof.export.program.order import ORDERS, Order, from_stored, places, to_stored
from bitproof.export.program.program import Program
from bitproof.export.program.schedule import schedule
from bitproof.pipeline import Codes

ZOO = Path(__file__).parent.parent.parent.parent.parent / "shared" / "models"
"""Files that others made; they are not part of the project."""

NETWORKS = {
    **{f"operation {name}": make for name, make in OPERATION_ROWS.items()},
    **FEATURE_ROWS,
    "residual": residual_network,
    "every operation": every_operation,
}


def require_equal(model: IntegerModel, codes: Codes, order: Order = "channels-first") -> Program:
    """Fail unless the program of *model* gives its outputs, covers every node once, and its arena is not too small."""
    program = schedule(model, order)
    arena = plan_arena(program)
    np.testing.assert_array_equal(run(model, codes), run_in_arena(program, arena, codes), strict=True)
    covered = Counter(node.name for step in program.steps for node in step.covers)
    views = {value.name for value in program.values.values() if value.storage != value.name}
    assert set(covered) | views == {node.name for node in model.nodes}
    assert not set(covered) & views
    assert set(covered.values()) <= {1}
    assert {value.order for value in program.values.values() if len(value.shape) == 1} <= {"channels-first"}
    assert max(value.size_bytes for value in program.stored) <= arena.lower_bound_bytes <= arena.size_bytes
    return program


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", NETWORKS)
def test_program_equals_the_integer_model(name: str, order: Order) -> None:
    model = NETWORKS[name]()
    require_equal(model, random_codes(model, 3), order)


@pytest.mark.slow
@SEARCH
@given(graphs())
def test_programs_of_random_graphs_equal_the_integer_model(graph: Graph) -> None:
    with TemporaryDirectory() as folder:
        model = Subject.of(graph.save(Path(folder))).model
    for order in ORDERS:
        require_equal(model, random_codes(model, 1, 24), order)


@pytest.mark.slow
@SEARCH
@given(perceptrons())
def test_programs_of_random_perceptrons_have_a_step_per_product(graph: Graph) -> None:
    with TemporaryDirectory() as folder:
        model = Subject.of(graph.save(Path(folder))).model
    program = require_equal(model, random_codes(model, 1, 24))
    assert [step.kind for step in program.steps if step.kind == "multiply"] == ["multiply"] * len(model.products)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet8", "ds-cnn", "mobilenet-v1", "cnv", "autoencoder"])
def test_programs_of_the_built_in_networks_equal_the_integer_model(name: str, tmp_path: Path) -> None:
    instance = small(name)
    _, lowered = lowered_network(tmp_path / "net", instance, initialized(instance))
    program = require_equal(lowered.model, random_codes(lowered.model, 1, 30), "channels-last")
    assert {step.kind for step in program.steps} <= {"multiply", "pool", "join", "requantize"}, "nothing is moved"
    program = require_equal(lowered.model, random_codes(lowered.model, 1, 30))
    arena = plan_arena(program)
    assert arena.size_bytes < sum(value.size_bytes for value in program.stored) or len(program.stored) < 3


@pytest.mark.parametrize(("name", "input_type"), [("TFC_2W2A.onnx", None), ("unsw_nb15_mlp_w2a2.onnx", "bipolar")])
def test_programs_of_files_that_others_made_equal_the_integer_model(name: str, input_type: str | None) -> None:
    if not (ZOO / name).is_file():
        pytest.skip(f"{ZOO / name} is not there")
    model = bitproof.load(ZOO / name, input_type=input_type).integer
    require_equal(model, random_codes(model, 1, 50))


def pooled() -> IntegerModel:
    build = Builder((2, 6, 6))
    padded = build.add(Pad("pad", (1, 1), (1, 1)), INPUT)
    first = build.threshold(build.conv(padded, 4, window(3)))
    pool = build.add(MaxPool("max", window(2, stride=2)), first)
    turned = build.add(Transpose("turn", (4, 3, 3), (0, 2, 1)), pool)
    build.matmul(build.add(Reshape("flat", (4, 3, 3), (36,)), turned), 3)
    return build.model()


def test_padding_thresholds_and_max_pool_go_into_the_product() -> None:
    program = require_equal(pooled(), graph_codes(pooled(), 40))
    step = program.unit("conv1")
    assert step is program.steps[0] is program.unit("pad") is program.unit("max")
    assert (step.kind, step.takes, step.makes) == ("multiply", (INPUT,), "max")
    assert step.padding is not None
    assert [type(node) for node in step.after] == [MaxPool, Threshold], "the largest accumulator is requantized alone"
    assert [s.kind for s in program.steps] == ["multiply", "multiply"]
    assert [node.name for node in program.steps[-1].before[0]] == ["turn", "flat"], "an order of the weights' columns"


def channels_last() -> IntegerModel:
    """What a converter from a tool with channels last writes: it turns the image before it flattens it."""
    build = Builder((2, 4, 4))
    image = build.threshold(build.conv(INPUT, 3, window(3)))
    turned = build.add(Transpose("turn", (3, 2, 2), (1, 2, 0)), image)
    build.matmul(build.add(Reshape("flat", (2, 2, 3), (12,)), turned), 3)
    return build.model()


def flattened() -> IntegerModel:
    build = Builder((2, 4, 4))
    image = build.threshold(build.conv(INPUT, 3, window(3)))
    build.matmul(build.add(Reshape("flat", (3, 2, 2), (12,)), image), 3)
    return build.model()


@pytest.mark.parametrize(
    ("make", "order", "views"),
    [
        (flattened, "channels-first", {"flat"}),
        (flattened, "channels-last", set()),
        (channels_last, "channels-first", set()),
        (channels_last, "channels-last", {"turn", "flat"}),
    ],
)
def test_a_flatten_is_a_view_in_the_order_of_its_codes(
    make: Callable[[], IntegerModel], order: Order, views: set[str]
) -> None:
    model = make()
    program = require_equal(model, random_codes(model, 3), order)
    assert {value.name for value in program.values.values() if value.storage != value.name} == views
    assert [step.kind for step in program.steps] == ["multiply", "multiply"]
    for name in views:
        with pytest.raises(KeyError):
            program.unit(name)


def test_an_order_that_is_not_that_of_the_value_gives_other_codes() -> None:
    """The negative control of the orders: the program of a target that would take the flattened image for another."""
    model = flattened()
    program, codes = schedule(model, "channels-last"), random_codes(model, 3)
    product = program.unit("flat")
    turned = Transpose("turned", (3, 2, 2), (0, 2, 1))
    wrong = replace(program, steps=(program.steps[0], replace(product, before=((turned, *product.before[0]),))))
    arena = plan_arena(program)
    assert (run_in_arena(wrong, arena, codes) != run_in_arena(program, arena, codes)).any()


def test_values_of_both_orders_hold_the_same_codes() -> None:
    codes = np.arange(2 * 3 * 4 * 5, dtype=np.int64).reshape(2, 3, 4, 5)
    for order in ORDERS:
        stored = to_stored(codes, order)
        np.testing.assert_array_equal(from_stored(stored, (3, 4, 5), order), codes, strict=True)
        np.testing.assert_array_equal(places((3, 4, 5), order), from_stored(np.arange(60)[None], (3, 4, 5), order))
    assert to_stored(codes, "channels-last")[0, :3].tolist() == [0, 20, 40], "the three channels of the first place"


def test_a_value_that_another_node_reads_is_stored() -> None:
    model = residual_network()
    program = require_equal(model, graph_codes(model, 40))
    assert {step.makes for step in program.steps if step.kind == "join"} <= set(program.values)
    join = program.unit("sum")
    assert (join.kind, len(join.takes)) == ("join", 2)
    assert join.thresholds is not None
    last = program.steps[-1]
    assert isinstance(last.after[-1], Affine), "the bias of the outputs"


def test_a_rescaling_goes_into_the_sum_behind_it() -> None:
    build = Builder((3,))
    first = build.threshold(build.matmul(INPUT, 4))
    second = build.threshold(build.matmul(INPUT, 4))
    scaled = build.add(Affine("rescale", np.array([2, 3, 1, 5]), np.array([0, 1, -1, 2])), second)
    build.threshold(build.add(Add("sum"), first, scaled))
    model = build.model()
    program = require_equal(model, graph_codes(model, 30))
    step = program.unit("rescale")
    assert step is program.unit("sum")
    assert [[node.name for node in nodes] for nodes in step.before] == [[], ["rescale"]]
    assert step.takes == (first, second)


def test_values_that_are_alive_at_once_are_kept_apart() -> None:
    model = residual_network()
    program = schedule(model)
    arena, codes = plan_arena(program), graph_codes(model, 40)
    stem = program.unit("conv0").makes
    wrong = {**arena.offsets, stem: arena.offsets[program.unit("conv2").makes]}
    broken = Arena(wrong, arena.size_bytes, arena.lower_bound_bytes)
    with pytest.raises(ValueError, match="are alive at once"):
        require_disjoint(program.stored, broken)
    assert (run_in_arena(program, broken, codes) != run(model, codes)).any(), "the negative control"
    outside = Arena({**arena.offsets, stem: arena.size_bytes}, arena.size_bytes, arena.lower_bound_bytes)
    with pytest.raises(ValueError, match="of an arena of"):
        require_disjoint(program.stored, outside)


def test_a_type_that_does_not_hold_its_codes_gives_others() -> None:
    """The negative control of the types: what is stored is what a target stores."""
    model = residual_network()
    program = schedule(model)
    last = program.values[program.output]
    assert last.type.signed
    narrow = replace(last, type=IntegerType(last.type.bits, signed=False))
    wrong = replace(program, values={**program.values, program.output: narrow})
    codes = graph_codes(model, 40)
    assert (run_in_arena(wrong, plan_arena(program), codes) != run(model, codes)).any()


def test_the_same_model_gives_the_same_arena() -> None:
    first, second = (plan_arena(schedule(residual_network())) for _ in range(2))
    assert first == second
