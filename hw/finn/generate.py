"""Width converters, FIFOs and the RTL of every node, by FINN's code generation; stitching follows.

Runs in the child process only. Every file is written with its final name and without paths of this machine.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
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

from bitproof.hw.rtl.description import FIFO, MATRIX_UNIT, THRESHOLDING, WIDTH_CONVERTER
from bitproof.pipeline import StageError

NODES = "nodes.json"
UNUSED_SOURCES = ("fifo_gauge.sv",)
"""Listed by FINN, but instantiated only where FINN_SIMULATION is defined."""
WEIGHT_MEMORY_SOURCES = ("memstream/hdl/memstream_axi.sv", "memstream/hdl/memstream.sv", "axi/hdl/axilite.sv")
"""What a matrix unit with its weights on chip needs and FINN does not list."""
INPUT_PORT, OUTPUT_PORT = "in0_V", "out0_V"


def generate_rtl(path: Path, out: Path, *, part: str, clock_ns: int, fifo_depth: int) -> None:
    """Write ``nodes.json``, ``rtl/`` and ``data/`` for the folded graph at *path* into *out*.

    Raises:
        StageError: a node is not RTL, or has streams that the stitcher does not connect.
    """
    graph = insert_converters(ModelWrapper(str(path)), part, fifo_depth)
    graph = graph.transform(PrepareIP(part, float(clock_ns)))
    for name in ("rtl", "data"):
        (out / name).mkdir()
    nodes = [_describe(node) for node in graph.graph.node]
    _require_chain(graph)
    sources: list[str] = []
    for node, entry in zip(graph.graph.node, nodes, strict=True):
        for source in _write_sources(getCustomOp(node), entry, out):
            if source not in sources:
                sources.append(source)
    sources.sort(key=lambda name: not name.endswith("_pkg.sv"))
    (out / NODES).write_text(json.dumps({"nodes": nodes, "sources": sources}, indent=1, sort_keys=True) + "\n")


def insert_converters(graph: ModelWrapper, part: str, fifo_depth: int) -> ModelWrapper:
    """Put a width converter where two streams differ, and a FIFO of at least *fifo_depth* words between all nodes."""
    for node in graph.graph.node:
        inst = getCustomOp(node)
        inst.set_nodeattr("outFIFODepths", [fifo_depth])
        inst.set_nodeattr("inFIFODepths", [fifo_depth] * len(inst.get_nodeattr("inFIFODepths")))
    for transformation in (
        InsertDWC(),
        SpecializeLayers(part),
        InsertFIFO(create_shallow_fifos=True),
        SpecializeLayers(part),
        GiveUniqueNodeNames(),
        GiveReadableTensorNames(),
    ):
        graph = graph.transform(transformation)
    return graph


def _require_chain(graph: ModelWrapper) -> None:
    current = graph.graph.input[0].name
    for node in graph.graph.node:
        if node.input[0] != current or len(node.output) != 1:
            raise StageError(f"{node.name} does not continue the chain at {current}; only chains are stitched")
        current = node.output[0]


def _describe(node: NodeProto) -> dict[str, Any]:
    inst = getCustomOp(node)
    if not node.op_type.endswith("_rtl"):
        raise StageError(f"FINN has no RTL for node {node.name}: it chose {node.op_type}")
    ports = inst.get_verilog_top_module_intf_names()
    names = [port for port, _ in ports["s_axis"]], [port for port, _ in ports["m_axis"]]
    if names != ([INPUT_PORT], [OUTPUT_PORT]):
        raise StageError(f"{node.name} has streams {names}; only one input and one output are stitched")
    return {
        "name": node.name,
        "op": node.op_type,
        "module": inst.get_verilog_top_module_name(),
        "input": _stream(inst.get_input_datatype(0), inst.get_folded_input_shape(0)),
        "output": _stream(inst.get_output_datatype(), inst.get_folded_output_shape()),
        "parameters": _parameters(inst, node.op_type),
    }


def _stream(datatype: BaseDataType, folded: tuple[int, ...]) -> dict[str, Any]:
    elements = int(folded[-1])
    return {
        "bits": int(datatype.bitwidth()),
        "signed": bool(datatype.signed()),
        "elements": elements,
        "words": int(np.prod(folded)) // elements,
    }


def _parameters(inst: HWCustomOp, op: str) -> dict[str, int]:
    attributes = {
        MATRIX_UNIT: ("MW", "MH", "PE", "SIMD"),
        THRESHOLDING: ("PE",),
        FIFO: ("depth",),
        WIDTH_CONVERTER: (),
    }[op]
    parameters = {name: int(inst.get_nodeattr(name)) for name in attributes}
    if op == MATRIX_UNIT:
        parameters["weight_bits"] = int(inst.get_input_datatype(1).bitwidth())
    if op == THRESHOLDING:
        parameters["channels"] = int(inst.get_nodeattr("NumChannels"))
        parameters["levels"] = int(inst.get_nodeattr("numSteps"))
        parameters["threshold_bits"] = int(inst.get_input_datatype(1).bitwidth())
    return parameters


def _write_sources(inst: HWCustomOp, entry: dict[str, Any], out: Path) -> list[str]:
    """Copy the sources and memory files of one node; return the names of the sources."""
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
        for memory in sorted(generated.glob("*_threshs_*.dat")):
            shutil.copyfile(memory, out / "data" / memory.name)
    for path in paths:
        text = path.read_text()
        text = text.replace(f"{generated}/memblock.dat", f"data/{entry['name']}_memblock.dat")
        text = text.replace(f'"./{entry["name"]}_"', f'"data/{entry["name"]}_"')
        if str(generated) in text:
            raise StageError(f"{path.name} of {entry['name']} holds the build path {generated}")
        (out / "rtl" / path.name).write_text(text)
    return [path.name for path in paths]
