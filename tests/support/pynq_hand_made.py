"""A design and a bundle made by hand, without RTL, for tests of what lies around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bitproof.hw.pynq.bundle import Bitstream, write_bundle
from bitproof.hw.pynq.design import BoardStream, Design

STREAM = BoardStream(bits=8, signed=False, elements=1, words=4, beat_bytes=1)
CODES = np.arange(8, dtype=np.int64).reshape(2, 4)


def hand_made_design(**changes: Any) -> Design:  # noqa: ANN401  any field
    base: dict[str, Any] = {
        "name": "small",
        "board": "pynq-z1",
        "design_id": "0" * 16,
        "rtl_sha256": "0" * 64,
        "clock_ns": 10,
        "input": STREAM,
        "output": STREAM,
        "input_shape": (4,),
        "output_shape": (4,),
        "output_bias": (),
    }
    return Design(**{**base, **changes})


def hand_made_bundle(folder: Path, bitstream: Bitstream | None = None) -> None:
    design = hand_made_design()
    write_bundle(folder, design, inputs=CODES, expected=CODES, ledger=b"{}", bitstream=bitstream)
