"""The test bench module: the stitched top and every product and activation alone, each on a clock of its own.

One model is compiled instead of one per unit, because compiling takes far longer than simulating. Only the clock of the
unit under test runs, so the others cost next to nothing and keep their state out of the way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bitproof.hw.rtl.description import TOP, RtlDescription, RtlNode
from bitproof.hw.rtl.providers import PRODUCTS, REQUANTIZERS
from bitproof.hw.rtl.stream import StreamLayout
from bitproof.hw.rtl.top import Stream, instance

BENCH = "bench"


@dataclass(frozen=True, slots=True)
class Unit:
    """What one clock of the bench drives.

    Attributes:
        index: the bit of ``clock``, and the value of ``unit`` that selects its output.
        name: name of its instance.
        node: the node; None for the stitched top.
        input: its input stream, of one sample for the top, of one vector for a unit.
        output: its output stream.
    """

    index: int
    name: str
    node: RtlNode | None
    input: StreamLayout
    output: StreamLayout


def bench_units(description: RtlDescription) -> tuple[Unit, ...]:
    """Return the units of the bench: the stitched top, the products, the activations."""
    nodes = (node for op in (*PRODUCTS, *REQUANTIZERS) for node in description.units(op))
    alone = (Unit(i, f"unit_{node.name}", node, node.input, node.output) for i, node in enumerate(nodes, start=1))
    return (Unit(0, "top", None, description.input, description.output), *alone)


def bench_module(units: Sequence[Unit], monitors: str = "") -> str:
    """Return the Verilog module ``bench`` with all *units*, and the *monitors* of the top."""
    input_bits = max(unit.input.width_bits for unit in units)
    output_bits = max(unit.output.width_bits for unit in units)
    header = (
        f"module {BENCH} (\n  input [{len(units) - 1}:0] clock,\n  input [15:0] unit,\n  input reset_n,\n"
        f"  input [{input_bits - 1}:0] in_data,\n  input in_valid,\n  output logic in_ready,\n"
        f"  output logic [{output_bits - 1}:0] out_data,\n  output logic out_valid,\n  input out_ready\n);\n"
    )
    lines = [header]
    cases = []
    for unit in units:
        name = unit.name
        source = Stream(f"in_data[{unit.input.width_bits - 1}:0]", "in_valid", f"{name}_in_ready")
        target = Stream.named(f"{name}_out")
        lines.append(
            f"  wire {source.ready};\n  wire [{unit.output.width_bits - 1}:0] {target.data};\n  wire {target.valid};\n"
        )
        wired = Stream(target.data, target.valid, "out_ready")
        lines.append(_instance(unit, source, wired))
        cases.append(
            f"      {unit.index}: begin in_ready = {source.ready}; out_valid = {target.valid}; "
            f"out_data = {output_bits}'({target.data}); end\n"
        )
    lines.append(monitors)
    lines.append("  always_comb begin\n    in_ready = 0; out_valid = 0; out_data = '0;\n    case (unit)\n")
    lines += [*cases, "      default: begin end\n    endcase\n  end\nendmodule\n"]
    return "".join(lines)


def _instance(unit: Unit, source: Stream, target: Stream) -> str:
    clock = f"clock[{unit.index}]"
    if unit.node is not None:
        ((taken,), (given,)) = unit.node.inputs, unit.node.outputs
        streams = {taken.stream: source, given.stream: target}
        return instance(unit.node, unit.name, clock=clock, reset_n="reset_n", streams=streams)
    return (
        f"  {TOP} {unit.name} (\n    .ap_clk({clock}),\n    .ap_rst_n(reset_n),\n"
        f"    .s_axis_tdata({source.data}),\n    .s_axis_tvalid({source.valid}),\n    .s_axis_tready({source.ready}),\n"
        f"    .m_axis_tdata({target.data}),\n    .m_axis_tvalid({target.valid}),\n    .m_axis_tready({target.ready})\n"
        "  );\n"
    )
