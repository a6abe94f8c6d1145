"""One calibration from beginning to end: only what is better on held-out images is kept, and bad input is refused."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np
import pytest
from integer_networks import random_codes, random_network

from bitproof.export.integer import IntegerModel, run
from bitproof.hw.calibrate import Samples, Settings, held_out_loss, original_of, run_session
from bitproof.hw.faults import Chip, FaultSpec, FaultyExecutor
from bitproof.hw.finn.walk import require_supported
from bitproof.pipeline import Executor, InputError, StageError

MODEL = replace(
    random_network((20, 12, 8, 4), act_bits=(2,), spacing="even", weight_range=(-1, 1), input_bits=2, seed=1),
    output_scale=Fraction(1, 4),
)
CODES = random_codes(MODEL, 800, seed=2)
LABELS = run(MODEL, CODES).argmax(axis=1)
CALIBRATION, HELD_OUT = Samples(CODES[:500], LABELS[:500], "train"), Samples(CODES[500:], LABELS[500:], "validation")
CHIP = FaultSpec(stuck=0.1, offset=1.0).draw(MODEL, 1)


@dataclass
class Counting:
    """A chip that counts what is asked of it."""

    chip: Chip
    programmed: list[int] = field(default_factory=list)

    def program(self, model: IntegerModel) -> Executor:
        executor = self.chip.program(model)

        class Counted(FaultyExecutor):
            def __call__(inner, codes):  # type: ignore[no-untyped-def]  # noqa: N805, ANN001, ANN204
                self.programmed.append(len(codes))
                return executor(codes)

        return Counted(executor.model, executor.wrap)


@pytest.mark.parametrize("access", ["scalar", "logits"])
def test_a_repaired_chip_is_kept_and_the_budget_is_what_was_used(access: str) -> None:
    device = Counting(CHIP)
    settings = Settings(access=access, evaluations=320, images=100)  # type: ignore[arg-type]
    announced: list[tuple[float, int, int]] = []
    outcome = run_session(
        device, MODEL, CALIBRATION, HELD_OUT, settings, announce=lambda *figures: announced.append(figures)
    )
    assert outcome.kept
    assert outcome.evaluations == 320
    assert outcome.images == 32_000
    assert device.programmed == [300, *[100] * 320, 300]
    assert announced == [(outcome.before, 320, 100)]
    assert outcome.before == held_out_loss(CHIP, original_of(MODEL, "all"), HELD_OUT)
    assert outcome.after == held_out_loss(CHIP, outcome.model, HELD_OUT) < outcome.before


def test_what_does_not_help_is_not_kept() -> None:
    """The labels that it calibrates on are wrong: the loss on the held-out images rises."""
    wrong = Samples(CODES[:500], (LABELS[:500] + 1) % 4, "train")
    outcome = run_session(CHIP, MODEL, wrong, HELD_OUT, Settings(evaluations=160))
    assert outcome.after > outcome.before
    assert not outcome.kept


def test_the_same_seed_gives_the_same_model() -> None:
    settings = Settings(evaluations=64)
    first, second = (run_session(CHIP, MODEL, CALIBRATION, HELD_OUT, settings) for _ in range(2))
    other = run_session(CHIP, MODEL, CALIBRATION, HELD_OUT, replace(settings, seed=1))
    assert first.after == second.after
    assert first.after != other.after
    assert (run(first.model, CODES) == run(second.model, CODES)).all()


@dataclass(frozen=True)
class Finn:
    """A device that refuses what FINN refuses, and any bias of the outputs."""

    asked: list[str] = field(default_factory=list)

    def program(self, model: IntegerModel) -> Executor:
        self.asked.append(model.nodes[-1].name)
        require_supported(model)
        if model.nodes[-1].name == "output_bias":
            raise StageError("layer 'output_bias' adds a bias to the outputs. Calibrate thresholds only")
        return FaultyExecutor(model, None)


def test_a_target_without_an_output_bias_refuses_at_once_and_takes_thresholds() -> None:
    device = Finn()
    with pytest.raises(StageError, match=r"layer 'output_bias' adds a bias .* Calibrate thresholds only"):
        run_session(device, MODEL, CALIBRATION, HELD_OUT, Settings(evaluations=64))
    assert device.asked == ["output_bias"]
    outcome = run_session(device, MODEL, CALIBRATION, HELD_OUT, Settings(scope="thresholds", evaluations=64))
    assert outcome.evaluations == 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"access": "both"}, "access 'both' is not known; allowed: scalar, logits"),
        ({"pairs": 0}, "pairs = 0 is not possible; it must be at least 1"),
        ({"images": -1}, "images = -1 is not possible"),
        ({"evaluations": 15}, "15 evaluations are less than one step of 16"),
        ({"weights": True}, "weights are calibrated with --access logits only"),
    ],
)
def test_bad_settings_say_what_is_allowed(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        Settings(**options)  # type: ignore[arg-type]


def test_before_is_the_loss_of_the_original() -> None:
    device = FaultSpec().draw(MODEL, 0)
    logits = run(MODEL, HELD_OUT.codes) / 4
    peak = logits.max(axis=1, keepdims=True)
    chosen = logits[np.arange(300), HELD_OUT.labels]
    expected = float((np.log(np.exp(logits - peak).sum(axis=1)) + peak[:, 0] - chosen).mean())
    assert abs(held_out_loss(device, original_of(MODEL, "all"), HELD_OUT) - expected) < 1e-9
