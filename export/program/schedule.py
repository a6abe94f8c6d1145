"""The schedule of an integer model as a program: nodes that are carried out together, values that are stored at all.

* A Pad goes into the product behind it, a rescaling (Affine) into the sum behind it.
* A bias or rescaling (Affine) and thresholds go into the product, pool or join before them.
* A max pool behind thresholds goes before them, onto the accumulators: thresholds never fall (:class:`Threshold` counts
  how many an accumulator reaches), so the largest code is that of the largest accumulator, and a quarter of the
  requantizations is left for a pool of 2 x 2.
* A Reshape or Transpose is a view if the codes stay where they are in memory, in one order or the other. Several that
  come to nothing together do not keep what lies around them from being carried out in one step.
* Other Reshapes and Transposes go into the matrix product behind them: they change which code meets which weight, so
  that a target may store the columns of the weights in another order instead of moving codes.

Only a value that nothing else reads disappears into a step.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

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
from bitproof.export.program.order import ORDERS, Order, order_of, places, to_stored
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
    Reshape: "move",
    Transpose: "move",
    Threshold: "requantize",
    Affine: "requantize",
    TopK: "select",
}


POOLED: tuple[type[Node], ...] = (MatMul, Conv, Add)
"""Operations whose sums a step may pool before it requantizes them."""
FINISHED: tuple[type[Node], ...] = (MatMul, Conv, SumPool, MaxPool, Add, Concat, Threshold, Affine)
"""Operations whose outputs a step may rescale and requantize before it stores them."""


def schedule(
    model: IntegerModel,
    order: Order = "channels-first",
    *,
    pooled: tuple[type[Node], ...] = POOLED,
    finished: tuple[type[Node], ...] = FINISHED,
) -> Program:
    """Return the program of *model*, with its images and sequences in *order*; so it takes its input.

    Args:
        model: the network.
        order: of the codes in memory.
        pooled: operations of whose sums the target keeps the largest of a window.
        finished: operations whose outputs the target requantizes in the same step.
    """
    return _Scheduling(model, order, pooled, finished).program()


@dataclass
class _Scheduling:
    """The state of one scheduling."""

    model: IntegerModel
    order: Order
    pooled: tuple[type[Node], ...]
    finished: tuple[type[Node], ...]
    readers: Counter[str] = field(default_factory=Counter)
    following: dict[str, Node] = field(default_factory=dict)
    orders: dict[str, Order] = field(default_factory=dict)
    views: dict[str, str] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    taken_along: set[str] = field(default_factory=set)
    steps: list[Step] = field(default_factory=list)

    def program(self) -> Program:
        """Schedule node after node."""
        self.orders[INPUT] = order_of(self.model.shape, self.order)
        for node, sources in self.model.wired():
            for source in sources:
                self.readers[source] += 1
                self.following[source] = node
            seen_as = self._order_of_view(node, sources[0]) if _only_moves(node) else None
            if seen_as is not None:
                self.views[node.name] = sources[0]
            self.orders[node.name] = seen_as or order_of(self.model.shapes()[node.name], self.order)
        self.taken_along = self._taken_along()
        for node, sources in self.model.wired():
            if node.name not in self.done | self.taken_along | self.views.keys():
                self._add(node, sources)
        self.views = {view: source for view, source in self.views.items() if view not in self.done | self.taken_along}
        return Program(self.model, tuple(self.steps), self._values(), self.model.nodes[-1].name)

    def _order_of_view(self, node: Node, source: str) -> Order | None:
        """Return the order in which the output of *node* lies where its input does; None: codes have to be moved."""
        moved = node.apply(places(self.model.shapes()[source], self.orders[source]))
        wanted = np.arange(moved.size)[None]
        for order in (order_of(moved.shape[1:], self.order), *ORDERS):
            if (to_stored(moved, order) == wanted).all():
                return order
        return None

    def _next(self, name: str) -> Node | None:
        """Return the node behind the value *name*, if nothing else reads it."""
        return self.following[name] if self.readers[name] == 1 else None

    def _taken_along(self) -> set[str]:
        """Return the nodes that the step of the node behind them carries out on its input."""
        found: set[str] = set()
        for node in self.model.nodes:
            behind = self._next(node.name)
            if (isinstance(node, Pad) and isinstance(behind, Conv)) or (
                isinstance(node, Affine) and isinstance(behind, Add)
            ):
                found.add(node.name)
            if _only_moves(node) and (node.name not in self.views or found & {*self.model.sources(node.name)}):
                passed = [node]
                while behind is not None and _only_moves(behind):
                    passed.append(behind)
                    behind = self._next(behind.name)
                if isinstance(behind, MatMul):
                    found |= {moving.name for moving in passed}
        return found

    def _add(self, node: Node, sources: tuple[str, ...]) -> None:
        before, takes = [], []
        for source in sources:
            taken: list[Node] = []
            value = source
            while value in self.taken_along:
                taken.insert(0, self.model.node(value))
                value = self.model.sources(value)[0]
            before.append(tuple(taken))
            takes.append(value)
        after, covered = self._after(node)
        last = covered[-1].name if covered else node.name
        covers = (*(n for nodes in before for n in nodes), node, *covered)
        self.done.update(n.name for n in covers)
        self.steps.append(Step(KINDS[type(node)], tuple(takes), last, tuple(before), node, tuple(after), covers))

    def _after(self, main: Node) -> tuple[list[Node], list[Node]]:
        """Return the nodes behind *main* that its step carries out: in that order, and in the order of the model."""
        after: list[Node] = []
        covered: list[Node] = []
        if not isinstance(main, self.finished):
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
        moved = unmoved = places(self.model.shapes()[name], "channels-first")
        while behind is not None and _only_moves(behind):
            passed.append(behind)
            moved = behind.apply(moved)
            behind = self._next(behind.name)
        if not np.array_equal(moved, unmoved):
            return [], None
        return passed, behind

    def _pools_accumulators(self, main: Node, after: list[Node]) -> bool:
        """Tell whether a max pool may go onto the sums of *main*: there is none yet."""
        return isinstance(main, self.pooled) and not any(isinstance(node, MaxPool) for node in after)

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
            name: Value(name, known[name].shape, self.orders[name], known[name].type, held, born[held], dies[held])
            for name, held in storage.items()
        }


def _only_moves(node: Node) -> bool:
    return isinstance(node, Reshape | Transpose)
