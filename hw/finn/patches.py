"""Changes to FINN's RTL library, each with its reason; one whose text is not found stops the build.

The library ships with a pinned version of finn-plus. A patch that no longer applies means that the version changed, and
then each reason has to be looked at again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bitproof.pipeline import StageError


@dataclass(frozen=True, slots=True)
class Patch:
    """Replace *old*, which occurs exactly once in *file*, by *new*.

    Attributes:
        file: name of the library file.
        old: the text to replace.
        new: what takes its place.
        reason: why.
    """

    file: str
    old: str
    new: str
    reason: str


_LEAF_LOADS = """\
typedef {type};
function leaf_load_t init_leaf_loads();
\tautomatic leaf_load_t  res;
\tfor(int unsigned  i = 2*N-1; i-- > N-1;)  res[i] = 1;
\tfor(int unsigned  i =   N-1; i-- >   0;)  res[i] = res[2*i+1] + res[2*i+2];
\treturn  res;
endfunction : init_leaf_loads
"""

PATCHES = (
    Patch(
        file="fifo.sv",
        old="\ttypedef struct {\n\t\tint unsigned  lo;",
        new="\ttypedef struct packed {\n\t\tint unsigned  lo;",
        reason="Verilator 5.48 has no constant functions that return an unpacked structure",
    ),
    Patch(
        file="add_multi.sv",
        old="\t\t" + "\n\t\t".join(_LEAF_LOADS.format(type="int unsigned  leaf_load_t[2*N-1]").splitlines()) + "\n",
        new="",
        reason="Verilator 5.48 has no constant functions inside a generate block; the next patch puts it in front",
    ),
    Patch(
        file="add_multi.sv",
        old="\tuwire [SUM_WIDTH-1:0]  sum0;\n",
        new="\t"
        + "\n\t".join(_LEAF_LOADS.format(type="logic [2*N-2:0][31:0]  leaf_load_t").splitlines())
        + "\n\n\tuwire [SUM_WIDTH-1:0]  sum0;\n",
        reason="this is that function, with a packed array: Verilator 5.48 has none that returns an unpacked one",
    ),
    Patch(
        file="mvu_vvu_axi.sv",
        old="/* else */    3 + $clog2(SIMD+1) + (SIMD == 1);",
        new="/* else */    3 + $clog2(SIMD) + (SIMD == 1) + 2;",
        reason=(
            "mvu.sv has a pipeline of 3 + clog2(SIMD) + (SIMD == 1) + 1 stages, and the consumer's stall is seen one "
            "cycle late, so one result more than the stages hold can arrive: with a result in every cycle "
            "(SIMD = MW) and a stalled consumer the output queue overflowed and results were lost"
        ),
    ),
)


def apply_patches(file: str, text: str, patches: Sequence[Patch] = PATCHES) -> str:
    """Return the *text* of the library file *file* with every patch for it.

    Raises:
        StageError: the text that a patch replaces does not occur exactly once.
    """
    for patch in patches:
        if patch.file != file:
            continue
        count = text.count(patch.old)
        if count != 1:
            raise StageError(
                f"{file} of FINN's RTL library holds {patch.old.strip()!r} {count} times, expected once. It is patched "
                f"because {patch.reason}. Install finn-plus==1.6.1, or adapt hw/finn/patches.py"
            )
        text = text.replace(patch.old, patch.new)
    return text
