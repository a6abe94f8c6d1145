"""Packed-int8 files in a browser: onnxruntime-web in headless Chromium, on the page of ``examples/web``.

``python -m benchmarks.onnx_web`` installs the npm package in a temporary folder, serves it with the page and the files
of ``make bench-onnx`` from 127.0.0.1, opens the page for each of them, compares all codes with those of the integer
model, and writes ``benchmarks/results/onnx_web.json`` and the line of ``docs/onnx-int8.md``. Each network has its
control: its file with a bit of a weight flipped has to differ. The exit code is 1 if a code differs or a control does
not, 3 if npm or Chromium is missing. The logs are kept in ``build/onnx-web``.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.lab.integer_page import fill
from benchmarks.onnx_int8 import PAGE as DOCUMENT
from benchmarks.onnx_versions import write_files
from benchmarks.results import Row, write_results
from bitproof.export.integer import choose_weight
from bitproof.export.lower import lower_file
from bitproof.export.onnx_int8.fault import flip_weight
from bitproof.pipeline import Codes, StageError, ToolMissingError
from bitproof.pipeline.toolchain import run_program, running_beside

COMMAND = "make bench-onnx-web"
PACKAGE = "onnxruntime-web"
EQUAL, CONTROL = "equal_codes", "codes_that_one_bit_changes"
ROOT = Path(__file__).parent.parent
PAGE, LOGS = ROOT / "examples" / "web", ROOT / "build" / "onnx-web"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--headless=new", "--disable-gpu", "--no-first-run", "--disable-extensions", "--enable-logging=stderr")
AS_ROOT = ("--no-sandbox",)
"""Chromium does not start as root with its sandbox; the page is ours, and served from this machine."""
INSTALL_S, PAGE_S = 600.0, 300.0
MOST_BYTES = 1 << 28
"""Of what the page posts."""


@dataclass
class Served:
    """A folder that is served, and what the page posted last."""

    address: str
    posted: dict[str, Any] = field(default_factory=dict)
    arrived: threading.Event = field(default_factory=threading.Event)


class _Handler(SimpleHTTPRequestHandler):
    """Serves files, and keeps what is posted."""

    def __init__(self, *arguments: Any, served: Served, **options: Any) -> None:  # noqa: ANN401  of the base class
        self.served = served
        super().__init__(*arguments, **options)

    def do_POST(self) -> None:
        """Keep the posted JSON."""
        size = int(self.headers.get("Content-Length", "0"))
        if not 0 < size <= MOST_BYTES:
            self.send_error(413)
            return
        self.served.posted = json.loads(self.rfile.read(size))
        self.send_response(204)
        self.end_headers()
        self.served.arrived.set()

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002, ANN401  of the base class
        """Say nothing."""


@contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """Serve *folder* from 127.0.0.1 while the block runs."""
    served = Served("")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder), served=served))
    served.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def browser() -> str:
    """Return the program of the browser.

    Raises:
        ToolMissingError: there is none.
    """
    for name in BROWSERS:
        if shutil.which(name) is not None:
            return name
    raise ToolMissingError("Chromium", needed_by=COMMAND, install="apt-get install chromium")


def version() -> str:
    """Return the version of the npm package that the page pins."""
    lock = json.loads((PAGE / "package-lock.json").read_text())
    return str(lock["packages"][f"node_modules/{PACKAGE}"]["version"])


def install(folder: Path, log: Path) -> None:
    """Install the npm package into *folder*, beside the page, which is copied there.

    npm holds each archive against its digest in ``package-lock.json``, and runs no script of a package.

    Raises:
        ToolMissingError: there is no npm.
        StageError: npm failed, for example because an archive has another digest.
    """
    if shutil.which("npm") is None:
        raise ToolMissingError("npm", needed_by=COMMAND, install="apt-get install npm")
    for path in PAGE.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    run_program(command, needed_by=COMMAND, cwd=folder, log=log, timeout_s=INSTALL_S)


def outputs_in_browser(served: Served, folder: Path, model: str, codes: str, log: Path) -> Mapping[str, list[int]]:
    """Return the outputs that the page gives for the files *model* and *codes* in the served *folder*.

    What the browser says, and the console of the page, is appended to *log*.

    Raises:
        StageError: the page says why not, or says nothing in time.
    """
    served.arrived.clear()
    address = f"{served.address}/index.html?model={model}&codes={codes}&report=/report"
    profile = folder / "profile"
    options = (*OPTIONS, *AS_ROOT) if os.geteuid() == 0 else OPTIONS
    command = [browser(), *options, f"--user-data-dir={profile}", address]
    arrived = False
    try:
        with running_beside(command, needed_by=COMMAND, cwd=folder, log=log):
            arrived = served.arrived.wait(PAGE_S)
    except StageError:  # a browser that is ended need not end well
        if not arrived:
            raise
    if not arrived:
        raise StageError(f"{COMMAND}: the page posted nothing in {PAGE_S:g} s; its log is {log}")
    if "error" in served.posted:
        raise StageError(f"{COMMAND}: {model}: {served.posted['error']}")
    return {name: [int(code) for code in codes] for name, codes in served.posted["outputs"].items()}


def main() -> None:
    """Compare all files in the browser, and say on the page about them what came of it."""
    LOGS.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            browser()
            install(folder, LOGS / "npm.log")
        except ToolMissingError as error:
            print(error, file=sys.stderr)
            sys.exit(error.exit_code)
        write_files(folder / "files")
        with serving(folder) as served:
            for place in sorted((folder / "files").iterdir()):
                print(f"running {place.name}", file=sys.stderr, flush=True)
                rows.extend(_rows(served, folder, place))
    write_results("onnx_web", rows, command=COMMAND, distributions=("onnxruntime", "onnx", "numpy"))
    fill(DOCUMENT, "onnx-web", sentence(rows), COMMAND)
    if not all(row.met for row in rows):
        sys.exit("onnxruntime-web gives other codes than the integer model, or those of a changed weight")


def _rows(served: Served, folder: Path, place: Path) -> Iterator[Row]:
    """Yield what the file in *place* gives, and what it gives with a bit flipped."""
    codes, expected = np.load(place / "codes.npy"), np.load(place / "expected.npy")
    (place / "codes.bin").write_bytes(codes.tobytes())
    flipped = _flip(place, codes.reshape(len(codes), -1).astype(np.int64))
    unit, where = f"of {expected.size} codes", f"{PACKAGE} {version()}, WebAssembly, one thread, headless Chromium"
    equal = _equal(served, folder, place / "m.onnx", expected)
    yield Row(place.name, EQUAL, unit, equal, goal=str(expected.size), met=equal == expected.size, note=where)
    changed = expected.size - _equal(served, folder, place / "flipped.onnx", expected)
    yield Row(place.name, CONTROL, unit, changed, goal="> 0", met=changed > 0, note=f"{flipped}; {where}")


def _equal(served: Served, folder: Path, model: Path, expected: Codes) -> int:
    """Return how many codes of all outputs of *model* are the *expected* ones, shape (N, outputs)."""
    place = model.parent.relative_to(folder).as_posix()
    log = LOGS / f"{model.parent.name}.log"
    outputs = outputs_in_browser(served, folder, f"{place}/{model.name}", f"{place}/codes.bin", log)
    made = np.concatenate([np.array(codes).reshape(len(expected), -1) for codes in outputs.values()], axis=1)
    assert made.shape == expected.shape, f"{model} gave {made.shape} codes, {expected.shape} were expected"
    return int((made == expected).sum())


def _flip(place: Path, codes: Codes) -> str:
    """Write ``flipped.onnx``, the file of *place* with a bit flipped that *codes* show; return what was changed."""
    weight = choose_weight(lower_file(place / "net.onnx").model, codes, node=None, index=())
    model = onnx.load(place / "m.onnx")
    old, new = flip_weight(model, weight.node, weight.row, weight.column)
    onnx.save_model(model, place / "flipped.onnx")
    return f"weight {list(weight.index)} of {weight.node}: {old} became {new}"


def sentence(rows: Sequence[Row]) -> str:
    """Return the line of the page: how many codes are equal, and how many a flipped bit changes."""
    equal, changed = ([row for row in rows if row.metric == metric] for metric in (EQUAL, CONTROL))
    counts = [int(row.ours or 0) for row in changed]
    right, total = sum(int(row.ours or 0) for row in equal), sum(int(row.unit.split()[1]) for row in equal)
    return (
        f"{PACKAGE} {version()}, {len(equal)} networks: {right:,} of {total:,} codes are equal;\n"
        f"with one bit of one weight flipped, {min(counts)} to {max(counts)} codes of each network differ."
    )


if __name__ == "__main__":
    main()
