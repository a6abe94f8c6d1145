"""What a target can carry out: every node that it has no form for, in one message."""

from __future__ import annotations

from bitproof.export.integer.ir import IntegerModel, chain_wiring
from bitproof.export.integer.moves import moves_nothing
from bitproof.export.integer.ops import Affine, Node, Threshold
from bitproof.pipeline import StageError


def require_operations(
    model: IntegerModel, target: str, operations: tuple[type[Node], ...], *, steps: bool = False
) -> None:
    """Refuse a *model* that is not a chain of *operations* on vectors without scaling, with codes in steps of 1.

    Nodes that move nothing are left to :func:`bitproof.export.integer.moves.without_moves`.

    *steps*: the target takes codes in other steps, too (bipolar codes).

    Raises:
        StageError: with every node that *target* has no form for.
    """
    problems = []
    for node in model.nodes:
        if moves_nothing(node):
            continue
        if not isinstance(node, operations):
            problems.append(f"{node.name} ({node.op})")
        elif isinstance(node, Threshold) and node.step != 1 and not steps:
            problems.append(f"{node.name} (threshold with codes in steps of {node.step})")
        elif isinstance(node, Affine) and not node.is_bias:
            problems.append(f"{node.name} (affine with factors other than 1)")
    known = ", ".join("bias" if operation is Affine else operation.op for operation in operations)
    if problems:
        raise StageError(f"{target} has no form for {', '.join(problems)}; it takes chains of {known}")
    if not model.is_chain:
        chained = model.wiring in (None, chain_wiring(model.nodes))
        why = "works on more axes than the channels'" if chained else "branches"
        raise StageError(f"{target} takes vectors that go through one chain of {known}; the network {why}")
