"""The resynchronized walk: from the input, take over what a float reference gave after each activation.

A code that floats round the other way changes everything behind it, so outputs that differ say little. The walk gives
each layer the codes that the reference itself gave before it, and calculates the layer exactly. What differs then was
made by that layer alone, and its rounding errors explain it (:mod:`bitproof.export.proofs.float_bounds`) or nothing
does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from bitproof.export.float_reference.outputs import explained_outputs
from bitproof.export.integer import INPUT, IntegerModel, Threshold, TopK
from bitproof.export.proofs import Activations
from bitproof.export.proofs.float_bounds import ActivationBounds, Mask, Seen
from bitproof.pipeline import Codes, Observation, StageError, Unexplained


@dataclass(slots=True)
class Walk:
    """What the walk over some samples found.

    Attributes:
        compared: codes of activations and outputs that were compared, layer by layer.
        explained: how many differ by rounding errors, by layer.
        unexplained: how many differ otherwise, by layer.
        faulty: for each sample whether a difference in it is unexplained.
        differing: for each sample whether any code differs. If none does, all that the reference gave is what the
            integer model gives, by induction along it.
        first: the first unexplained one, by layer, then sample.
    """

    compared: int
    explained: dict[str, int]
    unexplained: dict[str, int]
    faulty: Mask
    differing: Mask
    first: Unexplained | None = None


@dataclass(slots=True)
class _State:
    """The values of one walk, by the name of the node that made them, and the magnitudes behind them."""

    values: dict[str, Codes]
    magnitudes: dict[str, Codes] = field(default_factory=dict)


def walk(
    model: IntegerModel,
    codes: Codes,
    observation: Observation,
    activations: Callable[[], Activations],
    *,
    precision: int,
) -> Walk:
    """Walk along *model* on *codes*, shape (N, inputs), beside what a float reference gave.

    Args:
        model: the integer model.
        codes: input codes.
        observation: what the reference gave on them.
        activations: gives the exact activations; asked only if something differs.
        precision: bits of the significand of the reference's floats.
    """
    differs = _differing_samples(model, codes, observation)
    compared = sum(layer.size for layer in observation.layers.values()) + observation.codes.size
    found = Walk(compared, {}, {}, np.zeros(len(codes), dtype=np.bool_), differs)
    (chosen,) = np.nonzero(differs)
    if len(chosen):
        part = Observation(
            {name: layer[chosen] for name, layer in observation.layers.items()},
            observation.outputs[chosen],
            observation.codes[chosen],
        )
        _Explainer(model, activations(), part, precision, chosen, found).run(codes[chosen])
    return found


def _differing_samples(model: IntegerModel, codes: Codes, observation: Observation) -> Mask:
    """Return which samples differ anywhere, an activation or an output, with the reference's codes taken over."""
    values = {INPUT: codes.reshape(len(codes), *model.shape)}
    differs = np.zeros(len(codes), dtype=np.bool_)
    pending = _last_uses(model)
    for node, sources in model.wired():
        made = node.apply(*(values[source] for source in sources))
        seen = observation.layers.get(node.name)
        if seen is not None and isinstance(node, Threshold):
            if seen.shape != made.shape:
                raise StageError(f"the reference gives {node.name} the shape {seen.shape}; expected {made.shape}")
            differs |= (seen != made).reshape(len(codes), -1).any(axis=1)
            made = seen
        values[node.name] = made
        for source in pending.get(node.name, ()):
            del values[source]
    last: Mask = (values[model.nodes[-1].name].reshape(len(codes), -1) != observation.codes).any(axis=1)
    return differs | last


def values_beside(model: IntegerModel, codes: Codes, observation: Observation, name: str) -> dict[str, Codes]:
    """Return what *model* makes of *codes* up to the node *name*, with the reference's codes taken over before it."""
    values = {INPUT: codes.reshape(len(codes), *model.shape)}
    for node, sources in model.wired():
        values[node.name] = node.apply(*(values[source] for source in sources))
        if node.name == name:
            return values
        seen = observation.layers.get(node.name)
        values[node.name] = values[node.name] if seen is None else seen
    raise KeyError(name)


def _last_uses(model: IntegerModel) -> dict[str, tuple[str, ...]]:
    """Return for each node the values that nothing behind it takes."""
    users = {source: node.name for node, sources in model.wired() for source in sources}
    return {user: tuple(s for s, last in users.items() if last == user) for user in set(users.values())}


class _Explainer:
    """One walk over samples that differ, with the magnitudes behind every value."""

    def __init__(
        self,
        model: IntegerModel,
        activations: Activations,
        observation: Observation,
        precision: int,
        samples: Codes,
        found: Walk,
    ) -> None:
        self._model, self._activations, self._observation = model, activations, observation
        self._precision, self._samples, self._found = precision, samples, found

    def run(self, codes: Codes) -> None:
        """Walk on *codes*, shape (N, inputs), and note what is found."""
        model = self._model
        start = codes.reshape(len(codes), *model.shape)
        state = _State({INPUT: start}, {INPUT: np.abs(start)})
        pending = _last_uses(model)
        for node, sources in model.wired():
            made = node.apply(*(state.values[source] for source in sources))
            seen = self._observation.layers.get(node.name)
            if isinstance(node, TopK):
                self._note_outputs(made, state, sources[0])
                return
            if isinstance(node, Threshold):
                if seen is not None:
                    self._note_layer(node, sources[0], state, made, seen)
                    made = seen
                state.magnitudes[node.name] = np.abs(made)
            else:
                magnitudes = [state.magnitudes[source] for source in sources]
                state.magnitudes[node.name] = node.of_magnitudes().apply(*magnitudes)
            state.values[node.name] = made
            for source in pending.get(node.name, ()):
                del state.values[source], state.magnitudes[source]
        self._note_outputs(state.values[model.nodes[-1].name], state, model.nodes[-1].name)

    def _note_layer(self, node: Threshold, source: str, state: _State, made: Codes, seen: Codes) -> None:
        at = np.nonzero(seen != made)
        if not len(at[0]):
            return
        accumulators = state.values[source][at]
        codes = Seen(at[1], accumulators, state.magnitudes[source][at], made[at], seen[at])
        activations = self._activations.get(node.name)
        if activations is None:
            explained = np.zeros(len(at[0]), dtype=np.bool_)
        else:
            bounds = ActivationBounds.of(node, activations, self._precision)
            explained = bounds.explain(codes, self._model.values[source].sums.terms)
        self._note(node.name, at, explained, accumulators, made, seen)

    def _note_outputs(self, made: Codes, state: _State, source: str) -> None:
        expected = made.reshape(len(made), -1)
        at = np.nonzero(self._observation.codes != expected)
        if not len(at[0]):
            return
        explained = explained_outputs(
            self._model,
            self._observation,
            state.values[source] if isinstance(self._model.nodes[-1], TopK) else made,
            state.magnitudes[source],
            self._model.values[source].sums,
            self._precision,
        )
        actual = self._observation.codes.reshape(made.shape)
        at = np.nonzero(actual != made)
        self._note(self._model.nodes[-1].name, at, explained.reshape(made.shape)[at], made[at], made, actual)

    def _note(
        self,
        layer: str,
        at: tuple[Codes, ...],
        explained: Mask,
        accumulators: Codes,
        expected: Codes,
        actual: Codes,
    ) -> None:
        found, count = self._found, int(explained.sum())
        if count:
            found.explained[layer] = found.explained.get(layer, 0) + count
        wrong = np.flatnonzero(~explained)
        if not len(wrong):
            return
        found.unexplained[layer] = found.unexplained.get(layer, 0) + len(wrong)
        found.faulty[self._samples[at[0][wrong]]] = True
        if found.first is None:
            first = tuple(int(axis[wrong[0]]) for axis in at)
            found.first = Unexplained(
                layer=layer,
                sample=int(self._samples[first[0]]),
                channel=first[1],
                position=first[2:],
                accumulator=int(accumulators[wrong[0]]),
                expected=int(expected[first]),
                actual=int(actual[first]),
            )
