"""What is known of the values of a model: types, counts of operations, and that it is found once."""

from __future__ import annotations

from fractions import Fraction
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from agreement import Subject, random_codes
from coded_networks import coded_network
from hypothesis import given
from integer_graphs import residual_network
from random_graphs import SEARCH, Graph, graphs

from bitproof.export.integer import (
    INPUT,
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Reshape,
    Threshold,
    Window,
    accumulator_type,
    trace,
)
from bitproof.export.integer import analysis as module
from bitproof.export.integer.analysis import analyse


def window(kernel: int, stride: int) -> Window:
    return Window((kernel,) * 2, (stride,) * 2, (0, 0), (0, 0), (1, 1))


def small_network() -> IntegerModel:
    """A convolution of 3 x 3 on 2 x 6 x 6, thresholds, a max pool of 2 x 2, and a product with its 3 x 2 x 2 codes."""
    random = np.random.default_rng(0)
    ternary = IntegerType(2, signed=True)
    conv = Conv("conv", random.integers(-1, 2, size=(3, 2, 3, 3)), ternary, window(3, 1), 1)
    thresholds = np.sort(random.integers(-20, 20, size=(3, 3)), axis=1)
    act = Threshold("act", thresholds, IntegerType(3, signed=True), -1, np.zeros(3, dtype=np.bool_))
    pool = MaxPool("pool", window(2, 2))
    product = MatMul("fc", random.integers(-1, 2, size=(5, 12)), ternary)
    nodes = (conv, act, pool, Reshape("flat", (3, 2, 2), (12,)), product)
    return IntegerModel("net", IntegerType(4, signed=False), Fraction(1), (2, 6, 6), nodes, Fraction(1))


def test_operations_are_those_counted_by_hand() -> None:
    values = small_network().values
    counts = {name: value.operations for name, value in values.items()}
    assert counts == {
        INPUT: 0,
        "conv": 3 * 4 * 4 * (2 * 3 * 3),  # each output is a sum of 2 x 3 x 3 products
        "act": 3 * 4 * 4,
        "pool": 3 * 2 * 2 * (2 * 2),  # each output is the largest of 2 x 2
        "flat": 12,
        "fc": 5 * 12,
    }
    assert small_network().operations == 864 + 48 + 48 + 12 + 60


def test_types_are_those_of_the_input_of_thresholds_and_of_accumulators() -> None:
    model = small_network()
    types = {name: str(value.type) for name, value in model.values.items()}
    assert (types[INPUT], types["act"], types["pool"], types["flat"]) == ("uint4", "int3", "int3", "int3")
    for name in ("conv", "fc"):
        assert model.values[name].type == accumulator_type(model.values[name].ranges)


@pytest.mark.parametrize("model", [small_network(), residual_network()], ids=["small", "residual"])
def test_every_code_lies_in_its_range_and_type_and_has_its_shape(model: IntegerModel) -> None:
    allowed = np.array(model.allowed_codes)
    codes = np.random.default_rng(1).choice(allowed, size=(50, model.inputs)).astype(np.int64)
    for name, seen in trace(model, codes).items():
        value = model.values[name]
        assert seen.shape[1:] == value.shape
        assert value.type.holds(int(seen.min()), int(seen.max()))
        for channel, interval in enumerate(value.ranges):
            assert interval.low <= seen[:, channel].min() <= seen[:, channel].max() <= interval.high


@pytest.mark.slow
@SEARCH
@given(graphs())
def test_random_graphs_give_what_is_said_of_them(graph: Graph) -> None:
    """Every traced code is one of those that were found, and every count is that of a walk over the shapes."""
    with TemporaryDirectory() as folder:
        model = Subject.of(graph.save(Path(folder))).model
    shapes = model.shapes()
    for name, seen in trace(model, random_codes(model, 1, 24)).items():
        value = model.values[name]
        assert seen.shape[1:] == value.shape == shapes[name]
        assert set(np.unique(seen).tolist()) <= set(value.codes)
        assert value.type.holds(value.codes[0], value.codes[-1])
        for channel, interval in enumerate(value.ranges):
            assert interval.low <= seen[:, channel].min() <= seen[:, channel].max() <= interval.high
        if name != INPUT:
            assert value.operations == prod(value.shape) * model.node(name).steps


def test_the_codes_of_a_value_are_those_that_occur() -> None:
    model = coded_network(range(-1, 2, 2), range(-1, 2, 2), range(-8, 8), recoding=(3, 1), shape=(1, 37))
    codes = {name: value.codes for name, value in model.values.items()}
    assert (codes[INPUT], codes["recoding"], codes["flatten"]) == (range(-1, 2, 2), range(-2, 5, 6), range(-2, 5, 6))
    assert (codes["act0"], codes["act1"]) == (range(-1, 2, 2), range(-8, 8))
    assert model.values["act0"].resting == -1, "0 is no bipolar code"
    assert model.values["act1"].resting == 0


def test_a_model_is_analysed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = small_network(), []

    def counted(which: IntegerModel) -> object:
        asked.append(which)
        return analyse(which)

    monkeypatch.setattr("bitproof.export.integer.ir.analyse", counted)
    assert model.values is model.values
    assert asked == [model]
    assert module.analyse(model) == model.values
