"""Random networks, evaluated by implementations that share nothing: qonnx, torch, the integer model, onnxruntime.

They must give the same integers on random inputs, on extremes, and on inputs searched for accumulators that land on a
threshold and right below it, where a tie or a wrong rounding shows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime
from agreement import Subject, codes_at_thresholds, differences, hits_of, random_codes
from hypothesis import HealthCheck, given, settings
from random_graphs import Graph, graphs, perceptrons

from export.integer import IntegerModel, Threshold, propagate, run
from export.onnx_int8.writer import build
from export.proofs import prove_lowering
from pipeline import Codes

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


@examples(150)
@given(graphs())
def test_four_evaluators_agree_on_networks_that_float32_computes_exactly(graph: Graph) -> None:
    subject = lowered(graph)
    assert differences(subject, searched_codes(subject.model)) == []
    assert [proof.claim for proof in prove_lowering(subject.lowered) if not proof.holds] == []


@examples(100)
@given(graphs(exact=False))
def test_torch_agrees_on_batch_norms_with_square_roots(graph: Graph) -> None:
    subject = lowered(graph)
    assert differences(subject, searched_codes(subject.model), exact=False, qonnx=False) == []


@examples(60)
@given(perceptrons())
def test_onnxruntime_agrees_on_chains(graph: Graph) -> None:
    subject = lowered(graph)
    codes = searched_codes(subject.model)
    file, _ = build(subject.model)
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    (made,) = session.run(None, {"codes": codes.astype(np.uint8)})
    np.testing.assert_array_equal(run(subject.model, codes), made.astype(np.int64), strict=True)
    assert differences(subject, codes, qonnx=False) == []


def perturbed(subject: Subject, node: Threshold, channel: int, level: int) -> Subject:
    """Return *subject* with one threshold of its integer model higher by one."""
    thresholds = node.thresholds.copy()
    thresholds[channel, level:] = np.maximum(thresholds[channel, level:], thresholds[channel, level] + 1)
    nodes = tuple(replace(n, thresholds=thresholds) if n is node else n for n in subject.model.nodes)
    return replace(subject, lowered=replace(subject.lowered, model=replace(subject.model, nodes=nodes)))


CAUGHT: list[int] = []


@examples(40)
@given(graphs())
def _search_perturbed_networks(graph: Graph) -> None:
    subject = lowered(graph)
    codes = searched_codes(subject.model)
    ranges, hits = propagate(subject.model), hits_of(subject.model, codes)
    for node in subject.model.activations:
        (source,) = subject.model.sources(node.name)
        for channel, row in enumerate(node.thresholds.tolist()):
            for level, threshold in enumerate(row):
                reachable = ranges[source][channel]
                hit = hits[node.name, channel, level, 0].any() and reachable.low < threshold <= reachable.high
                if hit and node.name in subject.lowered.origins:
                    wrong = differences(perturbed(subject, node, channel, level), codes, exact=False, qonnx=False)
                    assert any(node.name in place for place in wrong)
                    CAUGHT.append(1)
                    return


def test_a_threshold_that_is_off_by_one_is_caught() -> None:
    CAUGHT.clear()
    _search_perturbed_networks()
    assert sum(CAUGHT) >= 20
