"""Width converters, FIFOs and the RTL of every node, by FINN's code generation and our modules; stitching follows.

Runs in the child process only. Every file is written with its final name and without paths of this machine.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

from finn.custom_op.fpgadataflow.hwcustomop import HWCustomOp
from finn.transformation.fpgadataflow.insert_dwc import InsertDWC
from finn.transformation.fpgadataflow.insert_fifo import InsertFIFO
from finn.transformation.fpgadataflow.prepare_ip import PrepareIP
from finn.transformation.fpgadataflow.specialize_layers import SpecializeLayers
from finn.util.settings import get_settings
from onnx import NodeProto
from qonnx.core.datatype import BaseDataType
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.custom_op.registry import getCustomOp
from qonnx.transformation.general import GiveReadableTensorNames, GiveUniqueNodeNames

from bitproof.hw.finn.fifo_depths import Slowest, set_fifo_depths
from bitproof.hw.finn.own_layers import DOMAIN, OwnLayer
from bitproof.hw.rtl.modules import FOLDER
from bitproof.hw.rtl.providers import (
    FIFO,
    MATRIX_UNIT,
    PROVIDERS,
    THRESHOLDING,
)
from bitproof.pipeline import StageError

NODES = "nodes.json"
UNUSED_SOURCES = ("fifo_gauge.sv",)
"""Listed by FINN, but instantiated only where FINN_SIMULATION is defined."""
WEIGHT_MEMORY_SOURCES = ("memstream/hdl/memstream_axi.sv", "memstream/hdl/memstream.sv", "axi/hdl/axilite.sv")
"""What a matrix unit with its weights on chip needs and FINN does not list."""
PARAMETERS: Mapping[str, Mapping[str, str]] = {
    MATRIX_UNIT: {"MW": "MW", "MH": "MH", "PE": "PE", "SIMD": "SIMD"},
    THRESHOLDING: {"PE": "PE", "NumChannels": "channels", "numSteps": "levels"},
    FIFO: {"depth": "depth"},
}
"""What the benches need to know of each operation: FINN's attribute, and our name for it."""


def generate_rtl(path: Path, out: Path, *, part: str, clock_ns: int, fifo_depth: int) -> None:
    """Write ``nodes.json``, ``rtl/`` and ``data/`` for the folded graph at *path* into *out*.

    Raises:
        StageError: a node is not RTL, or has streams that the stitcher does not connect.
    """
    graph, slowest = insert_converters(ModelWrapper(str(path)), part, fifo_depth)
    graph = graph.transform(PrepareIP(part, float(clock_ns)))
    for name in ("rtl", "data"):
        (out / name).mkdir()
    nodes = [_describe(node) for node in graph.graph.node]
    sources: list[str] = []
    for node, entry in zip(graph.graph.node, nodes, strict=True):
        for source in _write_sources(getCustomOp(node), entry, out):
            if source not in sources:
                sources.append(source)
    sources.sort(key=lambda name: not name.endswith("_pkg.sv"))
    described = {
        "nodes": nodes,
        "sources": sources,
        "input_stream": graph.graph.input[0].name,
        "output_stream": graph.graph.output[0].name,
        "slowest_node": slowest.node,
        "slowest_cycles": slowest.cycles,
    }
    (out / NODES).write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")


def insert_converters(graph: ModelWrapper, part: str, fifo_depth: int) -> tuple[ModelWrapper, Slowest]:
    """Put a width converter where two streams differ, and a FIFO of at least *fifo_depth* words between all nodes."""
    for transformation in (InsertDWC(), SpecializeLayers(part), GiveUniqueNodeNames()):
        graph = graph.transform(transformation)
    slowest = set_fifo_depths(graph, fifo_depth)
    for transformation in (
        InsertFIFO(create_shallow_fifos=True),
        SpecializeLayers(part),
        GiveUniqueNodeNames(),
        GiveReadableTensorNames(),
    ):
        graph = graph.transform(transformation)
    return graph, slowest


def _describe(node: NodeProto) -> dict[str, Any]:
    inst = getCustomOp(node)
    if node.op_type not in PROVIDERS or (node.domain == DOMAIN) != (PROVIDERS[node.op_type].origin == "bitproof"):
        raise StageError(f"there is no RTL for node {node.name}: FINN chose {node.op_type}")
    ports = inst.get_verilog_top_module_intf_names()
    return {
        "name": node.name,
        "op": node.op_type,
        "module": inst.get_verilog_top_module_name(),
        "inputs": [
            _port(
                ports["s_axis"][index],
                node.input[index],
                inst.get_input_datatype(index),
                inst.get_folded_input_shape(index),
            )
            for index in range(len(ports["s_axis"]))
        ],
        "outputs": [
            _port(
                ports["m_axis"][index],
                node.output[index],
                inst.get_output_datatype(index),
                inst.get_folded_output_shape(index),
            )
            for index in range(len(ports["m_axis"]))
        ],
        "parameters": _parameters(inst, node.op_type),
    }


def _port(port: tuple[str, int], stream: str, datatype: BaseDataType, folded: tuple[int, ...]) -> dict[str, Any]:
    elements = int(folded[-1])
    layout = {
        "bits": int(datatype.bitwidth()),
        "signed": bool(datatype.signed()),
        "elements": elements,
        "words": prod(map(int, folded)) // elements,
    }
    return {"port": port[0], "stream": stream, "layout": layout}


def _parameters(inst: HWCustomOp, op: str) -> dict[str, int]:
    if isinstance(inst, OwnLayer):
        return inst.bench_parameters()
    parameters = {name: int(inst.get_nodeattr(key)) for key, name in PARAMETERS.get(op, {}).items()}
    if op == MATRIX_UNIT:
        parameters["weight_bits"] = int(inst.get_input_datatype(1).bitwidth())
    if op == THRESHOLDING:
        parameters["threshold_bits"] = int(inst.get_input_datatype(1).bitwidth())
    return parameters


def _write_sources(inst: HWCustomOp, entry: dict[str, Any], out: Path) -> Iterator[str]:
    """Write the sources and memory files of one node; yield the names of the sources."""
    if isinstance(inst, OwnLayer):
        module = inst.module()
        for source in module.sources:
            shutil.copyfile(FOLDER / source, out / "rtl" / source)
        (out / "rtl" / f"{entry['name']}.v").write_text(module.wrapper(entry["module"]))
        for memory, text in module.memory_files(entry["name"]).items():
            (out / memory).write_text(text)
        yield from (*module.sources, f"{entry['name']}.v")
        return
    generated = Path(inst.get_nodeattr("code_gen_dir_ipgen"))
    library = Path(get_settings().finn_rtllib)
    paths = [Path(path) for path in inst.get_rtl_file_list(abspath=True) if Path(path).name not in UNUSED_SOURCES]
    if entry["op"] == MATRIX_UNIT:
        if inst.get_nodeattr("mem_mode") != "internal_decoupled":
            raise StageError(f"{entry['name']} keeps its weights in {inst.get_nodeattr('mem_mode')}; not stitched")
        paths += [library / name for name in WEIGHT_MEMORY_SOURCES]
        paths.append(generated / f"{entry['module']}_memstream_wrapper.v")
        shutil.copyfile(generated / "memblock.dat", out / "data" / f"{entry['name']}_memblock.dat")
    if entry["op"] == THRESHOLDING:
        for threshold_file in sorted(generated.glob("*_threshs_*.dat")):
            shutil.copyfile(threshold_file, out / "data" / threshold_file.name)
    for path in paths:
        text = path.read_text()
        text = text.replace(f"{generated}/memblock.dat", f"data/{entry['name']}_memblock.dat")
        text = text.replace(f'"./{entry["name"]}_"', f'"data/{entry["name"]}_"')
        if str(generated) in text:
            raise StageError(f"{path.name} of {entry['name']} holds the build path {generated}")
        (out / "rtl" / path.name).write_text(text)
        yield path.name
