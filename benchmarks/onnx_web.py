"""Packed-int8 files in a browser: onnxruntime-web in headless Chromium, on the page of ``examples/web``.

``python -m benchmarks.onnx_web`` installs the npm package in a temporary folder, serves it with the page and the files
of ``make bench-onnx`` from 127.0.0.1, opens the page for each of them, compares all outputs with the integer model, and
writes ``benchmarks/results/onnx_web.json``. The page runs one more file, with a bit of a weight flipped, which has to
differ.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.onnx_versions import SAMPLES, write_files
from benchmarks.results import Row, write_results
from bitproof.export.onnx_int8.fault import flip_weight
from bitproof.export.onnx_int8.packing import is_packed, packed_name
from bitproof.pipeline import StageError, ToolMissingError
from bitproof.pipeline.toolchain import run_program, running_beside

COMMAND = "make bench-onnx-web"
PACKAGE, VERSION = "onnxruntime-web", "1.25.1"
PAGE = Path(__file__).parent.parent / "examples" / "web"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions")
"""The sandbox needs namespaces that a container may not have; the page is ours, and served from this machine."""
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


def install(folder: Path) -> None:
    """Install the npm package into *folder*, beside the page, which is copied there.

    Raises:
        ToolMissingError: there is no npm.
    """
    if shutil.which("npm") is None:
        raise ToolMissingError("npm", needed_by=COMMAND, install="apt-get install npm")
    for path in PAGE.iterdir():
        if path.is_file():
            shutil.copyfile(path, folder / path.name)
    wanted = f"{PACKAGE}@{VERSION}"
    command = ["npm", "install", "--ignore-scripts", "--no-save", "--no-audit", "--no-fund", "--prefix", str(folder)]
    run_program([*command, wanted], needed_by=COMMAND, cwd=folder, log=folder / "npm.log", timeout_s=INSTALL_S)


def outputs_in_browser(served: Served, folder: Path, model: str, codes: str) -> Mapping[str, list[int]]:
    """Return the outputs that the page gives for the files *model* and *codes* in the served *folder*.

    Raises:
        StageError: the page says why not, or says nothing in time.
    """
    served.arrived.clear()
    address = f"{served.address}/index.html?model={model}&codes={codes}&report=/report"
    profile = folder / "profile"
    command = [browser(), *OPTIONS, f"--user-data-dir={profile}", address]
    arrived = False
    try:
        with running_beside(command, needed_by=COMMAND, cwd=folder, log=folder / "chromium.log"):
            arrived = served.arrived.wait(PAGE_S)
    except StageError:  # a browser that is ended need not end well
        if not arrived:
            raise
    if not arrived:
        raise StageError(f"{COMMAND}: the page posted nothing in {PAGE_S:g} s; its log is {folder / 'chromium.log'}")
    if "error" in served.posted:
        raise StageError(f"{COMMAND}: {model}: {served.posted['error']}")
    outputs: Mapping[str, list[int]] = served.posted["outputs"]
    return outputs


def main() -> None:
    """Compare all files in the browser."""
    browser()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        install(folder)
        write_files(folder / "files")
        with serving(folder) as served:
            for place in sorted((folder / "files").iterdir()):
                print(f"running {place.name}", file=sys.stderr, flush=True)
                share = _share(served, folder, place, "m.onnx")
                rows.append(_row(place.name, share, share == 1))
            flipped = _flip(place)
            share = _share(served, folder, place, flipped)
            rows.append(_row(f"{place.name}, one bit of a weight flipped", share, share < 1))
    write_results("onnx_web", rows, command=COMMAND, distributions=("onnxruntime", "onnx", "numpy"))
    if not all(row.met for row in rows):
        sys.exit("onnxruntime-web gives other codes than the integer model")


def _row(work: str, share: float, met: bool) -> Row:
    goal = "1" if "flipped" not in work else "< 1"
    note = f"{PACKAGE} {VERSION}, WebAssembly, one thread, headless Chromium"
    return Row(work, "exact_share", f"of {SAMPLES} samples", share, goal=goal, met=met, note=note)


def _share(served: Served, folder: Path, place: Path, model: str) -> float:
    """Return how many samples of the files in *place* have all codes of the integer model."""
    expected = np.load(place / "expected.npy")
    (place / "codes.bin").write_bytes(np.load(place / "codes.npy").tobytes())
    where = place.relative_to(folder).as_posix()
    outputs = outputs_in_browser(served, folder, f"{where}/{model}", f"{where}/codes.bin")
    made = np.concatenate([np.array(codes).reshape(len(expected), -1) for codes in outputs.values()], axis=1)
    return float((made == expected).all(axis=1).mean())


def _flip(place: Path) -> str:
    """Write the file of *place* with one bit of a weight of its last product flipped; return its name."""
    model = onnx.load(place / "m.onnx")
    packed = [tensor.name for tensor in model.graph.initializer if is_packed(tensor.name)]
    flip_weight(model, packed[-1].removesuffix(packed_name("")), 0, 0)
    onnx.save_model(model, place / "flipped.onnx")
    return "flipped.onnx"


if __name__ == "__main__":
    main()
