"""Our modules with weights, windows and frames as layers of FINN's graph. Runs in the child process only."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar, Literal

from bitproof.hw.finn.own_layers import OwnLayer
from bitproof.hw.rtl import modules
from bitproof.hw.rtl.modules import BIPOLAR, Encoding, accumulator_type
from bitproof.hw.rtl.schedules import Padded as PaddedSchedule
from bitproof.hw.rtl.schedules import Replaying, padded


class _WithWeights(OwnLayer):
    """What both products share: *Weights*, of *WeightBits* (0: bipolar), on codes that may be *Bipolar*."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "Weights": ("t", True, None),
        "WeightBits": ("i", True, 0),
        "Bipolar": ("i", False, 0),
    }

    @property
    def codes(self) -> Encoding:
        """How the codes are encoded."""
        return BIPOLAR if self.number("Bipolar") else Encoding.of(self.kind())

    @property
    def encoding(self) -> Encoding:
        """How the weights are encoded."""
        bits = self.number("WeightBits")
        return Encoding(bits, "signed") if bits else BIPOLAR

    def lut_estimation(self, fpgapart: str) -> int:
        """Return the control, and an addition of the width of the codes for each bit of a weight at work."""
        bits, codes = max(1, self.number("WeightBits")), self.codes.bits
        at_work = self.number("PE") * (self.number("SIMD") if "SIMD" in self.get_nodeattr_types() else 1)
        return int(super().lut_estimation(fpgapart)) + at_work * bits * (codes + 1)


class MatrixUnit(_WithWeights):
    """A matrix product in plain logic."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = {**_WithWeights.attributes, "SIMD": ("i", False, 1)}

    def module(self) -> modules.MatrixUnit:
        """Return the unit for one vector."""
        weights = self.integers("Weights")
        accumulator = accumulator_type(self.codes, self.encoding, weights.shape[1])
        return modules.MatrixUnit(
            weights, self.number("PE"), self.number("SIMD"), self.codes, self.encoding, accumulator
        )

    @property
    def divisible(self) -> int:
        """The number of rows."""
        return int(self.integers("Weights").shape[0])

    @property
    def repeats(self) -> int:
        """How many vectors a sample has."""
        return prod(self.numbers("Pixels"))

    def schedule(self) -> Replaying:
        """Return the schedule: a vector comes in while the first rows are computed, and is kept for the others."""
        unit = self.module()
        return Replaying(self.repeats, unit.inputs[0].words, unit.outputs[0].words)

    @property
    def latency_cycles(self) -> int:
        """The levels of the adder tree beside the stages before and behind it."""
        return 3 + (self.number("SIMD") - 1).bit_length()

    def bench_parameters(self) -> dict[str, int]:
        """Return sizes, folding and encodings."""
        rows, columns = self.integers("Weights").shape
        return {
            "MW": columns,
            "MH": rows,
            "PE": self.number("PE"),
            "SIMD": self.number("SIMD"),
            "weight_bits": self.encoding.bits,
            "bipolar": self.number("Bipolar"),
            "bipolar_weights": int(self.encoding.kind == "bipolar"),
        }


class DepthwiseUnit(_WithWeights):
    """A convolution of each channel with taps of its own, behind FINN's window generator."""

    def module(self) -> modules.DepthwiseUnit:
        """Return the unit for one sample."""
        weights = self.integers("Weights")
        accumulator = accumulator_type(self.codes, self.encoding, weights.shape[1])
        pixels = prod(self.numbers("Pixels"))
        return modules.DepthwiseUnit(weights, self.number("PE"), pixels, self.codes, self.encoding, accumulator)

    @property
    def divisible(self) -> int:
        """The number of channels."""
        return int(self.integers("Weights").shape[0])

    @property
    def taps(self) -> int:
        """Of a window."""
        return int(self.integers("Weights").shape[1])

    def bench_parameters(self) -> dict[str, int]:
        """Return sizes, lanes and encodings."""
        channels, taps = self.integers("Weights").shape
        return {
            "MW": channels * taps,
            "MH": channels,
            "taps": taps,
            "PE": self.number("PE"),
            "weight_bits": self.encoding.bits,
            "bipolar": self.number("Bipolar"),
            "bipolar_weights": int(self.encoding.kind == "bipolar"),
        }


class WindowReducer(OwnLayer):
    """The largest code of each window of each channel, or the sum (*Sum* is 1)."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "Channels": ("i", True, 0),
        "Taps": ("i", True, 0),
        "Sum": ("i", True, 0),
    }

    def module(self) -> modules.WindowReducer:
        """Return the module for one sample."""
        lanes = self.number("PE")
        windows = prod(self.numbers("Pixels")) * self.divisible // lanes
        reduction: Literal["largest", "sum"] = "sum" if self.number("Sum") else "largest"
        return modules.WindowReducer(lanes, self.number("Taps"), self.kind(), windows, reduction)

    @property
    def divisible(self) -> int:
        """The number of channels."""
        return self.number("Channels")

    @property
    def taps(self) -> int:
        """Of a window."""
        return self.number("Taps")

    def bench_parameters(self) -> dict[str, int]:
        """Return channels and lanes."""
        return {"PE": self.number("PE"), "channels": self.divisible}


class ImagePadding(OwnLayer):
    """An image with a frame of the code *Code*."""

    attributes: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "Channels": ("i", True, 0),
        "Begin": ("ints", True, []),
        "End": ("ints", True, []),
        "Code": ("i", True, 0),
    }

    def module(self) -> modules.Padding:
        """Return the module."""
        (height, width), lanes = self.numbers("Pixels"), self.number("PE")
        begin, end = ((above, left) for above, left in (self.numbers("Begin"), self.numbers("End")))
        return modules.Padding(
            self.kind(), self.number("Code"), lanes, self.divisible // lanes, (height, width), begin, end
        )

    @property
    def divisible(self) -> int:
        """The number of channels."""
        return self.number("Channels")

    def schedule(self) -> PaddedSchedule:
        """Return the schedule: a word in every cycle, those of the image when they are there."""
        module = self.module()
        return padded(module.size, module.begin, module.end, module.folds)
