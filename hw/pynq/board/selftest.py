"""The self-test of a bundle, on the board: golden vectors through the fabric, compared code by code, and timings.

It writes ``result.json`` and ``outputs.npy``. The exit code is 0 if all codes are equal, 1 if one differs, 2 if the
bundle is damaged, an option is not possible or the fabric holds another design, 4 if the hardware does not finish.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import platform
import sys
from pathlib import Path
from typing import Any

import numpy as np
from bitproof_driver import Accelerator, DriverError, TransferError

SUMS, VECTORS, RESULT, OUTPUTS = "SHA256SUMS", "vectors.npz", "result.json", "outputs.npy"
EQUAL, DIFFERENT, WRONG_FILES, HARDWARE = 0, 1, 2, 4


def damaged_files(folder: Path) -> list[str]:
    """Return the files of the bundle that are missing or not those that were bundled."""
    found = []
    for line in (folder / SUMS).read_text().splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != digest:
            found.append(name)
    return found


def compare(expected: np.ndarray, actual: np.ndarray) -> dict[str, Any]:
    """Return what is equal and what is not: both of shape (N, outputs)."""
    places = np.argwhere(expected != actual)
    first = None
    if len(places):
        sample, output = (int(place) for place in places[0])
        first = {
            "sample": sample,
            "output": output,
            "expected": int(expected[sample, output]),
            "actual": int(actual[sample, output]),
        }
    return {
        "samples": len(expected),
        "compared": int(expected.size),
        "differing": len(places),
        "first": first,
        "outputs_sha256": hashlib.sha256(np.ascontiguousarray(actual, dtype="<i8").tobytes()).hexdigest(),
    }


def versions() -> dict[str, str]:
    """Return which programs took part."""
    import pynq

    found = {"python": platform.python_version(), "numpy": np.__version__, "kernel": platform.release()}
    return {**found, "pynq": str(pynq.__version__), "machine": platform.machine()}


def test(folder: Path, arguments: argparse.Namespace) -> tuple[int, dict[str, Any]]:
    """Run the test and return its exit code and its result."""
    damaged = damaged_files(folder)
    if damaged:
        return WRONG_FILES, {"error": f"these files are not those of the bundle: {', '.join(damaged)}; upload it again"}
    with np.load(folder / VECTORS, allow_pickle=False) as vectors:
        inputs, expected = vectors["inputs"], vectors["expected"].astype(np.int64)
    try:
        with Accelerator(folder, batch=min(arguments.batch, len(inputs)), timeout_s=arguments.timeout) as accelerator:
            actual = accelerator.run(inputs)
            timing = accelerator.measure(inputs, arguments.repeats) if arguments.repeats else {}
            design_id = accelerator.design_id
    except TransferError as error:
        return HARDWARE, {"error": str(error)}
    except DriverError as error:  # another design, or a batch or a time limit that is not possible
        return WRONG_FILES, {"error": str(error)}
    except OSError as error:  # the bit file cannot be loaded
        return WRONG_FILES, {"error": f"{driver_file(folder)} could not be loaded: {error}"}
    result = compare(expected, actual)
    partial = folder / f"{OUTPUTS}.partial.npy"  # np.save ends a name that has another end with .npy
    np.save(partial, np.ascontiguousarray(actual, dtype="<i8"), allow_pickle=False)
    partial.replace(folder / OUTPUTS)
    result.update(design_id=design_id, timing=timing)
    return (DIFFERENT if result["differing"] else EQUAL), result


def driver_file(folder: Path) -> str:
    """Return the name of the bit file."""
    return str(folder / "bitproof.bit")


def main() -> int:
    """Run the test on the command line's arguments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=1000, help="most images of one transfer")
    parser.add_argument("--timeout", type=float, default=10.0, help="seconds to wait for the DMA")
    parser.add_argument("--repeats", type=int, default=20, help="how often to measure; 0: do not")
    folder = Path(__file__).resolve().parent
    code, result = test(folder, parser.parse_args())
    result.update(exit_code=code, versions=versions())
    result["bundle_sha256"] = hashlib.sha256((folder / SUMS).read_bytes()).hexdigest()
    partial = folder / (RESULT + ".partial")
    partial.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    partial.replace(folder / RESULT)
    print(json.dumps(result, sort_keys=True))
    return code


if __name__ == "__main__":
    sys.exit(main())
