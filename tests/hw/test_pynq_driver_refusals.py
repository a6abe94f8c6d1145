"""What the driver refuses before it touches a fabric, and that an error of the DMA leaves it usable."""

from __future__ import annotations

import os
import subprocess  # noqa: TID251  the self-test is a program of its own, as on a board
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bitproof_command import bitproof
from pynq_hand_made import STREAM, hand_made_bundle

from bitproof.hw.pynq.board import bitproof_driver as driver
from bitproof.hw.pynq.deploy import SelfTest
from bitproof.hw.pynq.simulated import pynq as simulated
from bitproof.pipeline import ConfigError


class Memory(np.ndarray):
    """A buffer without a cache."""

    device_address = 0x1000

    def flush(self) -> None:
        """Do nothing."""

    def invalidate(self) -> None:
        """Do nothing."""


class FailingDma:
    """A DMA that fails in the way that is asked for, once."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.fails_at_start = False
        self.resets = 0

    def _fail(self) -> None:
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    def start(self, *_: Any) -> None:  # noqa: ANN401  those of the driver
        if self.fails_at_start:
            self._fail()

    def finish(self, *_: Any) -> None:  # noqa: ANN401  those of the driver
        self._fail()

    def reset(self) -> None:
        self.resets += 1


@pytest.fixture
def accelerator() -> driver.Accelerator:
    made = object.__new__(driver.Accelerator)
    made.input = made.output = driver.Stream(STREAM.model_dump())
    made.input_shape = made.output_shape = (4,)
    made.batch, made._busy = 2, False
    made._bias = np.zeros(1, dtype=np.int64)
    made._dma = FailingDma()  # type: ignore[assignment]
    made._source, made._target = (np.zeros(8, dtype=np.uint8).view(Memory) for _ in range(2))
    return made


WRONG = {
    "ragged": ([[1, 2], [3]], "codes are no array"),
    "masked": (np.ma.array([[1, 2, 3, 0]], mask=[[True, False, False, False]]), "codes are masked"),
    "floats": (np.zeros((1, 4)), "codes are integers"),
    "none": (None, "codes are integers"),
    "shape": (np.zeros((1, 5), dtype=int), "codes of shape"),
    "range": (np.full((1, 4), 256), "are outside of what the network takes"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_are_no_codes_is_refused(name: str, accelerator: driver.Accelerator) -> None:
    codes, message = WRONG[name]
    with pytest.raises(driver.DriverError, match=message):
        accelerator.run(codes)  # type: ignore[arg-type]


@pytest.mark.parametrize("at_start", [True, False])
@pytest.mark.parametrize("failure", [driver.TransferError("no end"), KeyboardInterrupt(), OSError("bus error")])
def test_an_error_of_the_dma_leaves_the_driver_usable(
    failure: BaseException, at_start: bool, accelerator: driver.Accelerator
) -> None:
    dma: Any = accelerator._dma
    codes = np.ones((2, 4), dtype=np.int64)
    dma.failure, dma.fails_at_start = failure, at_start
    with pytest.raises(type(failure)):
        accelerator._transfer_s(accelerator._packed(codes))
    assert dma.resets == (0 if isinstance(failure, driver.TransferError) and not at_start else 1)
    assert accelerator.run(codes).shape == (2, 4)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan"), float("inf"), 3601.0])
def test_a_time_limit_that_is_none_is_refused(timeout_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynq", simulated)
    with pytest.raises(driver.DriverError, match=r"^timeout_s = .* is not possible; allowed: 0 < timeout_s <= 3600"):
        driver.Accelerator(timeout_s=timeout_s)
    with pytest.raises(ConfigError, match=r"^--dma-timeout .* is not possible; allowed: 0 < seconds <= 3600"):
        SelfTest(timeout_s=timeout_s)
    with pytest.raises(ConfigError, match=r"^--batch 0 --repeats 20 are not possible"):
        SelfTest(batch=0)


@pytest.mark.parametrize("option", [("--batch", "0"), ("--timeout", "nan")])
def test_an_option_that_is_not_possible_ends_the_self_test_with_2(option: tuple[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "small"
    hand_made_bundle(folder)
    environment = {**os.environ, "PYTHONPATH": str(Path(simulated.__file__).parent)}  # noqa: TID251
    argv = [sys.executable, str(folder / "selftest.py"), *option]
    done = subprocess.run(argv, capture_output=True, text=True, env=environment, timeout=300, check=False)
    assert done.returncode == 2, done.stderr
    assert "is not possible; allowed: " in done.stdout


@pytest.mark.parametrize("seconds", ["nan", "inf", "0", "-1", "3601"])
def test_the_command_refuses_a_time_limit_that_is_none(seconds: str, tmp_path: Path) -> None:
    outcome = bitproof("deploy", tmp_path, "--to", "xilinx@127.0.0.1:1", "--dma-timeout", seconds)
    assert outcome.code == 2
    assert "--dma-timeout" in outcome.err
