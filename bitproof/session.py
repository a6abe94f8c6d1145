"""A packed-int8 file in onnxruntime, for those who only run it: numpy and onnxruntime are all that it needs.

The file says itself, in its metadata, what its codes stand for. The class is decided by exact numbers, as everywhere in
bitproof: channels of different scale or bias are compared as fractions.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bitproof.session_file import CLASSES, described

Codes = NDArray[np.int64]
Numbers = NDArray[Any]
OLDEST = (1, 17)
"""The first onnxruntime that has all operators of these files."""
CPU = "CPUExecutionProvider"
DIGITS = 2_000
"""Real numbers with square roots are compared with so many; two that differ at all differ in far fewer."""
ROWS_AT_ONCE = 256
MAX_THREADS = 1_024


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
        options.intra_op_num_threads = _threads(threads)
        options.log_severity_level = 3
        asked, file = _providers(providers, onnxruntime.get_available_providers()), _file(path)
        try:
            self._session = onnxruntime.InferenceSession(file, options, providers=asked)
        except Exception as error:
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise ValueError(f"{file} is no file that onnxruntime {onnxruntime.__version__} runs: {reason}") from error
        taken = self._session.get_providers()
        if taken[0] != asked[0]:
            raise ValueError(f"onnxruntime fell back from {asked[0]} to {taken[0]}; ask for that, or install it")
        self._input, self._outputs, (self._slopes, self._intercepts, self._magnitudes) = described(self._session, file)
        self.shape = self._input.shape
        self.outputs = len(self._outputs.codings)
        self.pixels = self._input.pixels
        self.integers = range(256) if self.pixels else self._input.codes

    def quantize(self, images: Numbers) -> Numbers:
        """Return what the file takes for *images*, shape (N, *shape) or (N, inputs) or that of one sample.

        Integers are codes, or pixels if the file takes those, and are only checked. Real inputs of a file that takes
        codes become the nearest code each, of two the even one, and saturate: float32, as the exported network does.
        What float32 does not hold saturates, too; only infinity and what is no number are refused.

        Raises:
            ValueError: the shape is another, an integer is no code, numbers are masked, or real inputs cannot be
                quantized here.
        """
        rows = self._rows(images)
        stored = np.empty(rows.shape, dtype=self._input.kind)
        for start, group in _groups(rows):
            stored[start : start + len(group)] = self._quantized(group)
        return stored

    def _rows(self, images: Numbers) -> Numbers:
        """Return *images* as they are, shape (N, *shape)."""
        expected, size = f"(N, {', '.join(map(str, self.shape))})", math.prod(self.shape)
        try:
            masked, given = _is_masked(images), np.asarray(images)
        except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
            raise ValueError(
                f"the images, of type {type(images).__name__}, are no array: rows of different lengths, or something "
                f"else than numbers; expected the shape {expected}"
            ) from error
        if masked:
            raise ValueError("the images are masked, but the network takes every number: fill what is masked")
        if given.shape in (self.shape, (size,)):
            count = 1
        elif given.shape[1:] in (self.shape, (size,)):
            count = len(given)
        else:
            raise ValueError(f"the images have the shape {given.shape}; expected {expected}")
        if given.dtype.kind not in "iuf":
            raise ValueError(f"the images are {given.dtype}; expected integers or real numbers")
        return given.reshape(count, *self.shape)

    def _quantized(self, rows: Numbers) -> Numbers:
        if rows.dtype.kind == "f":
            return self._rounded(rows)
        low, high, step = self.integers[0], self.integers[-1], self.integers.step
        wrong = (rows < low) | (rows > high)
        if step != 1:
            wrong |= (rows.astype(np.int64) - low) % step != 0
        if wrong.any():
            what = "pixels" if self.pixels else "codes"
            steps = f" in steps of {step}" if step != 1 else ""
            raise ValueError(f"the images hold {rows[wrong][0]}; the file takes {what} {low}..{high}{steps}")
        return rows.astype(self._input.kind) if self.pixels else self._stored(rows)

    def _rounded(self, values: Numbers) -> Numbers:
        if self.pixels:
            raise ValueError("the file takes pixels 0..255, not real numbers: give the image as uint8")
        if not self._input.rounds:
            raise ValueError(
                "the network calculates with real inputs before it rounds them, or rounds otherwise, which this file "
                "does not hold: give codes"
            )
        if not np.isfinite(values).all():
            raise ValueError("the images hold a number that is not finite")
        with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and saturates
            codes = np.rint(values.astype(np.float32) / self._input.scale)
        return self._stored(np.clip(codes, self.integers[0], self.integers[-1]))

    def _stored(self, codes: Numbers) -> Numbers:
        shift, kind = self._input.zero_point, self._input.kind
        stored: Numbers = (codes.astype(np.int64) + shift).astype(kind) if shift else codes.astype(kind)
        return stored

    def codes(self, images: Numbers) -> Codes:
        """Return the integers of the network for *images* (see :meth:`quantize`), int64, shape (N, outputs).

        Those of several outputs stand one behind the other, in the order of :attr:`heads`.
        """
        return self._run(images, self._outputs.tensors, self.outputs)

    def classes(self, images: Numbers) -> Codes:
        """Return the class of each of *images* (see :meth:`quantize`), int64, shape (N,).

        The output with the largest real number, of equal ones the first; of a single output 1 if it is positive.

        Raises:
            ValueError: the network has several outputs.
        """
        if len(self._outputs.tensors) > 1:
            raise ValueError(f"the network has the outputs {', '.join(self.heads)}, and so no class")
        if self._outputs.classes:
            return self._run(images, (CLASSES,), 1)[:, 0]
        made = self.codes(images)
        return made[:, 0].copy() if self._outputs.indices else self._classified(made)

    def _classified(self, made: Codes) -> Codes:
        """Return the class that each row of *made* names.

        In float64 a number is off by five roundings at most; what that does not tell from the largest is compared with
        :data:`DIGITS` digits.
        """
        each = self._outputs.codings
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
        return self._outputs.heads

    def _run(self, images: Numbers, names: Sequence[str], width: int) -> Codes:
        rows = self._rows(images)
        made = np.empty((len(rows), width), dtype=np.int64)
        for start, group in _groups(rows):  # none of no rows, which some operators of onnxruntime refuse
            outputs = self._session.run(list(names), {self._input.tensor: self._quantized(group)})
            flat = [output.reshape(len(group), -1) for output in outputs]
            np.concatenate(flat, axis=1, out=made[start : start + len(group)])
        return made


def onnx_session(path: str | Path, *, threads: int = 1, providers: Sequence[str] = (CPU,)) -> OnnxSession:
    """Load the packed-int8 file at *path*, which bitproof wrote.

    Args:
        path: of ``model.onnx``.
        threads: that onnxruntime uses for one operator, 1 to 1,024; the codes do not depend on it.
        providers: of onnxruntime; nothing else is fallen back to.

    Raises:
        ImportError: onnxruntime is missing or too old.
        ValueError: the file cannot be run, is not one of bitproof's, or was changed so that it contradicts itself; an
            argument is not as above, or a provider is not there.
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


def _threads(threads: object) -> int:
    if isinstance(threads, bool) or not isinstance(threads, int | np.integer) or not 1 <= threads <= MAX_THREADS:
        raise ValueError(f"threads = {threads!r:.100}; expected a whole number from 1 to {MAX_THREADS}")
    return int(threads)


def _providers(providers: object, available: list[str]) -> list[str]:
    if not isinstance(providers, list | tuple) or not all(isinstance(name, str) for name in providers):
        raise ValueError(f"providers = {providers!r:.100}; expected a list of names, for example [{CPU!r}]")
    unknown = [name for name in providers if name not in available]
    if unknown or not providers:
        raise ValueError(
            f"this onnxruntime has no {', '.join(unknown) or 'provider that was asked for'}; it has "
            f"{', '.join(available)}"
        )
    return list(providers)


def _file(path: object) -> str:
    name = os.fspath(path) if isinstance(path, os.PathLike) else path
    if not isinstance(name, str):
        raise ValueError(f"the path is of type {type(path).__name__}; expected the name of a file, as text or a Path")
    try:
        found = Path(name).is_file()
    except OSError as error:
        raise ValueError(f"{name!r:.200} cannot be read: {error.strerror}") from error
    if not found:
        raise ValueError(f"{name!r:.200} is no file; give the path of a model.onnx that the target onnx-int8 wrote")
    return name


def _is_masked(images: object) -> bool:
    """Tell whether *images* are masked, or a list that holds what is: numpy would leave the mask out."""
    return isinstance(images, np.ma.MaskedArray) or (
        isinstance(images, list | tuple) and any(_is_masked(each) for each in images)
    )


def _groups(rows: Numbers) -> Iterator[tuple[int, Numbers]]:
    """Yield as many of *rows* as are run at once, each time with the place of the first."""
    for start in range(0, len(rows), ROWS_AT_ONCE):
        yield start, rows[start : start + ROWS_AT_ONCE]


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
