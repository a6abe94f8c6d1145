"""The spec of a target, as a configuration writes it: ``kind{key=value, ...}``.

Which kinds there are and what their options mean is not known here; the composition root tells a configuration by a
:data:`CheckTargets` when it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TargetSpec:
    """A target by its kind and its options, as text.

    Attributes:
        kind: for example ``onnx-int8``.
        options: pairs of key and value, in the order in which they were written.
    """

    kind: str
    options: tuple[tuple[str, str], ...] = ()

    def __str__(self) -> str:
        pairs = ", ".join(f"{key}={value}" for key, value in self.options)
        return f"{self.kind}{{{pairs}}}" if pairs else self.kind


CheckTargets = Callable[[tuple[TargetSpec, ...]], tuple[TargetSpec, ...]]
"""Returns specs with all their options, defaults included; raises a ValueError if one is not known or not valid."""


def parse_spec(text: object) -> TargetSpec:
    """Parse ``kind`` or ``kind{key=value, key=value}``; a YAML mapping ``{kind: {key: value}}`` is not accepted.

    >>> parse_spec("c{core=cortex-m4, flash=256k}")
    TargetSpec(kind='c', options=(('core', 'cortex-m4'), ('flash', '256k')))

    Raises:
        ValueError: the spec is malformed.
    """
    match = re.fullmatch(r"\s*([\w-]+)\s*(?:\{([^{}]*)\})?\s*", text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{text!r} is not a target; write for example onnx-int8 or c{{core=cortex-m4}}")
    kind, body = match.group(1), match.group(2) or ""
    values: dict[str, str] = {}
    for pair in filter(None, (part.strip() for part in body.split(","))):
        key, equals, value = (part.strip() for part in pair.partition("="))
        if not equals or not key or not value or key in values:
            raise ValueError(f"{pair!r} in target {text!r} is not key=value, or the key repeats")
        values[key] = value
    return TargetSpec(kind, tuple(values.items()))
