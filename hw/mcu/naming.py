"""The C identifier that the public names and the files of a network start with: derived from its name, or chosen."""

from __future__ import annotations

import re

MOST_CHARACTERS = 40
"""PlatformIO allows 50 in the name of a library, of which the prefix is one."""
RESERVED = "bitproof"
"""What the names of the kernels start with."""
_WORDS = (
    "alignas alignof and and_eq asm auto bitand bitor bool break case catch char class compl concept const "
    "const_cast consteval constexpr constinit continue co_await co_return co_yield decltype default delete do "
    "double dynamic_cast else enum explicit export extern false float for friend goto if import inline int long "
    "module mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected public register "
    "reinterpret_cast requires restrict return short signed sizeof static static_assert static_cast struct switch "
    "template this thread_local throw true try typedef typeid typename typeof typeof_unqual union unsigned using "
    "virtual void volatile wchar_t while xor xor_eq"
)
KEYWORDS = frozenset(_WORDS.split())
"""Of C and C++."""


def prefix_of(name: str) -> str:
    """Return the C identifier that all public names of the network *name* start with.

    >>> prefix_of("Fashion-MNIST mlp")
    'fashion_mnist_mlp'
    >>> prefix_of("64x64")
    'net_64x64'
    """
    words = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return words if re.match(r"[a-z]", words) and not words.startswith(RESERVED) else f"net_{words}"


def require_prefix(prefix: str) -> str:
    """Return *prefix* if public names may start with it.

    >>> require_prefix("keyword_spotting")
    'keyword_spotting'

    Raises:
        ValueError: they may not; the message says why.
    """
    if re.fullmatch(r"[A-Za-z](?:_?[A-Za-z0-9])*", prefix) is None:
        raise ValueError(
            "names in C start with it: letters, digits and single underscores between them, the first a letter; "
            f"for example {prefix_of(prefix)[:MOST_CHARACTERS].rstrip('_')}"
        )
    if len(prefix) > MOST_CHARACTERS:
        raise ValueError(f"it has {len(prefix)} characters; allowed are {MOST_CHARACTERS}")
    if prefix in KEYWORDS:
        raise ValueError(f"it is a keyword of C or C++; for example {prefix}_net")
    if prefix.lower().startswith(RESERVED):
        raise ValueError(f"names that start with {RESERVED!r} are those of the kernels; choose another")
    return prefix
