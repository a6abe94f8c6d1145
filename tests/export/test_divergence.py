"""The first divergence: one fault of each class is found where it is and called what it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from faulty_executors import (
    FaultyTracer,
    Network,
    OutputsOnly,
    UnitExecutor,
    convolutional,
    inputs_of,
    node_of,
    perceptron,
    quantizer,
    with_node,
    with_weight,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from bitproof.export.divergence import Cause, Explanation, explain
from bitproof.export.integer import (
    Activation,
    Affine,
    Chain,
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    Rounding,
    Threshold,
    thresholds_of,
    trace,
)
from bitproof.pipeline import Codes, StageError

NETWORKS: dict[str, Callable[[int], Network]] = {"perceptron": perceptron, "convolutional": convolutional}
SAMPLES = 200


def explained(network: Network, layer: str, fault: Callable[[Codes], Codes], **options: bool) -> Explanation:
    executor = FaultyTracer(network.model, layer, fault)
    codes = inputs_of(network, SAMPLES)
    return explain(executor, network.model, codes, activations=network.activations, **options)


def holding(network: Network, changed: MatMul | Conv | Threshold) -> FaultyTracer:
    """An executor that holds another node than the model."""
    return FaultyTracer(with_node(network.model, changed))


def first_differing(network: Network, executor: FaultyTracer, layer: str) -> tuple[int, tuple[int, ...], int]:
    codes = inputs_of(network, SAMPLES)
    differs = trace(network.model, codes)[layer] != executor.trace(codes)[layer]
    return min((c, tuple(p), s) for s, c, *p in np.argwhere(differs).tolist())


@pytest.mark.parametrize("kind", NETWORKS)
def test_equal_executors_say_so(kind: str) -> None:
    network = NETWORKS[kind](0)
    codes = inputs_of(network, SAMPLES)
    found = explain(FaultyTracer(network.model), network.model, codes, activations=network.activations)
    per_sample = sum(values.size for values in trace(network.model, codes).values()) + SAMPLES * network.model.outputs
    assert found.ok
    assert found.compared == per_sample
    assert found.lines() == [f"faulty: {per_sample} codes of {SAMPLES} samples compared (layers), all equal"]
    assert found.as_json()["divergence"] is None


def test_nothing_compared_is_not_equal() -> None:
    network = perceptron(0)
    empty = np.zeros((0, network.model.inputs), dtype=np.int64)
    assert not explain(FaultyTracer(network.model), network.model, empty).ok


@pytest.mark.parametrize(
    ("kind", "layer"), [("perceptron", "fc1"), ("convolutional", "conv1"), ("convolutional", "fc0")]
)
def test_one_wrong_weight_is_named(kind: str, layer: str) -> None:
    network = NETWORKS[kind](3)
    node = node_of(network.model, layer)
    assert isinstance(node, MatMul | Conv)
    index = tuple(size - 1 for size in node.weights.shape)
    executor = holding(network, with_weight(node, index, 2))
    found = explain(executor, network.model, inputs_of(network, SAMPLES), activations=network.activations).divergence
    assert found is not None
    assert (found.layer, found.channel, found.finding.cause) == (layer, index[0], Cause.WRONG_WEIGHT)
    assert (found.channel, found.position, found.sample) == first_differing(network, executor, layer)
    expected = int(node.weights[index])
    assert found.finding.facts == {
        "weights": [{"index": list(index), "expected": expected, "actual": expected + 2}],
    }
    assert found.inputs_agree


@pytest.mark.parametrize("kind", NETWORKS)
def test_several_wrong_weights_of_a_channel_are_named(kind: str) -> None:
    network = NETWORKS[kind](4)
    node = node_of(network.model, "fc1" if kind == "perceptron" else "conv0")
    assert isinstance(node, MatMul | Conv)
    indices = [(2, *(0 for _ in node.weights.shape[1:])), (2, *(size - 1 for size in node.weights.shape[1:]))]
    wrong = with_weight(with_weight(node, indices[0], 1), indices[1], -3)
    found = explain(holding(network, wrong), network.model, inputs_of(network, SAMPLES)).divergence
    assert found is not None
    assert (found.layer, found.channel, found.finding.cause) == (node.name, 2, Cause.WRONG_WEIGHT)
    weights = found.finding.facts["weights"]
    assert weights == [
        {"index": list(i), "expected": int(node.weights[i]), "actual": int(wrong.weights[i])} for i in indices
    ]


def test_a_wrong_bias_is_told_from_a_wrong_weight() -> None:
    network = perceptron(5)

    def add(accumulators: Codes) -> Codes:
        shifted: Codes = accumulators + np.array([0, 0, 7, 0, 0, 0, 0])
        return shifted

    found = explained(network, "fc1", add).divergence
    assert found is not None
    assert (found.channel, found.finding.cause) == (2, Cause.WRONG_WEIGHT)
    assert found.finding.facts == {"bias": 7}


def test_samples_that_cannot_tell_two_weights_apart_are_said_to_be_too_few() -> None:
    network = perceptron(6)
    node = network.model.nodes_of(MatMul)[0]
    codes = np.zeros((2, network.model.inputs), dtype=np.int64)
    codes[0, 3:5] = 4
    executor = holding(network, with_weight(node, (1, 4), 1))
    found = explain(executor, network.model, codes).divergence
    assert found is not None
    assert found.finding.cause is Cause.WRONG_WEIGHT
    assert [w["index"] for w in found.finding.facts["one_of"]] == [[1, 3], [1, 4]]  # type: ignore[attr-defined]
    assert "more samples tell them apart" in found.finding.detail


@pytest.mark.parametrize(("kind", "layer"), [("perceptron", "fc1"), ("convolutional", "conv1")])
@pytest.mark.parametrize("bits", [7, 8])
def test_a_narrow_accumulator_wraps(kind: str, layer: str, bits: int) -> None:
    network = NETWORKS[kind](7)
    half = 1 << (bits - 1)

    def wrap(accumulators: Codes) -> Codes:
        return (3 * accumulators + half) % (2 * half) - half

    node = node_of(network.model, layer)
    assert isinstance(node, MatMul | Conv)
    # three times the weights, so that the true accumulators need more than the bits
    wide = replace(node, weights=3 * node.weights, weight_type=IntegerType(8, signed=True))
    model = with_node(network.model, wide)
    found = explain(FaultyTracer(network.model, layer, wrap), model, inputs_of(network, SAMPLES)).divergence
    assert found is not None
    assert (found.layer, found.finding.cause) == (layer, Cause.ACCUMULATOR_WRAP)
    assert found.finding.facts["type"] == f"int{bits}"
    assert found.accumulators is not None
    assert (found.accumulators[0] - found.accumulators[1]) % (1 << bits) == 0


def test_a_narrow_accumulator_saturates() -> None:
    network = perceptron(8)
    found = explained(network, "fc0", lambda a: np.clip(a, -64, 63)).divergence
    assert found is not None
    assert (found.layer, found.finding.cause) == ("fc0", Cause.SATURATION)
    assert found.finding.facts["type"] == "int7"


@pytest.mark.parametrize("kind", NETWORKS)
def test_half_up_instead_of_half_even_is_tie_rounding(kind: str) -> None:
    network = NETWORKS[kind](9)
    node = node_of(network.model, "act1")
    assert isinstance(node, Threshold)
    executor = holding(network, other_activation(network, node, Rounding.HALF_UP))
    codes = inputs_of(network, SAMPLES)
    found = explain(executor, network.model, codes, activations=network.activations).divergence
    assert found is not None
    assert (found.layer, found.finding.cause) == ("act1", Cause.TIE_ROUNDING)
    assert (found.channel, found.position, found.sample) == first_differing(network, executor, "act1")
    assert found.finding.facts["roundings"] == ["HALF_UP"]
    assert found.accumulators is not None
    assert found.accumulators[0] == found.accumulators[1]
    assert Fraction(found.accumulators[0], 8).denominator == 2, "exactly between two codes"
    assert found.codes is not None
    assert found.codes[1] == found.codes[0] + 1


def other_activation(network: Network, node: Threshold, rounding: Rounding) -> Threshold:
    rows = []
    for activation in network.activations[node.name]:
        from bitproof.export.integer import Interval

        other = replace(activation, quantization=quantizer(rounding))
        rows.append(thresholds_of(other, Interval(-(1 << 20), 1 << 20)))
    return replace(node, thresholds=np.array(rows, dtype=np.int64))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("how", ["clipped", "wrapped", "kept"])
def test_codes_beyond_the_end_of_the_type_are_saturation(kind: str, how: str) -> None:
    network = NETWORKS[kind](10)

    def fault(codes: Codes) -> Codes:
        return np.minimum(codes, 7)

    if how == "clipped":
        found = explained(network, "act0", fault).divergence
    else:
        found = explain(
            Unsaturated(network, wraps=how == "wrapped"),
            network.model,
            inputs_of(network, SAMPLES),
            activations=network.activations,
        ).divergence
    assert found is not None
    assert (found.layer, found.finding.cause) == ("act0", Cause.SATURATION)
    if how == "clipped":
        assert found.finding.facts["actual"] == [0, 7]
    else:
        assert found.codes is not None
        assert found.codes[0] == 15
        assert found.finding.facts["true_code"] == (found.codes[1] if how == "kept" else found.codes[1] + 16)


@pytest.mark.parametrize("seed", [15, 27, 69])
def test_a_tie_in_the_first_channel_does_not_hide_what_explains_every_channel(seed: int) -> None:
    """The first channel shows one fault, code 8 to 7 at a tie; clipping alone explains the others, too."""
    network = perceptron(seed)
    codes = inputs_of(network, 150, seed)
    executor = FaultyTracer(network.model, "act1", lambda values: np.minimum(values, 7))
    found = explain(executor, network.model, codes, activations=network.activations).divergence
    assert found is not None
    assert (found.layer, found.codes, found.finding.cause) == ("act1", (8, 7), Cause.SATURATION)


class Unsaturated(FaultyTracer):
    """The first activation does not end at its type."""

    def __init__(self, network: Network, *, wraps: bool) -> None:
        super().__init__(network.model)
        self.wraps = wraps

    def _values(self, codes: Codes) -> dict[str, Codes]:
        values = super()._values(codes)
        first = self.model.nodes[0].name
        true = np.maximum(np.rint(values[first] / 8), 0).astype(np.int64)
        values["act0"] = true % 16 if self.wraps else true
        return values


@pytest.mark.parametrize(
    ("layer", "fault", "what"),
    [
        ("conv1", lambda v: np.swapaxes(v, -1, -2), "the outputs are transposed"),
        ("conv0", lambda v: v[:, [0, 2, 1, 3]], "channel 1 holds what channel 2 should hold"),
        ("act1", lambda v: v[..., ::-1], "positions in another order"),
        ("conv1", lambda v: v.transpose(0, 2, 3, 1).reshape(v.shape), "elements in another order"),
    ],
)
def test_moved_codes_are_wrong_layout(layer: str, fault: Callable[[Codes], Codes], what: str) -> None:
    found = explained(convolutional(11), layer, fault).divergence
    assert found is not None
    assert (found.layer, found.finding.cause) == (layer, Cause.WRONG_LAYOUT)
    assert what in found.finding.detail


def test_a_flattening_of_channels_last_is_seen_at_the_product_behind_it() -> None:
    network = convolutional(12)

    def channels_last(flat: Codes) -> Codes:
        return flat.reshape(len(flat), 6, 3, 3).transpose(0, 2, 3, 1).reshape(len(flat), -1)

    executor = FaultyTracer(network.model, "reshape0", channels_last, hidden=("reshape0",))
    found = explain(executor, network.model, inputs_of(network, SAMPLES)).divergence
    assert found is not None
    assert (found.layer, found.finding.cause) == ("fc0", Cause.WRONG_LAYOUT)
    assert "in the order of the axes (1, 2, 0)" in found.finding.detail
    assert not found.inputs_agree


def test_a_mirrored_kernel_is_wrong_layout() -> None:
    network = convolutional(13)
    node = node_of(network.model, "conv1")
    assert isinstance(node, Conv)
    mirrored = replace(node, weights=np.ascontiguousarray(node.weights[:, :, ::-1, ::-1]))
    found = explain(holding(network, mirrored), network.model, inputs_of(network, SAMPLES)).divergence
    assert found is not None
    assert (found.layer, found.finding.cause) == ("conv1", Cause.WRONG_LAYOUT)
    assert "from their end to their beginning" in found.finding.detail


def test_an_accumulator_near_a_boundary_of_a_free_scale_is_float_order() -> None:
    """A scale of 1/3 sums inexactly; the boundary of code 1 lies at 1.5, hit by no integer, so a tie is none."""
    unit = Fraction(16777217, 3 * (1 << 24))  # 1/3 and a little: 3/2 of a code is missed by less than float32 sees
    network, act = nearly_tied(unit)
    boundary = 9  # (9 * unit - 3) is 1e-7, while sums of magnitude 180 carry errors of 1e-5

    def fault(codes: Codes) -> Codes:
        accumulators = trace(network.model, inputs_of(network, SAMPLES))["fc0"]
        fallen: Codes = codes - (accumulators == boundary)
        return fallen

    for floats, cause in ((True, Cause.FLOAT_ORDER), (False, Cause.WRONG_THRESHOLD)):
        executor = FaultyTracer(network.model, act, fault)
        found = explain(
            executor, network.model, inputs_of(network, SAMPLES), activations=network.activations, floats=floats
        ).divergence
        assert found is not None
        assert (found.layer, found.finding.cause) == (act, cause)
        assert found.accumulators == (boundary, boundary)


def nearly_tied(unit: Fraction) -> tuple[Network, str]:
    """One product and one activation with the boundaries of FLOOR at whole numbers."""
    from bitproof.export.integer import Interval

    generator = np.random.default_rng(0)
    product = MatMul("fc0", generator.integers(-3, 3, size=(4, 12), endpoint=True), IntegerType(3, signed=True))
    codes = (Interval(0, 15),) * 12
    reachable = product.ranges(codes)
    activations = [Activation(Chain.of(unit).clamped(0, None), quantizer(Rounding.FLOOR)) for _ in range(4)]
    rows = [thresholds_of(a, interval) for a, interval in zip(activations, reachable, strict=True)]
    node = Threshold(
        "act0", np.array(rows, dtype=np.int64), IntegerType(4, signed=False), 0, np.zeros(4, dtype=np.bool_)
    )
    model = IntegerModel("near", IntegerType(4, signed=False), Fraction(1), (12,), (product, node), Fraction(1))
    return Network(model, {"act0": activations}), "act0"


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_moved_threshold_is_named_with_where_it_lies(kind: str) -> None:
    network = NETWORKS[kind](14)
    node = node_of(network.model, "act1")
    assert isinstance(node, Threshold)
    moved = node.thresholds.copy()
    moved[3, 4] += 3
    executor = holding(network, replace(node, thresholds=moved))
    codes = inputs_of(network, SAMPLES * 4)
    found = explain(executor, network.model, codes, activations=network.activations).divergence
    assert found is not None
    assert (found.layer, found.channel, found.finding.cause) == ("act1", 3, Cause.WRONG_THRESHOLD)
    facts = found.finding.facts
    assert facts["levels"] == [5]
    assert facts["expected"] == node.thresholds[3, 4]
    assert facts["above"] < moved[3, 4] <= facts["at_most"]


def test_codes_without_a_rule_are_unknown() -> None:
    network = perceptron(15)
    generator = np.random.default_rng(0)
    found = explained(network, "act0", lambda codes: generator.permutation(codes.reshape(-1)).reshape(codes.shape))
    assert found.divergence is not None
    assert found.divergence.finding.cause is Cause.UNKNOWN


def test_a_wrong_offset_of_an_affine_node_is_named() -> None:
    network = perceptron(16)
    offsets = np.array([3, -2, 5, 0], dtype=np.int64)
    model = replace(network.model, nodes=(*network.model.nodes, Affine.bias("affine0", offsets)))
    wrong = with_node(model, Affine("affine0", np.array([1, 1, 2, 1]), offsets))
    found = explain(FaultyTracer(wrong), model, inputs_of(network, SAMPLES)).divergence
    assert found is not None
    assert (found.layer, found.channel, found.finding.cause) == ("affine0", 2, Cause.WRONG_WEIGHT)
    assert found.finding.facts == {"expected": [1, 5], "actual": [2, 5]}


def test_units_run_alone_find_a_wrong_weight_and_name_it() -> None:
    network = perceptron(17)
    codes = inputs_of(network, SAMPLES)
    active = int(trace(network.model, codes)["act0"].sum(axis=0).argmax())
    wrong = with_weight(network.model.nodes_of(MatMul)[1], (4, active), -1)
    found = explain(UnitExecutor(with_node(network.model, wrong)), network.model, codes)
    assert found.method == "units"
    assert found.divergence is not None
    assert (found.divergence.layer, found.divergence.channel) == ("fc1", 4)
    actual = int(wrong.weights[4, active])
    assert found.divergence.finding.facts["weights"] == [
        {"index": [4, active], "expected": actual + 1, "actual": actual}
    ]


class PointExecutor(UnitExecutor):
    """Its activations take any accumulators, and nothing else: a sweep over all between them may be without end."""

    def requantize(self, node: str, first: int, last: int) -> Codes:
        raise AssertionError("there is no need to sweep")

    def requantize_at(self, node: str, accumulators: Codes) -> Codes:
        return self.other.node(node).apply(accumulators)

    def why_monotone(self, node: str, lows: Codes, highs: Codes) -> str | None:
        return None


@pytest.mark.parametrize("kind", [UnitExecutor, PointExecutor])
def test_units_run_alone_find_a_wrong_activation(kind: type[UnitExecutor]) -> None:
    network = perceptron(18)
    node = node_of(network.model, "act0")
    assert isinstance(node, Threshold)
    other = kind(with_node(network.model, other_activation(network, node, Rounding.HALF_UP)))
    found = explain(other, network.model, inputs_of(network, SAMPLES), activations=network.activations).divergence
    assert found is not None
    assert (found.layer, found.finding.cause) == ("act0", Cause.TIE_ROUNDING)


def test_units_that_agree_alone_put_the_fault_between_them() -> None:
    network = perceptron(19)
    shifted = UnitExecutor(network.model, outer=lambda outputs: outputs + np.eye(len(outputs), 4, dtype=np.int64))
    found = explain(shifted, network.model, inputs_of(network, SAMPLES)).divergence
    assert found is not None
    assert found.finding.cause is Cause.UNKNOWN
    assert "its units agree with the model when they are run alone" in found.finding.detail
    rolled = UnitExecutor(network.model, outer=lambda outputs: outputs[:, [1, 2, 3, 0]])
    found = explain(rolled, network.model, inputs_of(network, SAMPLES)).divergence
    assert found is not None
    assert found.finding.cause is Cause.WRONG_LAYOUT
    assert explain(UnitExecutor(network.model), network.model, inputs_of(network, SAMPLES)).ok


def test_units_are_run_behind_a_layer_whose_inputs_cannot_be_seen() -> None:
    network = perceptron(20)
    wrong = with_weight(network.model.nodes_of(MatMul)[1], (4, 2), 3)

    class Both(UnitExecutor):
        def trace(self, codes: Codes) -> dict[str, Codes]:
            return {name: v for name, v in trace(self.other, codes).items() if name.startswith("act")}

    found = explain(Both(with_node(network.model, wrong)), network.model, inputs_of(network, SAMPLES)).divergence
    assert found is not None
    assert (found.layer, found.finding.cause) == ("fc1", Cause.WRONG_WEIGHT)


def test_of_a_closed_executor_the_outputs_are_explained() -> None:
    network = perceptron(21)
    last = network.model.nodes_of(MatMul)[-1]
    model = with_node(network.model, replace(last, weights=5 * last.weights, weight_type=IntegerType(8, signed=True)))
    closed = OutputsOnly(model, lambda outputs: (outputs + 64) % 128 - 64)
    found = explain(closed, model, inputs_of(network, SAMPLES))
    assert found.method == "outputs"
    assert found.divergence is not None
    assert (found.divergence.layer, found.divergence.finding.cause) == ("fc2", Cause.ACCUMULATOR_WRAP)


def test_a_layer_of_another_shape_is_an_error() -> None:
    network = perceptron(22)
    with pytest.raises(StageError, match=r"the executor gives fc0 the shape \(200, 3\); expected \(200, 9\)"):
        explain(Cut(network.model), network.model, inputs_of(network, SAMPLES))


def test_an_executor_that_cannot_show_its_layers_is_compared_by_its_units() -> None:
    network = perceptron(24)

    class Coarse(UnitExecutor):
        def trace(self, codes: Codes) -> dict[str, Codes]:
            raise StageError("float32 cannot tell the accumulators apart")

    codes = inputs_of(network, SAMPLES)
    equal = explain(Coarse(network.model), network.model, codes)
    assert (equal.ok, equal.method) == (True, "units")
    assert "(units; its layers cannot be shown: float32 cannot tell" in equal.lines()[0]
    active = int(trace(network.model, codes)["act0"].sum(axis=0).argmax())
    wrong = with_weight(network.model.nodes_of(MatMul)[1], (0, active), 1)
    found = explain(Coarse(with_node(network.model, wrong)), network.model, codes).divergence
    assert found is not None
    assert (found.layer, found.channel, found.finding.cause) == ("fc1", 0, Cause.WRONG_WEIGHT)


class Cut(FaultyTracer):
    def trace(self, codes: Codes) -> dict[str, Codes]:
        return {"fc0": super().trace(codes)["fc0"][:, :3]}


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 2**16), st.data())
def test_a_random_single_fault_is_located_where_it_is(kind: str, seed: int, data: st.DataObject) -> None:
    network = NETWORKS[kind](seed)
    layer = data.draw(st.sampled_from([node.name for node in network.model.nodes]))
    codes = inputs_of(network, 20, seed)
    shape = trace(network.model, codes)[layer].shape
    at = tuple(data.draw(st.integers(0, size - 1)) for size in shape)
    delta = data.draw(st.sampled_from([-1000, -1, 1, 2, 128, 1 << 20]))

    def fault(values: Codes) -> Codes:
        changed = values.copy()
        changed[at] += delta
        return changed

    executor = FaultyTracer(network.model, layer, fault)
    found = explain(executor, network.model, codes, activations=network.activations).divergence
    assert found is not None
    assert (found.layer, found.sample, found.channel, *found.position) == (layer, *at)
    assert (found.differing, found.channels) == (1, 1)
    assert found.actual - found.expected == delta
    json_form = found.as_json()
    assert json_form["layer"] == layer


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(NETWORKS)), st.integers(0, 2**16), st.data())
def test_a_random_wrong_weight_is_always_named(kind: str, seed: int, data: st.DataObject) -> None:
    network = NETWORKS[kind](seed)
    node = data.draw(st.sampled_from([n for n in network.model.nodes if isinstance(n, MatMul | Conv)]))
    index = tuple(data.draw(st.integers(0, size - 1)) for size in node.weights.shape)
    delta = data.draw(st.sampled_from([-2, -1, 1, 2]))
    executor = holding(network, with_weight(node, index, delta))
    codes = inputs_of(network, SAMPLES, seed)
    if np.array_equal(executor.trace(codes)[node.name], trace(network.model, codes)[node.name]):
        return  # the input of that weight is 0 in every sample
    found = explain(executor, network.model, codes, activations=network.activations).divergence
    assert found is not None
    assert (found.layer, found.channel, found.finding.cause) == (node.name, index[0], Cause.WRONG_WEIGHT)
    named = found.finding.facts.get("weights") or found.finding.facts.get("one_of")
    assert {"index": list(index), "expected": int(node.weights[index]), "actual": int(node.weights[index]) + delta} in (
        named  # type: ignore[operator]
    )
