"""All that ``make bench-onnx`` measures of one network: time, size, memory, agreement, in every form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.lab.integer_networks import Subject
from benchmarks.lab.onnx_agreement import Agreement, agreement_of_codes, agreement_of_reals, made_by
from benchmarks.lab.onnx_forms import OURS, SAME_NETWORK, write_forms
from benchmarks.lab.onnx_memory import memory_mib
from benchmarks.lab.onnx_shares import Shares, shares
from benchmarks.lab.onnx_times import call_of, load_seconds, run_seconds, session_of
from bitproof.export.integer import IntegerModel, classify, run

BATCHES = (1, 64)
LARGEST = max(BATCHES)
MORE, SHORTER = 2, 8
"""How many times more, and shorter, the rounds of bare operators are, of which there are many."""
SEED = 0


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of one network.

    Attributes:
        seconds: by batch size, for each round, the time of a call of each form.
        sizes: bytes of each form.
        load_s: seconds in which each form is opened.
        memory_mib: by how much a process that opens a form and runs a batch of 64 grows.
        bare_mib: the peak of such a process before it opens a file; the highest of all.
        samples: how many were compared with the integer model.
        classes: how many classes the integer model gives to them.
        agreements: of all forms of the quantized network, ours among them.
        shares: of the time at a batch of 64 in our form.
        missing: by peer that cannot give the network, what it says.
    """

    seconds: Mapping[int, Sequence[Mapping[str, float]]]
    sizes: Mapping[str, int]
    load_s: Mapping[str, float]
    memory_mib: Mapping[str, float]
    bare_mib: float
    samples: int
    classes: int
    agreements: Mapping[str, Agreement]
    shares: Shares
    missing: Mapping[str, str]


def measure(
    subject: Subject, samples: int, folder: Path, rounds: int, round_s: float, *, nudged: bool = False
) -> Figures:
    """Write all forms of *subject* into the existing *folder* and measure them.

    Args:
        subject: what is built.
        samples: how many are compared with the integer model.
        folder: for the forms.
        rounds: how often the forms take turns.
        round_s: for how long a form is run in its turn.
        nudged: the quantized network gets whole offsets.
    """
    forms = write_forms(subject, folder, nudged=nudged)
    codes = np.random.default_rng(SEED).integers(0, 256, (max(samples, LARGEST), *subject.shape)).astype(np.uint8)
    memory = {form: memory_mib(path, LARGEST, folder / "log") for form, path in forms.files.items()}
    sessions = {form: session_of(path) for form, path in forms.files.items()}
    compared = codes[:samples]
    expected = run(forms.model, compared.reshape(samples, -1).astype(np.int64))
    agreements = {OURS: agreement_of_codes(made_by(sessions[OURS], compared).astype(np.int64), forms.model, expected)}
    for form in (form for form in SAME_NETWORK if form in sessions):
        made = made_by(sessions[form], _given(form, compared, forms.model))
        agreements[form] = agreement_of_reals(made, forms.model, expected)
    seconds = {}
    for batch in BATCHES:
        calls = {form: call_of(session, _given(form, codes[:batch], forms.model)) for form, session in sessions.items()}
        seconds[batch] = run_seconds(calls, rounds, round_s)
    return Figures(
        seconds=seconds,
        sizes={form: path.stat().st_size for form, path in forms.files.items()},
        load_s=load_seconds(forms.files),
        memory_mib={form: grown for form, (_, grown) in memory.items()},
        bare_mib=max(before for before, _ in memory.values()),
        samples=samples,
        classes=len(np.unique(classify(forms.model, expected))),
        agreements=agreements,
        shares=shares(forms.files[OURS], forms.model, codes[:LARGEST], MORE * rounds, round_s / SHORTER),
        missing=forms.missing,
    )


def _given(form: str, codes: NDArray[np.uint8], model: IntegerModel) -> NDArray[Any]:
    """Return what *form* takes for *codes*: ours the codes, every other their real numbers, shape (N, inputs)."""
    if form == OURS:
        return codes
    return codes.reshape(len(codes), -1).astype(np.float32) * np.float32(model.input_scale)
