"""The layers that hardware is built of, from the steps of a program; what has no form is refused by name."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from bitproof.export.integer import (
    INPUT,
    Affine,
    Conv,
    IntegerModel,
    IntegerType,
    MatMul,
    MaxPool,
    Shape,
)
from bitproof.export.program.program import Program
from bitproof.export.program.schedule import schedule
from bitproof.export.program.step import Step
from bitproof.hw.finn.activations import bipolar_codes
from bitproof.hw.finn.host_turns import MOVING, input_order, input_shape, named, output_shape
from bitproof.hw.finn.layers import Depthwise, Fork, Hardware, Layer, Product, stream_shape
from bitproof.hw.finn.step_layers import StepLayers, Stream
from bitproof.hw.finn.stream_names import StreamNames
from bitproof.hw.finn.supported import TARGET, wide_enough
from bitproof.pipeline import StageError


def hardware_of(model: IntegerModel) -> Hardware:
    """Return what FINN builds of *model*.

    Raises:
        StageError: FINN's RTL layers and ours cannot carry it out; the message names the layer and what would work.
    """
    return _Walk(schedule(model, "channels-last", pooled=())).hardware()


def require_supported(model: IntegerModel) -> None:
    """Check that FINN's RTL layers and ours can carry out *model*.

    Raises:
        StageError: they cannot; the message names the layer and what would work.
    """
    hardware_of(model)


@dataclass
class _Walk:
    """The state of one walk.

    Attributes:
        program: what is walked through.
        steps: those that compute.
        given: name of the stored value that the host gives.
        streams: those of the stored values, by their names.
        layers: those made so far.
        kinds: types of all streams, by their names.
        names: those in use.
    """

    program: Program
    steps: tuple[Step, ...] = field(init=False)
    given: str = field(init=False)
    streams: dict[str, Stream] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    kinds: dict[str, IntegerType] = field(default_factory=dict)
    names: StreamNames = field(init=False)

    def __post_init__(self) -> None:
        self.steps = _computing(self.program)
        self.names = StreamNames([INPUT, *(node.name for node in self.program.model.nodes)])
        self.given = self.program.values[self.steps[0].takes[0]].storage

    def hardware(self) -> Hardware:
        """Walk from the input to the output.

        Raises:
            StageError: there is no way, or a layer on it has no form.
        """
        program, first, last = self.program, self.steps[0], self.steps[-1]
        source = wide_enough(program.model.input)
        self.streams[self.given] = Stream(INPUT, source)
        self.kinds[INPUT] = source
        bias, bits = _output_bias(program, last), _bits(program, self.steps)
        for step in self.steps:
            self._require_places(step)
            taken = tuple(self.streams[program.values[name].storage] for name in step.takes)
            made = StepLayers(program, step, taken, self.given, bits, self.names)
            for layer in made.layers(step.after[:-1] if bias and step is last else step.after):
                self.layers.append(layer)
                self.kinds[layer.makes] = made.stream.kind
            self.streams[step.makes] = made.stream
        if not any(isinstance(layer, Product | Depthwise) for layer in self.layers):
            raise StageError(f"the network has no matrix product; {TARGET} is made for networks with one at least")
        inputs = input_shape(program, first, first.takes[0])
        outputs = output_shape(program, last.makes)
        return Hardware(source, inputs, outputs, tuple(self._forked(stream_shape(inputs))), bias)

    def _require_places(self, step: Step) -> None:
        """Check that the codes which *step* takes lie where layers left them, or the host.

        Raises:
            StageError: they do not.
        """
        program, first = self.program, self.steps[0]
        for name in step.takes:
            held = program.values[name].storage
            if held not in self.streams:
                moving = [other.main for other in program.steps if other.makes == held]
                raise StageError(
                    f"{TARGET} has no form for {named(moving) or held}, which moves codes on the way; move them at the "
                    "input"
                )
            if held == self.given and step is not first:
                one, other = (input_order(program, *taken)[0] for taken in ((first, first.takes[0]), (step, name)))
                if not np.array_equal(one, other):
                    raise StageError(
                        f"layers {first.name!r} and {step.name!r} take the input in different orders; {TARGET} takes "
                        "it in one. Let both take it in the same shape"
                    )

    def _forked(self, inputs: Shape) -> Iterator[Layer]:
        """Yield the layers, with forks where several take one stream."""
        shapes = {INPUT: inputs, **{layer.makes: layer.shape for layer in self.layers}}
        readers = Counter(name for layer in self.layers for name in layer.takes)
        for layer in self.layers[:-1]:
            if not readers[layer.makes]:
                raise StageError(f"nothing takes what layer {layer.name!r} makes; remove it from the network")
        branches: dict[str, list[str]] = defaultdict(list)

        def forks(name: str) -> Iterator[Layer]:
            taken = name
            for number in range(readers[name] - 1):
                one, also = (self.names.derived(name, f"{side}{number}") for side in ("branch", "rest"))
                yield Fork(name, (taken,), one, shapes[name], self.kinds[name], also)
                branches[name].append(one)
                taken = also
            branches[name].append(taken)

        yield from forks(INPUT)
        for layer in self.layers:
            yield replace(layer, takes=tuple(branches[name].pop(0) for name in layer.takes))
            yield from forks(layer.makes)


def _computing(program: Program) -> tuple[Step, ...]:
    """Return the steps from the first to the last that computes: what others move, the host moves."""
    at = [number for number, step in enumerate(program.steps) if not isinstance(step.main, MOVING)]
    if not at:
        raise StageError(f"the network has no matrix product; {TARGET} is made for networks with one at least")
    return tuple(step for step in program.steps[at[0] : at[-1] + 1] if not isinstance(step.main, MOVING))


def _output_bias(program: Program, last: Step) -> tuple[int, ...]:
    """Return the bias of each output in the order of the model, if the network ends with one; empty: it does not."""
    node = last.after[-1] if last.after else None
    if not isinstance(node, Affine) or not node.is_bias:
        return ()
    shape = program.values[last.makes].shape
    if len(output_shape(program, last.makes)) < len(shape) and prod(shape[1:]) > 1:
        return ()
    return tuple(np.repeat(node.offsets, prod(shape[1:])).tolist())


def _bits(program: Program, steps: Sequence[Step]) -> frozenset[str]:
    """Return the activations of bipolar codes that products alone take, which our matrix unit takes as bits."""
    readers: dict[str, list[Step]] = defaultdict(list)
    for step in steps:
        for name in step.takes:
            readers[program.values[name].storage].append(step)

    def taken(value: str) -> bool:
        return bool(readers[value]) and all(_takes_bits(step, taken) for step in readers[value])

    return frozenset(
        step.thresholds.name
        for step in steps
        if step.thresholds is not None and bipolar_codes(step.thresholds) and taken(step.makes)
    )


def _takes_bits(step: Step, taken: Callable[[str], bool]) -> bool:
    """Tell whether *step* takes bipolar codes as bits: no code 0 is put around them, and products alone take maxima."""
    main = step.main
    if step.padding is not None or (isinstance(main, Conv | MaxPool) and main.window.padded):
        return False
    return isinstance(main, MatMul | Conv) or (isinstance(main, MaxPool) and not step.after and taken(step.makes))
