"""From the integer model to a program: which nodes are carried out together, and which values are stored at all.

* A Pad goes into the product behind it, a rescaling (Affine) into the sum behind it.
* A bias or rescaling (Affine) and thresholds go into the product, pool or join before them.
* A max pool behind thresholds goes before them, onto the accumulators: thresholds never fall (:class:`Threshold` counts
  how many an accumulator reaches), so the largest code is that of the largest accumulator, and a quarter of the
  requantizations is left for a pool of 2 x 2.
* A Reshape is a view, and so is a Transpose that leaves the order of the codes: nothing is moved for them. Several
  that end at the shape from which they began do not keep what lies around them from being carried out together.

Only a value that nothing else reads disappears into a step.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from math import prod

import numpy as np

from bitproof.export.integer import (
    INPUT,
    Add,
    Affine,
    Concat,
    Conv,
    IntegerModel,
    MatMul,
    MaxPool,
    Node,
    Pad,
    Reshape,
    SumPool,
    Threshold,
    TopK,
    Transpose,
)
from bitproof.export.program.program import Program, Value
from bitproof.export.program.step import Kind, Step

KINDS: dict[type[Node], Kind] = {
    MatMul: "multiply",
    Conv: "multiply",
    MaxPool: "pool",
    SumPool: "pool",
    Add: "join",
    Concat: "join",
    Pad: "move",
    Transpose: "move",
    Threshold: "requantize",
    Affine: "requantize",
    TopK: "select",
}


def schedule(model: IntegerModel) -> Program:
    """Return the program of *model*."""
    return _Scheduling(model).program()


@dataclass
class _Scheduling:
    """The state of one scheduling."""

    model: IntegerModel
    readers: Counter[str] = field(default_factory=Counter)
    following: dict[str, Node] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    taken_along: set[str] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)

    def program(self) -> Program:
        """Schedule node after node."""
        for node, sources in self.model.wired():
            for source in sources:
                self.readers[source] += 1
                self.following[source] = node
        self.taken_along = self._taken_along()
        for node, sources in self.model.wired():
            if node.name in self.done or node.name in self.taken_along:
                continue
            if self._moves_nothing(node):
                self.views[node.name] = sources[0]
                continue
            self._add(node, sources)
        return Program(self.model, tuple(self.steps), self._values(), self.model.nodes[-1].name)

    def _next(self, name: str) -> Node | None:
        """Return the node behind the value *name*, if nothing else reads it."""
        return self.following[name] if self.readers[name] == 1 else None

    def _taken_along(self) -> set[str]:
        """Return the nodes that the step of the node behind them carries out on its input."""
        found = set()
        for node in self.model.nodes:
            behind = self._next(node.name)
            if (isinstance(node, Pad) and isinstance(behind, Conv)) or (
                isinstance(node, Affine) and isinstance(behind, Add)
            ):
                found.add(node.name)
        return found

    def _moves_nothing(self, node: Node) -> bool:
        if isinstance(node, Reshape):
            return True
        if not isinstance(node, Transpose):
            return False
        shape = self.model.shapes()[self.model.sources(node.name)[0]]
        order = np.arange(prod(shape), dtype=np.int64).reshape(1, *shape)
        return bool((node.apply(order).ravel() == order.ravel()).all())

    def _add(self, node: Node, sources: tuple[str, ...]) -> None:
        before, takes = [], []
        for source in sources:
            taken = [self.model.node(source)] if source in self.taken_along else []
            before.append(tuple(taken))
            takes.append(self.model.sources(source)[0] if taken else source)
        after, covered = self._after(node)
        last = covered[-1].name if covered else node.name
        covers = (*(n for nodes in before for n in nodes), node, *covered)
        self.done.update(n.name for n in covers)
        self.steps.append(Step(KINDS[type(node)], tuple(takes), last, tuple(before), node, tuple(after), covers))

    def _after(self, main: Node) -> tuple[list[Node], list[Node]]:
        """Return the nodes behind *main* that its step carries out: in that order, and in the order of the model."""
        after: list[Node] = []
        covered: list[Node] = []
        if not isinstance(main, MatMul | Conv | SumPool | MaxPool | Add | Concat | Threshold | Affine):
            return after, covered
        closed = isinstance(main, Threshold)
        name = main.name
        while True:
            passed, behind = self._behind(name)
            if behind is None or behind.name in self.taken_along:
                break
            if isinstance(behind, Affine | Threshold) and not closed:
                after.append(behind)
                closed = isinstance(behind, Threshold)
            elif isinstance(behind, MaxPool) and self._pools_accumulators(main, after):
                at = next((i for i, node in enumerate(after) if isinstance(node, Threshold)), len(after))
                after.insert(at, behind)
            else:
                break
            covered += [*passed, behind]
            name = behind.name
        return after, covered

    def _behind(self, name: str) -> tuple[list[Node], Node | None]:
        """Return the node behind the value *name*, and those on the way to it that come to nothing together."""
        passed: list[Node] = []
        behind = self._next(name)
        while behind is not None and self._moves_nothing(behind):
            passed.append(behind)
            behind = self._next(behind.name)
        if passed and self.model.shapes()[passed[-1].name] != self.model.shapes()[name]:
            return [], None
        return passed, behind

    @staticmethod
    def _pools_accumulators(main: Node, after: list[Node]) -> bool:
        """Tell whether a max pool may go onto the sums of *main*: there is none yet."""
        return isinstance(main, MatMul | Conv | Add) and not any(isinstance(node, MaxPool) for node in after)

    def _values(self) -> dict[str, Value]:
        """Return the stored values and their views, with their lives."""
        born = {INPUT: -1, **{step.makes: number for number, step in enumerate(self.steps)}}
        storage = {name: name for name in born}
        for view, source in self.views.items():
            storage[view] = storage[source]
        dies = dict(born)
        for number, step in enumerate(self.steps):
            for name in step.takes:
                dies[storage[name]] = number
        output = self.model.nodes[-1].name
        dies[storage[output]] = len(self.steps)
        known = self.model.values
        return {
            name: Value(name, known[name].shape, known[name].type, held, born[held], dies[held])
            for name, held in storage.items()
        }
