"""C of networks with branches, windows and moved codes: equal to the integer model in every value, under sanitizers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from integer_graphs import (
    Builder,
    every_operation,
    graph_codes,
    on_a_line,
    one_bit,
    pooled_groups,
    residual_network,
    window,
)
from mcu_firmware import built_firmware, executor_on
from mcu_host import HostExecutor, compile_host, host_executor
from random_graphs import Graph, graphs
from zoo_exports import lowered_network
from zoo_networks import initialized, small

from bitproof.export.divergence import Cause, explain
from bitproof.export.integer import (
    INPUT,
    Conv,
    IntegerModel,
    MatMul,
    run,
    trace,
)
from bitproof.export.lower import lower_file
from bitproof.export.proofs import prove_matrix_units, prove_requantization
from bitproof.export.proofs.matrix_units import as_matrix, basis_vectors
from bitproof.hw.mcu import HOST, CoreName, flip_weight_bit
from bitproof.hw.mcu.memory import footprint
from bitproof.hw.mcu.plan import plan_network
from bitproof.pipeline import Codes, StageError

NAMED_TENSORS = pytest.mark.filterwarnings("ignore:Named tensors:UserWarning")


def drawn(model: IntegerModel, samples: int, seed: int = 0) -> Codes:
    codes = list(model.allowed_codes)
    made = np.random.default_rng(seed).choice(codes, size=(samples, model.inputs)).astype(np.int64)
    made[0], made[1] = codes[0], codes[-1]
    return made


def require_equal(model: IntegerModel, folder: Path, *, lanes: int = 1, samples: int = 40) -> HostExecutor:
    """Compile the C of *model* under sanitizers and compare its outputs and all that its steps leave."""
    executor, codes = host_executor(model, folder, lanes=lanes), drawn(model, samples)
    np.testing.assert_array_equal(executor(codes), run(model, codes), strict=True)
    expected, made = trace(model, codes[:6]), executor.trace(codes[:6])
    assert made
    for name, values in made.items():
        np.testing.assert_array_equal(values.reshape(6, -1), expected[name].reshape(6, -1), err_msg=name)
    return executor


NETWORKS: dict[str, Callable[[], IntegerModel]] = {
    "residual": residual_network,
    "every operation": every_operation,
    "groups": pooled_groups,
    "line": on_a_line,
    "one bit": one_bit,
}


def test_which_kernels_a_network_of_one_bit_takes() -> None:
    kernels = [product.kernel_name for product in plan_network(one_bit()).products]
    pair = "multiply_pair"
    assert kernels == [f"{pair}_u1", f"{pair}_binary", f"{pair}_u1", "depthwise_2", "multiply_u1"]


@pytest.mark.tool
@pytest.mark.parametrize("lanes", [0, 1])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_value_equals_the_integer_model(name: str, lanes: int, tmp_path: Path) -> None:
    model = NETWORKS[name]()
    executor = require_equal(model, tmp_path / "host", lanes=lanes)
    units = prove_matrix_units(model, executor, seed=0)
    assert [proof.layer for proof in units] == [node.name for node in model.nodes if isinstance(node, Conv | MatMul)]
    proofs = [*units, *prove_requantization(model, executor)]
    assert all(proof.holds and proof.cases for proof in proofs)


@pytest.mark.tool
@pytest.mark.parametrize("name", NETWORKS)
def test_a_flipped_weight_of_every_product_is_seen(name: str, tmp_path: Path) -> None:
    model = NETWORKS[name]()
    executor, codes = host_executor(model, tmp_path / "host", lanes=1), graph_codes(model, 40)
    source = next(executor.folder.glob("*_weights.c"))
    text, expected = source.read_text(), trace(model, codes)
    for entry in executor.manifest.products:
        node = model.node(entry.name)
        assert isinstance(node, Conv | MatMul)
        source.write_text(with_flipped_bit(text, entry.symbol, *entry.locate(0, 0)))
        compile_host(executor.folder, executor.manifest, lanes=1)
        vectors = basis_vectors(as_matrix(node), model.values[model.sources(entry.name)[0]], seed=0)
        differs = executor.multiply(entry.name, vectors) != as_matrix(node).apply(vectors)
        assert differs.any(axis=0).tolist() == [True] + [False] * (entry.outputs - 1), "output 0 alone"
        made = executor.trace(codes)
        assert any((made[value].reshape(-1) != expected[value].reshape(-1)).any() for value in made), entry.name


def with_flipped_bit(text: str, symbol: str, word: int, bit: int) -> str:
    """Return the C *text* with one bit of the array *symbol* flipped."""
    start = text.index("{", text.index(f"{symbol}[")) + 1
    end = text.index("}", start)
    words = text[start:end].split(",")
    words[word] = f" 0x{int(words[word].strip().rstrip('u'), 16) ^ 1 << bit:08X}u"
    return text[:start] + ",".join(words) + text[end:]


@pytest.mark.tool
@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(graphs())
def test_random_graphs_equal_the_integer_model_or_are_refused_by_name(graph: Graph) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        model = lower_file(graph.save(folder)).model
        refused = why_refused(model)
        if refused is None:
            require_equal(model, folder / "host", samples=12)
        else:
            assert any(node.name in refused for node in model.nodes), refused


def why_refused(model: IntegerModel) -> str | None:
    """Return why there is no plan for *model*."""
    try:
        plan_network(model)
    except StageError as error:
        return str(error)
    return None


@pytest.mark.tool
@pytest.mark.slow
@NAMED_TENSORS
@pytest.mark.parametrize("name", ["mlp", "cnn", "resnet8", "ds-cnn", "mobilenet-v1", "cnv", "autoencoder"])
def test_the_built_in_networks_equal_the_integer_model(name: str, tmp_path: Path) -> None:
    instance = small(name)
    model = lowered_network(tmp_path / "net", instance, initialized(instance))[1].model
    require_equal(model, tmp_path / "host", samples=20)


@pytest.mark.tool
@pytest.mark.slow
@NAMED_TENSORS
def test_the_binary_network_equals_the_integer_model(tmp_path: Path) -> None:
    instance = small("cnv", weight_bits=1, act_bits=1)
    model = lowered_network(tmp_path / "net", instance, initialized(instance))[1].model
    assert {product.layout.bits for product in plan_network(model).products[1:-1]} == {1}
    require_equal(model, tmp_path / "host", samples=20)


def test_what_takes_accumulators_is_refused_by_name() -> None:
    build = Builder((2, 5, 5))
    build.conv(build.conv(INPUT, 3, window(2)), 2, window(2))
    with pytest.raises(StageError, match="layer 'conv1' takes the accumulators of layer 'conv0'; the C back-end takes"):
        plan_network(build.model())


@pytest.mark.tool
@pytest.mark.parametrize(
    ("name", "core"),
    [
        ("residual", "cortex-m4"),
        ("groups", "cortex-m0"),
        ("line", "cortex-m3"),
        ("every operation", "cortex-m7"),
        ("residual", "cortex-m33"),
        ("groups", "cortex-m55"),
        ("one bit", "cortex-m4"),
        ("one bit", "cortex-m3"),
        ("one bit", "rv32imac"),
        ("every operation", "rv32imac"),
        ("residual", "rv32imac"),
        ("line", "host"),
        ("every operation", "host"),
    ],
)
def test_every_core_equals_the_integer_model_and_a_flipped_weight_is_named(
    name: str, core: CoreName, tmp_path: Path
) -> None:
    model = NETWORKS[name]()
    artifact = built_firmware(model, tmp_path, core)
    executor, codes = executor_on(core, artifact, tmp_path), drawn(model, 24)
    np.testing.assert_array_equal(executor(codes), run(model, codes), strict=True)
    expected, made = trace(model, codes[:3]), executor.trace(codes[:3])
    assert all((made[value] == expected[value]).all() for value in made)
    cost = executor.measure(codes)
    if core != HOST:
        assert 0 < int(cost["instructions_least"]) <= int(cost["instructions_per_inference"])
        estimate, sizes = footprint(model, core), json.loads((artifact.path / "size.json").read_text())
        assert sizes["flash_bytes"] <= estimate.flash_bytes
    product = next(node for node in model.nodes if isinstance(node, Conv))
    flip_weight_bit(artifact.path, node=product.name, row=1, column=2)
    divergence = explain(executor, model, codes, units=True).divergence
    assert divergence is not None
    assert (divergence.layer, divergence.finding.cause) == (product.name, Cause.WRONG_WEIGHT)
    member, *taps = np.unravel_index(2, product.weights.shape[1:])
    assert f"[1, {', '.join(str(int(i)) for i in (member, *taps))}]" in divergence.finding.detail
