"""Simulated chips: each fault does what it says, stays with the chip, and is absent at zero."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from integer_graphs import Builder, every_operation, graph_codes, residual_network, window
from integer_networks import random_codes, random_network

from bitproof.export.integer import (
    INPUT,
    Add,
    Affine,
    Concat,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Pad,
    Reshape,
    SumPool,
    Threshold,
    Transpose,
    accumulator_type,
    run,
    trace,
)
from bitproof.hw.faults import FaultSpec, spacing_of, wrap_twos_complement
from bitproof.pipeline import Codes, ConfigError, InputError

MODEL = random_network((40, 16, 12, 5), act_bits=(2,), spacing="even", weight_range=(-1, 1), input_bits=2)
CODES = random_codes(MODEL, 64)
GRAPHS = {"residual": residual_network(), "all": every_operation()}
UINT8 = IntegerType(8, signed=False)


def outputs(spec: str, seed: int = 3, model: IntegerModel = MODEL) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return FaultSpec.parse(spec).draw(MODEL, seed).program(model)(CODES)


@pytest.mark.parametrize("spec", ["", "stuck=0", "offset=0", "flip=0", "wrap=12", "stuck=0,offset=0,flip=0,wrap=12"])
def test_no_fault_gives_the_codes_of_the_model(spec: str) -> None:
    assert (outputs(spec) == run(MODEL, CODES)).all()


@pytest.mark.parametrize("spec", ["stuck=0.1", "offset=1", "flip=0.05", "wrap=7"])
def test_every_fault_changes_codes_and_its_seed_decides_how(spec: str) -> None:
    wide = random_network((400, 16, 5), act_bits=(2,), spacing="even", weight_range=(-1, 1), input_bits=2)
    model = wide if spec == "wrap=7" else MODEL
    codes = random_codes(model, 64)
    chip = FaultSpec.parse(spec).draw(model, 3)
    faulty = chip.program(model)(codes)
    assert (faulty != run(model, codes)).any()
    assert (faulty == FaultSpec.parse(spec).draw(model, 3).program(model)(codes)).all()
    if spec != "wrap=7":
        assert (faulty != FaultSpec.parse(spec).draw(model, 4).program(model)(codes)).any()


def test_stuck_weights_are_at_the_largest_of_their_type_in_the_asked_fraction() -> None:
    model = random_network((200, 100), weight_range=(-1, 1))
    (stuck,) = FaultSpec(stuck=0.1).draw(model, 0).stuck
    count = int(stuck.mask.sum())
    # 20,000 fair draws at 0.1: the standard deviation is 42.4; five of them hold but once in 1.7 million seeds
    assert abs(count - 2000) <= 212
    assert abs(int((stuck.values[stuck.mask] > 0).sum()) - count / 2) <= 5 * (count / 4) ** 0.5
    assert set(np.unique(stuck.values)) == {-1, 1}


def test_stuck_weights_stay_stuck_when_weights_are_programmed_again() -> None:
    chip = FaultSpec(stuck=0.3).draw(MODEL, 5)
    other = replace(
        MODEL, nodes=(replace(MODEL.nodes_of(MatMul)[0], weights=-MODEL.nodes_of(MatMul)[0].weights), *MODEL.nodes[1:])
    )
    held = chip.damaged(other).nodes_of(MatMul)[0].weights
    mask = chip.stuck[0].mask
    assert (held[mask] == chip.stuck[0].values[mask]).all()
    assert (held[~mask] == -MODEL.nodes_of(MatMul)[0].weights[~mask]).all()


def test_comparator_offsets_stay_when_thresholds_are_programmed_again() -> None:
    chip = FaultSpec(offset=1.0).draw(MODEL, 5)
    moved = tuple(
        replace(node, thresholds=node.thresholds + 7) if isinstance(node, Threshold) else node for node in MODEL.nodes
    )
    held = chip.damaged(replace(MODEL, nodes=moved)).nodes_of(Threshold)
    for node, before, offsets in zip(held, MODEL.nodes_of(Threshold), chip.offsets, strict=True):
        assert (node.thresholds == before.thresholds + 7 + offsets[:, None]).all()
        assert offsets.any()


def test_offsets_are_in_units_of_the_mean_spacing() -> None:
    one, two = (FaultSpec(offset=sigma).draw(MODEL, 5).offsets[0] for sigma in (0.5, 1.0))
    normal = np.random.default_rng(np.random.SeedSequence(5).spawn(3)[1]).standard_normal(16)
    spacing = spacing_of(MODEL.nodes_of(Threshold)[0])
    assert (one == np.rint(0.5 * normal * spacing)).all()
    assert (two == np.rint(normal * spacing)).all()


def test_a_flipped_bit_is_that_of_the_stored_threshold() -> None:
    chip = FaultSpec(flip=1.0).draw(MODEL, 0)
    for node, held in zip(MODEL.nodes_of(Threshold), chip.damaged(MODEL).nodes_of(Threshold), strict=True):
        assert (held.thresholds == np.sort(~node.thresholds, axis=1)).all()  # every bit inverted: -t - 1


def one_channel(inputs: int, threshold: int) -> IntegerModel:
    """One neuron that reaches 0 to *inputs*, with one threshold, and a matrix product behind it."""
    bit, ternary = IntegerType(1, signed=False), IntegerType(2, signed=True)
    nodes = (
        MatMul("fc0", np.ones((1, inputs), dtype=np.int64), ternary),
        Threshold("act0", np.array([[threshold]]), bit, 0, np.zeros(1, dtype=np.bool_)),
        MatMul("fc1", np.ones((2, 1), dtype=np.int64), ternary),
    )
    return IntegerModel("n", bit, Fraction(1), (inputs,), nodes, Fraction(1))


@pytest.mark.parametrize(("inputs", "width_bits"), [(6, 5), (7, 5), (8, 6), (127, 9)])
def test_a_stored_threshold_has_a_bit_more_than_the_accumulator(inputs: int, width_bits: int) -> None:
    """The threshold that is never met is the largest accumulator plus one, which may need it (7 + 1, 127 + 1)."""
    never = one_channel(inputs, inputs + 1)
    (bits,) = FaultSpec(flip=1.0).draw(never, 0).flips
    assert bits.width_bits == width_bits
    assert bits.inverted.tolist() == [[(1 << width_bits) - 1]]
    chip = replace(FaultSpec().draw(never, 0), flips=(replace(bits, inverted=np.array([[1]])),))
    assert chip.damaged(never).nodes_of(Threshold)[0].thresholds.tolist() == [[(inputs + 1) ^ 1]]


def test_spacing_is_the_mean_distance_or_where_there_is_none_the_median_of_the_other_channels() -> None:
    def spacing(rows: list[list[int]]) -> list[float]:
        kind = IntegerType(4, signed=False)
        node = Threshold("t", np.array(rows), kind, 0, np.zeros(len(rows), dtype=np.bool_))
        return [float(value) for value in spacing_of(node)]

    assert spacing([[-3, 1, 9], [0, 1, 8], [5, 5, 5], [0, 0, 1], [2, 12, 62]]) == [6.0, 4.0, 5.0, 1.0, 30.0]
    assert spacing([[7], [9]]) == [1.0, 1.0]
    assert spacing([[4, 4]]) == [1.0]


@given(st.integers(-(1 << 40), 1 << 40), st.integers(7, 12))
def test_wrapping_is_congruent_and_in_range(value: int, bits: int) -> None:
    wrapped = int(wrap_twos_complement(np.array([value]), bits=bits)[0])
    assert (wrapped - value) % (1 << bits) == 0
    assert -(1 << (bits - 1)) <= wrapped < 1 << (bits - 1)


def test_every_accumulator_wraps_the_biased_output_too() -> None:
    plain = random_network((12, 8, 5), act_bits=(2,), weight_range=(-1, 1), input_bits=2)
    model = replace(plain, nodes=(*plain.nodes, Affine.bias("bias0", np.full(5, 60, dtype=np.int64))))
    codes = random_codes(model, 64)
    assert np.abs(trace(model, codes)["fc0"]).max() < 64, (
        "the first layer must not wrap, so that the last is seen alone"
    )
    faulty = FaultSpec(wrap=7).draw(model, 0).program(model)(codes)
    assert (faulty == wrap_twos_complement(run(model, codes), bits=7)).all()
    assert (faulty != run(model, codes)).any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stuk=0.1", "faults 'stuk=0.1': 'stuk' is unknown; write for example stuck=0.05,offset=0.5,flip=0.001,wrap=9"),
        ("flip=1,flip=1", "'flip' is given twice"),
        ("stuck=1.5", "fault stuck = 1.5 is not possible; allowed: 0 to 1"),
        ("stuck=nan", "fault stuck = nan is not possible"),
        ("offset=-1", "fault offset = -1.0 is not possible; allowed: 0 to 16"),
        ("wrap=6", "fault wrap = 6 is not possible; allowed: 7 to 12"),
        ("wrap=9.5", "wrap = '9.5' is not a whole number"),
        ("stuck", "stuck = '' is not a number"),
    ],
)
def test_a_bad_spec_says_what_is_allowed(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(")):
        FaultSpec.parse(text)


@given(
    st.floats(0, 1),
    st.sampled_from([0.0, 0.5, 2.0]),
    st.sampled_from([0.0, 0.001]),
    st.sampled_from([None, 7, 12]),
)
def test_a_spec_is_read_back_from_its_text(stuck: float, offset: float, flip: float, wrap: int | None) -> None:
    spec = FaultSpec(stuck, offset, flip, wrap)
    assert FaultSpec.parse(str(spec)) == spec


def digest(*arrays: Codes) -> str:
    """Hash *arrays* as little-endian int64."""
    return hashlib.sha256(b"".join(array.astype("<i8").tobytes() for array in arrays)).hexdigest()


def test_the_chips_of_perceptrons_are_those_of_the_published_figures() -> None:
    """Golden: benchmarks/results/calibration.json was measured on chips that were drawn so."""
    model = replace(MODEL, nodes=(*MODEL.nodes, Affine.bias("b", np.arange(5))))
    chip = FaultSpec(0.1, 0.7, 0.02, 9).draw(model, 3)
    masks, values = [part.mask.astype(np.int64) for part in chip.stuck], [part.values for part in chip.stuck]
    widths = np.array([part.width_bits for part in chip.flips])
    faults = digest(*masks, *values, *chip.offsets, *(part.inverted for part in chip.flips), widths)
    assert faults == "92cca7b0aaab7939d66cee49380c981cb754fce8974cbe461aa59958aa9173a1"
    outputs = digest(chip.program(model)(random_codes(model, 200)))
    assert outputs == "07d79d6c12241837f4b50f74f1f2dc8a86a8f332e442764dfa09101811349f1d"


@pytest.mark.parametrize("model", GRAPHS.values(), ids=GRAPHS)
def test_no_fault_gives_the_codes_of_a_graph(model: IntegerModel) -> None:
    codes = graph_codes(model, 64)
    for spec in ("", "wrap=12"):
        assert (FaultSpec.parse(spec).draw(model, 3).program(model)(codes) == run(model, codes)).all()


@pytest.mark.parametrize("spec", ["stuck=0.1", "offset=1", "flip=0.05", "wrap=7"])
def test_every_fault_changes_the_codes_of_a_graph_and_its_seed_decides_how(spec: str) -> None:
    model = residual_network()
    codes = graph_codes(model, 64)
    if spec == "wrap=7":  # the bias lifts what the last product gives beyond 63
        lifted = Affine.bias("centre", np.full(4, 60))
        model = replace(model, nodes=(*model.nodes[:-1], lifted))
    faulty = FaultSpec.parse(spec).draw(model, 3).program(model)(codes)
    assert (faulty != run(model, codes)).any()
    assert (faulty == FaultSpec.parse(spec).draw(model, 3).program(model)(codes)).all()
    if spec != "wrap=7":
        assert (faulty != FaultSpec.parse(spec).draw(model, 4).program(model)(codes)).any()


@pytest.mark.parametrize("model", GRAPHS.values(), ids=GRAPHS)
def test_a_damaged_graph_holds_stuck_weights_and_offsets_of_whole_channels(model: IntegerModel) -> None:
    chip = FaultSpec(stuck=0.3, offset=1.0).draw(model, 1)
    held = chip.damaged(model)
    assert held.wiring == model.wiring
    pairs = zip(held.products, model.products, chip.stuck, strict=True)
    for damaged, healthy, stuck in pairs:
        assert stuck.mask.any()
        assert (damaged.weights == np.where(stuck.mask, stuck.values, healthy.weights)).all()
        assert set(np.unique(stuck.values)) == {-1, 1}
    for after, before, offsets in zip(held.nodes_of(Threshold), model.nodes_of(Threshold), chip.offsets, strict=True):
        assert offsets.shape == (before.channels,)
        assert (after.thresholds == before.thresholds + offsets[:, None]).all()
    assert any(offsets.any() for offsets in chip.offsets)


def test_a_stored_threshold_is_as_wide_as_what_its_wiring_brings() -> None:
    """The shortcut's activation takes the codes of the stem, not those of the node before it in the list."""
    model = residual_network()
    flips = dict(
        zip((node.name for node in model.nodes_of(Threshold)), FaultSpec(flip=1.0).draw(model, 0).flips, strict=True)
    )
    values = model.values
    widths = {name: accumulator_type(values[model.sources(name)[0]].ranges).bits + 1 for name in flips}
    assert {name: bits.width_bits for name, bits in flips.items()} == widths
    assert (model.sources("act6"), widths["act6"], widths["act5"]) == (("act1",), 4, 8)


def of_one(add: Callable[[Builder], str]) -> IntegerModel:
    """A graph of one node on 8-bit codes of shape (2, 4, 4)."""
    build = Builder((2, 4, 4), input=UINT8)
    add(build)
    return build.model()


ADDING: dict[str, Callable[[Builder], str]] = {
    "conv": lambda build: build.conv(INPUT, 3, window(3, padding=1)),
    "depthwise": lambda build: build.conv(INPUT, 2, window(3), groups=2),
    "affine": lambda build: build.add(Affine("n", np.array([3, -2]), np.array([5, 0])), INPUT),
    "add": lambda build: build.add(Add("n"), INPUT, INPUT),
    "sum-pool": lambda build: build.add(SumPool("n", window(2)), INPUT),
}
MOVING: dict[str, Callable[[Builder], str]] = {
    "max-pool": lambda build: build.add(MaxPool("n", window(2)), INPUT),
    "concat": lambda build: build.add(Concat("n"), INPUT, INPUT),
    "pad": lambda build: build.add(Pad("n", (1, 0), (0, 2)), INPUT),
    "reshape": lambda build: build.add(Reshape("n", (2, 4, 4), (4, 8)), INPUT),
    "transpose": lambda build: build.add(Transpose("n", (2, 4, 4), (1, 0, 2)), INPUT),
}


@pytest.mark.parametrize("name", [*ADDING, *MOVING])
def test_whatever_adds_wraps_and_what_moves_codes_does_not(name: str) -> None:
    model = of_one({**ADDING, **MOVING}[name])
    codes = graph_codes(model, 32)
    wrapped = wrap_twos_complement(run(model, codes), bits=7)
    assert (wrapped != run(model, codes)).any()
    expected = wrapped if name in ADDING else run(model, codes)
    assert (FaultSpec(wrap=7).draw(model, 0).program(model)(codes) == expected).all()


def test_what_wrapped_is_what_the_next_layer_takes() -> None:
    build = Builder((2, 4, 4), input=UINT8)
    first = build.conv(INPUT, 3, window(3))
    build.conv(first, 2, window(2))
    model = build.model()
    codes = graph_codes(model, 32)
    one, two = model.nodes
    between = wrap_twos_complement(one.apply(codes.reshape(-1, 2, 4, 4)), bits=8)
    expected = wrap_twos_complement(two.apply(between), bits=8).reshape(32, -1)
    assert (FaultSpec(wrap=8).draw(model, 0).program(model)(codes) == expected).all()


def test_a_chip_of_another_shape_is_refused() -> None:
    chip = FaultSpec(stuck=0.1).draw(random_network((4, 3, 2)), 0)
    with pytest.raises(InputError, match="the chip has weights and thresholds of shapes"):
        chip.program(MODEL)


def test_a_chip_for_one_kernel_refuses_another() -> None:
    def network(kernel: int) -> IntegerModel:
        return of_one(lambda build: build.conv(INPUT, 3, window(kernel, padding=1)))

    chip = FaultSpec(stuck=0.1).draw(network(3), 0)
    with pytest.raises(InputError, match=r"the chip has weights and thresholds of shapes \(\[\(3, 2, 3, 3\)\], \[\]\)"):
        chip.program(network(1))
