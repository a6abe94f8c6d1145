"""Random networks, evaluated by implementations that share nothing: qonnx, torch, the integer model, onnxruntime.

They must give the same integers on random inputs, on extremes, and on inputs searched for accumulators that land on a
threshold and right below it, where a tie or a wrong rounding shows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from agreement import Subject, codes_at_thresholds, differences, hits_of, random_codes
from hypothesis import HealthCheck, given, settings
from random_graphs import Graph, graphs, perceptrons
from written_onnx import Written

from bitproof.export.integer import Conv, IntegerModel, MatMul, Threshold, trace
from bitproof.export.lowering.operations import OPERATIONS
from bitproof.export.onnx_int8.alone import CONSTRUCTIONS as CONSTRUCTED
from bitproof.export.onnx_int8.context import Construction
from bitproof.export.onnx_int8.operations import WRITERS
from bitproof.export.proofs import prove_lowering
from bitproof.pipeline import Codes, StageError

LONG = settings.get_current_profile_name() == "long"


def examples(count: int) -> Callable[[Any], Any]:
    """Search *count* examples, always the same; the profile ``long`` searches many more, new ones each time."""
    calm = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]
    if LONG:
        return settings(suppress_health_check=calm)
    return settings(max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=calm)


def lowered(graph: Graph) -> Subject:
    with TemporaryDirectory() as folder:
        return Subject.of(graph.save(Path(folder)))


def searched_codes(model: IntegerModel) -> Codes:
    return np.concatenate([random_codes(model, 1, 24), codes_at_thresholds(model, 2)])


SEEN: Counter[str] = Counter()
"""How often the search met each operation of a graph and of an integer model, and graphs that onnx-int8 takes."""


@examples(300)
@given(graphs())
def _search_networks_that_float32_computes_exactly(graph: Graph) -> None:
    subject = lowered(graph)
    codes = searched_codes(subject.model)
    assert differences(subject, codes) == []
    assert [proof.claim for proof in prove_lowering(subject.lowered) if not proof.holds] == []
    SEEN.update([*graph.operations, *(f"integer {node.op}" for node in subject.model.nodes), "graph"])
    for construction in CONSTRUCTIONS:
        written = written_or_refused(subject.model, construction)
        if written is not None:
            assert written.unequal(subject.model, codes) == []
            SEEN[f"written {construction}"] += 1
            SEEN.update(entry["construction"] for entry in written.layers["activations"])


@pytest.mark.slow
def test_four_evaluators_agree_on_every_operation_that_float32_computes_exactly() -> None:
    SEEN.clear()
    _search_networks_that_float32_computes_exactly()
    drawn = {*OPERATIONS, *(f"integer {kind.op}" for kind in WRITERS)}
    assert drawn - set(SEEN) == set()  # no operation that is taken is left out of the search
    assert min(SEEN[f"written {construction}"] for construction in CONSTRUCTIONS) > SEEN["graph"] * 0.7
    assert {kind: SEEN[kind] for kind in (*CONSTRUCTED, "single steps") if kind != "joined" and not SEEN[kind]} == {}


REFUSALS = (
    r"onnx-int8: layer '\w+' has sums of products in \[-?\d+, -?\d+\], which onnxruntime adds up in 32 .*",
    r"onnx-int8: layer '\w+' compares integers in \[-?\d+, -?\d+\], which onnxruntime does in floats only; .*",
    r"onnx-int8: weights of '\w+' are u?int\d+; at most 8 signed bits fit a byte",
)
"""What onnx-int8 refuses: all of it for its width, nothing for its operation."""


CONSTRUCTIONS: tuple[Construction, ...] = ("fastest", "single-steps")


def written_or_refused(model: IntegerModel, construction: Construction = "fastest") -> Written | None:
    try:
        return Written.of(model, construction)
    except StageError as refusal:
        if any(re.fullmatch(text, str(refusal)) for text in REFUSALS):
            return None
        raise


@pytest.mark.slow
@examples(100)
@given(graphs(exact=False))
def test_torch_and_onnxruntime_agree_on_batch_norms_with_square_roots(graph: Graph) -> None:
    subject = lowered(graph)
    codes = searched_codes(subject.model)
    assert differences(subject, codes, exact=False, qonnx=False) == []
    written = written_or_refused(subject.model)
    assert written is None or written.unequal(subject.model, codes) == []


@pytest.mark.slow
@examples(60)
@given(perceptrons())
def test_onnxruntime_takes_every_chain_of_unsigned_codes(graph: Graph) -> None:
    subject = lowered(graph)
    codes = searched_codes(subject.model)
    assert Written.of(subject.model).unequal(subject.model, codes) == []
    assert differences(subject, codes, qonnx=False) == []


FLIPPED: Counter[str] = Counter()
"""Flipped bits of written files that onnxruntime showed, by kind, and those that no input could show."""


@examples(80)
@given(graphs())
def _search_files_with_a_flipped_bit(graph: Graph) -> None:
    model = lowered(graph).model
    codes = searched_codes(model)
    for construction in CONSTRUCTIONS:
        written = written_or_refused(model, construction)
        if written is not None:
            _flip_bits(model, written, codes)


def _flip_bits(model: IntegerModel, written: Written, codes: Codes) -> None:
    product = next(node for node in model.nodes if isinstance(node, MatMul | Conv))
    wrong, other = written.with_flipped_weight(model, product, product.weights.size // 2)
    assert product.name not in wrong.unequal(other, codes)  # only there: what follows is made for other ranges
    shown = not np.array_equal(trace(model, codes)[product.name], trace(other, codes)[product.name])
    assert wrong.unequal(model, codes)[:1] == ([product.name] if shown else [])
    FLIPPED["weight" if shown else "weight of no input"] += 1
    for node in model.nodes_of(Threshold):
        level = shown_level(written, model, node, codes)
        if level is not None:
            # Codes that are pooled in the same step are first seen behind the pool.
            target, values = written.entry(node)["target"], written.layers["values"]
            shown_as = node.name if node.name in values else next(n for n in values if values[n]["tensor"] == target)
            assert written.with_flipped_threshold(node, 0, level).unequal(model, codes)[:1] == [shown_as]
            FLIPPED[written.method(node)] += 1


def shown_level(written: Written, model: IntegerModel, node: Threshold, codes: Codes) -> int | None:
    """Return a level of channel 0 of *node* that *codes* must show once its bit is flipped in the file, if any."""
    if written.method(node) == "table":  # the bit moves all codes of the channel by one
        return 0
    if written.method(node) == "unchanged":
        return None
    if written.method(node) != "thresholds":  # the bit moves all codes of the channel, where they do not saturate
        made = trace(model, codes)[node.name][:, 0]
        return 0 if ((made > node.lowest) & (made < node.highest)).any() else None
    hits = hits_of(model, codes)
    for level, threshold in enumerate(node.thresholds[0].tolist()):
        side = -1 if threshold % 2 else 0  # an odd threshold falls by one, an even one rises
        if hits[node.name, 0, level, side].any():
            return level
    return None


@pytest.mark.slow
def test_a_flipped_bit_of_a_written_file_is_caught() -> None:
    FLIPPED.clear()
    _search_files_with_a_flipped_bit()
    assert min(FLIPPED[kind] for kind in ("weight", "thresholds", "offset", "quantized")) >= 10
    assert min(FLIPPED[kind] for kind in ("table", "carried")) >= 1


def perturbed(subject: Subject, node: Threshold, channel: int, level: int) -> Subject:
    """Return *subject* with one threshold of its integer model higher by one."""
    thresholds = node.thresholds.copy()
    thresholds[channel, level:] = np.maximum(thresholds[channel, level:], thresholds[channel, level] + 1)
    nodes = tuple(replace(n, thresholds=thresholds) if n is node else n for n in subject.model.nodes)
    return replace(subject, lowered=replace(subject.lowered, model=replace(subject.model, nodes=nodes)))


CAUGHT: list[int] = []


@examples(80)
@given(graphs())
def _search_perturbed_networks(graph: Graph) -> None:
    subject = lowered(graph)
    codes = searched_codes(subject.model)
    values, hits = subject.model.values, hits_of(subject.model, codes)
    for node in subject.model.nodes_of(Threshold):
        (source,) = subject.model.sources(node.name)
        for channel, row in enumerate(node.thresholds.tolist()):
            for level, threshold in enumerate(row):
                reachable = values[source].ranges[channel]
                hit = hits[node.name, channel, level, 0].any() and reachable.low < threshold <= reachable.high
                if hit and node.name in subject.lowered.origins:
                    wrong = differences(perturbed(subject, node, channel, level), codes, exact=False, qonnx=False)
                    assert any(node.name in place for place in wrong)
                    CAUGHT.append(1)
                    return


@pytest.mark.slow
def test_a_threshold_that_is_off_by_one_is_caught() -> None:
    CAUGHT.clear()
    _search_perturbed_networks()
    assert sum(CAUGHT) >= 20
