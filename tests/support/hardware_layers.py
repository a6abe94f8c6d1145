"""The layers of hardware, executed by their definitions: what FINN and the RTL have to equal."""

from __future__ import annotations

import numpy as np

from bitproof.export.integer import INPUT
from bitproof.hw.finn.layers import (
    Activation,
    Arithmetic,
    Depthwise,
    Fork,
    Frame,
    Hardware,
    Junction,
    Layer,
    Product,
    Reduction,
    Scaling,
    Selection,
    Sum,
    Windows,
)
from bitproof.hw.rtl.host_order import from_stream, to_stream
from bitproof.pipeline import Codes


def interpret(hardware: Hardware, codes: Codes) -> Codes:
    """Return what the layers make of *codes*; every stream is taken once."""
    streams = {INPUT: to_stream(codes, hardware.input_shape)}
    for layer in hardware.layers:
        made = made_by(layer, *(streams.pop(name) for name in layer.takes))
        assert made.shape[1:] == layer.shape, layer
        streams[layer.makes] = made
        if isinstance(layer, Fork):
            streams[layer.also] = made
    (values,) = streams.values()
    outputs = from_stream(values.reshape(len(codes), -1), hardware.output_shape)
    return outputs + np.array(hardware.output_bias, dtype=np.int64) if hardware.output_bias else outputs


def made_by(layer: Layer, *taken: Codes) -> Codes:
    """Return what *layer* makes of the streams that it takes, shape (N, *shape)."""
    values, samples = taken[0], len(taken[0])
    if isinstance(layer, Windows):
        lie = layer.window
        image = np.moveaxis(values.reshape(samples, *layer.source), -1, 1)
        counts = lie.output_sizes(layer.source[:2])
        taps = [met for _, met in lie.taps(lie.pad(image, 0), counts)]
        return np.moveaxis(np.stack(taps, axis=1), 2, 1).transpose(0, 3, 4, 2, 1).reshape(samples, *layer.shape)
    if isinstance(layer, Frame):
        image = np.moveaxis(values.reshape(samples, *layer.source), -1, 1)
        framed: Codes = np.moveaxis(layer.window.pad(image, layer.code), 1, -1)
        return framed
    if isinstance(layer, Product):
        vectors = values.reshape(-1, layer.node.inputs)
        vectors = vectors if layer.logic is None else layer.logic[0].integers(vectors)
        return layer.node.apply(vectors).reshape(samples, *layer.shape)
    if isinstance(layer, Depthwise):
        channels, taps = layer.weights.shape
        windows = values.reshape(samples, *layer.shape[:-1], taps, channels)
        windows = layer.codes.integers(windows)
        sums: Codes = (windows * layer.weights.T).sum(axis=-2)
        return sums
    if isinstance(layer, Activation | Arithmetic):
        node = layer.node if isinstance(layer, Activation) else layer.unit.place.node
        return node.apply(values.reshape(-1, layer.shape[-1])).reshape(samples, *layer.shape)
    if isinstance(layer, Sum):
        one, two = (stream.reshape(samples, *layer.shape) for stream in taken)
        total: Codes = one * layer.factors[0] + two * layer.factors[1] + layer.offsets
        return total
    if isinstance(layer, Scaling):
        return values.reshape(samples, *layer.shape) * layer.factors + layer.offsets
    if isinstance(layer, Junction):
        sizes = (samples, *layer.shape[:-1])
        return np.concatenate([s.reshape(*sizes, n) for s, n in zip(taken, layer.channels, strict=True)], axis=-1)
    if isinstance(layer, Selection):
        order = np.argsort(-values.reshape(samples, -1), axis=1, kind="stable")
        return order[:, : layer.shape[0]].astype(np.int64)
    if isinstance(layer, Fork):
        return values.reshape(samples, *layer.shape)
    assert isinstance(layer, Reduction)
    windows = values.reshape(samples, *layer.shape[:2], layer.taps, layer.shape[2])
    reduced: Codes = windows.max(axis=3) if layer.function == "max" else windows.sum(axis=3)
    return reduced
