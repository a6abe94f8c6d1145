"""One small convolutional network as a PYNQ design, with its bundle for the simulated board, for several test modules.

Its codes have 5 bits and lie channels first in the model and last in the stream, in several words an image on both
sides, so that a mistake in order, sign or padding shows.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from image_nets import ImageNet, window
from integer_nets import random_and_extreme_codes
from rtl_builds import build_rtl, simulators

from bitproof.export.integer import IntegerModel, IntegerType, run
from bitproof.hw.finn.fault import flip_weight_bit
from bitproof.hw.pynq.bitstream import prepare_bitstream
from bitproof.hw.pynq.bundle import Bitstream, write_bundle
from bitproof.hw.pynq.check_project import check_project
from bitproof.hw.pynq.design import Design, design_of
from bitproof.hw.pynq.simulated.fabric import hardware_description, simulated_bitstream
from bitproof.hw.rtl.description import read_description
from bitproof.hw.rtl.providers import MATRIX_UNIT
from bitproof.pipeline import Artifact, Codes

IMAGES = 40


@dataclass(frozen=True)
class PynqCase:
    """A network, its RTL, its design and its Vivado project; *cache* holds the compiled simulator."""

    model: IntegerModel
    rtl: Artifact
    design: Design
    project: Path
    cache: Path
    workdir: Path

    @property
    def codes(self) -> Codes:
        return random_and_extreme_codes(self.model, IMAGES)

    @property
    def expected(self) -> Codes:
        return run(self.model, self.codes)

    def bitstream(self, rtl: Artifact | None = None, *, never_ends: bool = False, stall_percent: int = 0) -> Bitstream:
        made = check_project(self.project, self.design, scratch=self.workdir)
        bit = simulated_bitstream(
            self.rtl if rtl is None else rtl,
            self.design,
            cache=self.cache,
            workdir=self.workdir,
            never_ends=never_ends,
            stall_percent=stall_percent,
        )
        return Bitstream(bit, hardware_description(made).encode())

    def bundle(self, folder: Path, bitstream: Bitstream | None) -> Path:
        write_bundle(folder, self.design, inputs=self.codes, expected=self.expected, ledger=b"{}", bitstream=bitstream)
        return folder

    def flipped(self, folder: Path) -> Artifact:
        """The RTL with one bit of a weight of the last layer flipped."""
        shutil.copytree(self.rtl.path, folder)
        flip_last_weight(folder)
        return replace(self.rtl, path=folder)


def flip_last_weight(folder: Path) -> None:
    """Flip one bit of a weight of class 0 in the RTL in *folder*."""
    last = read_description(folder).units(MATRIX_UNIT)[-1]
    assert last.covers is not None
    flip_weight_bit(folder, node=last.covers, row=0, column=1)


def make_pynq_case(folder: Path) -> PynqCase:
    model = ImageNet((2, 4, 4), 1, IntegerType(5, signed=True)).conv(3, window((3, 3)), bits=3).act(7).dense(3).model
    build = build_rtl(model, folder / "run", fps=1_000_000, fifo_depth=2)
    design = design_of(build.rtl, name="small", board="pynq-z1")
    prepare_bitstream(build.rtl, design, folder / "vivado")
    (folder / "work").mkdir()
    return PynqCase(model, build.rtl, design, folder / "vivado", simulators(), folder / "work")
