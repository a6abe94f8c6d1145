"""A packed-int8 file in onnxruntime, for those who only run it: numpy and onnxruntime are all that it needs.

The file says itself, in its metadata, what its codes stand for. The class is decided by exact numbers, as everywhere in
bitproof: channels of different scale or bias are compared as fractions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Numbers = NDArray[Any]

METADATA, FORMAT = "bitproof", 1
OLDEST = (1, 17)
"""The first onnxruntime that has all operators of these files."""
CPU = "CPUExecutionProvider"
DIGITS = 2_000
"""Real numbers with square roots are compared with so many; two that differ at all differ in far fewer."""
ROWS_AT_ONCE = 256


class OnnxSession:
    """A packed-int8 file that is ready to run.

    Attributes:
        shape: of one sample.
        outputs: how many integers it gives for one, of all outputs together.
        pixels: it takes 8-bit images; otherwise codes, or real inputs, of which it makes codes.
        integers: those that it takes, pixels or codes.
    """

    def __init__(self, path: str | Path, *, threads: int = 1, providers: Sequence[str] = (CPU,)) -> None:
        onnxruntime = _onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        unknown = [name for name in providers if name not in onnxruntime.get_available_providers()]
        if unknown or not providers:
            raise ValueError(
                f"this onnxruntime has no {', '.join(unknown) or 'provider that was asked for'}; it has "
                f"{', '.join(onnxruntime.get_available_providers())}"
            )
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=list(providers))
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(f"{path} is no file that onnxruntime {onnxruntime.__version__} runs: {reason}") from error
        taken = self._session.get_providers()
        if taken[0] != providers[0]:
            raise ValueError(f"onnxruntime fell back from {providers[0]} to {taken[0]}; ask for that, or install it")
        held = _described(self._session, path)
        self._input, codings = held["input"], [tuple(map(_fraction, each)) for each in held["codings"]]
        self._answers, self._names = held["answers"], [output["tensor"] for output in held["outputs"]]
        self._heads = [output.get("name") for output in held["outputs"]]
        source = self._session.get_inputs()[0]
        self.shape: tuple[int, ...] = tuple(source.shape[1:])
        self.outputs = sum(int(np.prod(o.shape[1:])) for o in self._session.get_outputs() if o.name in self._names)
        self._each = [coding for coding in codings for _ in range(self.outputs // len(codings))]
        roots = np.array([float(root) ** 0.5 for _, _, root, _ in self._each])
        self._slopes = np.array([float(scale) for scale, _, _, _ in self._each]) * roots
        offsets, shifts = (np.array([float(coding[place]) for coding in self._each]) for place in (1, 3))
        self._intercepts, self._magnitudes = offsets * roots + shifts, np.abs(offsets * roots) + np.abs(shifts)
        self.pixels = self._input["pixels"] is not None
        self.integers = range(256) if self.pixels else range(*self._input["codes"])
        self._type = np.int8 if source.type == "tensor(int8)" else np.uint8

    def quantize(self, images: Numbers) -> Numbers:
        """Return what the file takes for *images*, shape (N, *shape) or (N, inputs) or that of one sample.

        Integers are codes, or pixels if the file takes those, and are only checked. Real inputs of a file that takes
        codes become the nearest code each, of two the even one, and saturate: float32, as the exported network does.

        Raises:
            ValueError: the shape is another, an integer is no code, or real inputs cannot be quantized here.
        """
        given = np.asarray(images)
        size = int(np.prod(self.shape))
        rows = (1, *self.shape) if given.shape in (self.shape, (size,)) else (-1, *self.shape)
        if given.shape[1:] not in (self.shape, (size,)) and rows[0] == -1:
            raise ValueError(
                f"the images have the shape {given.shape}; expected (N, {', '.join(map(str, self.shape))})"
            )
        if given.dtype.kind == "f":
            with np.errstate(over="ignore"):  # what is too large becomes infinite
                values = given.astype(np.float32)
            return self._rounded(values).reshape(rows)
        if given.dtype.kind not in "iu":
            raise ValueError(f"the images are {given.dtype}; expected integers or real numbers")
        low, high, step = self.integers[0], self.integers[-1], self.integers.step
        wrong = (given < low) | (given > high) | ((given.astype(np.int64) - low) % step != 0)
        if wrong.any():
            what = "pixels" if self.pixels else "codes"
            steps = f" in steps of {step}" if step != 1 else ""
            raise ValueError(f"the images hold {given[wrong][0]}; the file takes {what} {low}..{high}{steps}")
        moved = given.astype(np.int64) + (0 if self.pixels else self._input["zero_point"])
        return self._stored(moved).reshape(rows)

    def _rounded(self, values: NDArray[np.float32]) -> Numbers:
        if self.pixels:
            raise ValueError("the file takes pixels 0..255, not real numbers: give the image as uint8")
        if not self._input["rounds"]:
            raise ValueError(
                "the network calculates with real inputs before it rounds them, or rounds otherwise, which this file "
                "does not hold: give codes"
            )
        if not np.isfinite(values).all():
            raise ValueError("the images hold a number that is not finite")
        scale = np.float32(float(_fraction(self._input["scale"])))
        codes = np.clip(np.rint(values / scale), self.integers[0], self.integers[-1]).astype(np.int64)
        return self._stored(codes + self._input["zero_point"])

    def _stored(self, moved: Codes) -> Numbers:
        stored: Numbers = moved.astype(self._type)
        return stored

    def codes(self, images: Numbers) -> Codes:
        """Return the integers of the network for *images* (see :meth:`quantize`), int64, shape (N, outputs).

        Those of several outputs stand one behind the other, in the order of :attr:`heads`.
        """
        return self._run(images, self._names)

    def classes(self, images: Numbers) -> Codes:
        """Return the class of each of *images* (see :meth:`quantize`), int64, shape (N,).

        The output with the largest real number, of equal ones the first; of a single output 1 if it is positive.

        Raises:
            ValueError: the network has several outputs.
        """
        if len(self._names) > 1:
            raise ValueError(f"the network has the outputs {', '.join(map(str, self._heads))}, and so no class")
        if any(output.name == "classes" for output in self._session.get_outputs()):
            return self._run(images, ["classes"])[:, 0]
        made = self.codes(images)
        return made[:, 0].copy() if self._answers == "indices" else self._classified(made)

    def _classified(self, made: Codes) -> Codes:
        """Return the class that each row of *made* names.

        In float64 a number is off by five roundings at most; what that does not tell from the largest is compared with
        :data:`DIGITS` digits.
        """
        each = self._each
        reals, magnitudes = made * self._slopes + self._intercepts, np.abs(made * self._slopes) + self._magnitudes
        if self.outputs == 1:
            with localcontext(prec=DIGITS):
                return np.array([int(_real(each[0], code) > 0) for code in made[:, 0].tolist()], dtype=np.int64)
        slack = 8 * 2.0**-53 * magnitudes + 2.0**-1000
        possible = ~(reals + slack < (reals - slack).max(axis=1, keepdims=True))
        classes: Codes = possible.argmax(axis=1).astype(np.int64)
        with localcontext(prec=DIGITS):
            for row in np.flatnonzero(possible.sum(axis=1) > 1).tolist():
                indices = np.flatnonzero(possible[row]).tolist()
                classes[row] = indices[_largest([_real(each[index], int(made[row, index])) for index in indices])]
        return classes

    def values(self, images: Numbers) -> NDArray[np.float64]:
        """Return the real numbers that the network's integers stand for, shape (N, outputs), rounded to float64."""
        reals: NDArray[np.float64] = self.codes(images) * self._slopes + self._intercepts
        return reals

    @property
    def heads(self) -> tuple[str, ...]:
        """Names of the outputs of a network that has several; empty for one."""
        return tuple(name for name in self._heads if name)

    def _run(self, images: Numbers, names: list[str]) -> Codes:
        given = self.quantize(images)
        taken = self._session.get_inputs()[0].name
        made: list[Codes] = []
        if not len(given):  # which some operators of onnxruntime refuse
            return np.zeros((0, self.outputs if names == self._names else 1), dtype=np.int64)
        for start in range(0, len(given), ROWS_AT_ONCE):
            rows = given[start : start + ROWS_AT_ONCE]
            outputs = self._session.run(names, {taken: rows})
            made.append(np.concatenate([output.astype(np.int64).reshape(len(rows), -1) for output in outputs], axis=1))
        codes: Codes = np.concatenate(made)
        return codes


def onnx_session(path: str | Path, *, threads: int = 1, providers: Sequence[str] = (CPU,)) -> OnnxSession:
    """Load the packed-int8 file at *path*, which bitproof wrote.

    Args:
        path: of ``model.onnx``.
        threads: that onnxruntime uses for one operator; the codes do not depend on it.
        providers: of onnxruntime; nothing else is fallen back to.

    Raises:
        ImportError: onnxruntime is missing or too old.
        ValueError: the file cannot be run, is not one of bitproof's, or a provider is not there.
    """
    return OnnxSession(path, threads=threads, providers=providers)


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ImportError("onnxruntime is not installed: pip install onnxruntime") from error
    version = str(onnxruntime.__version__)
    if tuple(int(part) for part in version.split(".")[:2]) < OLDEST:
        raise ImportError(
            f"onnxruntime {version} is too old; at least {OLDEST[0]}.{OLDEST[1]}: pip install -U onnxruntime"
        )
    return onnxruntime


def _described(session: Any, path: str | Path) -> dict[str, Any]:
    """Return what the file at *path*, loaded as *session*, says of itself.

    Raises:
        ValueError: nothing, or something else than this version reads.
    """
    text = session.get_modelmeta().custom_metadata_map.get(METADATA)
    if text is None:
        raise ValueError(f"{path} has no metadata of bitproof; write it again by the target onnx-int8")
    try:
        held: dict[str, Any] = json.loads(text)
        if held["format"] != FORMAT:
            raise ValueError(f"format {held['format']}; this version reads {FORMAT}")
        codes, names = range(*held["input"]["codes"]), {output.name for output in session.get_outputs()}
        scale, codings = _fraction(held["input"]["scale"]), [list(map(_fraction, each)) for each in held["codings"]]
        tensors = {output["tensor"] for output in held["outputs"]}
        if not codes or not tensors or not tensors <= names or {len(each) for each in codings} != {4}:
            raise ValueError("no input codes, or outputs that the file does not have")
        if scale <= 0 or any(root < 1 for _, _, root, _ in codings):
            raise ValueError("a scale that is not positive")
        _ = int(held["input"]["zero_point"]), held["input"]["pixels"], held["input"]["rounds"], held["answers"]
    except (ValueError, LookupError, TypeError, ArithmeticError, AttributeError, RecursionError) as error:
        raise ValueError(f"{path} has metadata that bitproof did not write: {error}") from error
    return held


def _fraction(text: object) -> Fraction:
    """Return the number *text*, ``p`` or ``p/q``: no exponent, which may ask for any memory.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(text, str) or re.fullmatch(r"-?[0-9]{1,4000}(/[0-9]{1,4000})?", text) is None:
        raise ValueError(f"{text!r:.100} is not a fraction such as 1/3")
    return Fraction(text)


def _real(coding: Sequence[Fraction], code: int) -> Decimal:
    """Return the real number of *code*: ``(scale * code + offset) * sqrt(root) + shift``, to :data:`DIGITS` digits."""
    scale, offset, root, shift = coding
    return _decimal(scale * code + offset) * _decimal(root).sqrt() + _decimal(shift)


def _decimal(number: Fraction) -> Decimal:
    return Decimal(number.numerator) / Decimal(number.denominator)


def _largest(row: Sequence[Decimal]) -> int:
    """Return the index of the largest of *row*, of equal ones the first."""
    equal = (
        Decimal(10) ** (max(number.adjusted() for number in row if number) + 10 - DIGITS) if any(row) else Decimal(0)
    )
    top = max(row)
    return next(index for index, number in enumerate(row) if top - number <= equal)
