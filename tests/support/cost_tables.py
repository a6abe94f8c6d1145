"""Tables of times that are made up: for each kind of layer one construction is the cheapest."""

from __future__ import annotations

from typing import get_args

from bitproof.export.onnx_int8.costs import CostTable, Kind, LayerShape, MeasuredLayer, Way, ways_of


def made_up(cheapest: Way, *, ps: int = 1000) -> CostTable:
    """Return a table in which *cheapest* takes *ps* picoseconds, where a kind has it, and all else ten times that."""
    layers = []
    for kind in get_args(Kind):
        shape = LayerShape(kind=kind, inputs=1, outputs=1, window=1, positions=1)
        times = {way: ps if way == cheapest else 10 * ps for way in ways_of(kind)}
        layers.append(MeasuredLayer(shape=shape, samples=1, times_ps=times))
    return CostTable(machine="made up", onnxruntime="0", date="2000-01-01", layers=tuple(layers))
