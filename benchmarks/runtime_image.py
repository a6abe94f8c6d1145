"""The image of ``examples/runtime.Dockerfile``: how large it is, and that it gives the codes of the integer model.

``python -m benchmarks.runtime_image`` carries out the Dockerfile without a container engine, in a fresh Debian root
(:mod:`benchmarks.lab.image_root`; needs root), measures what each layer adds, and starts the image's command in the
root as the image's user. It sends codes of the network of ``configs/fashion_mnist_mlp.yaml`` and compares the answers
with the integer model; a file with one flipped weight bit must be found out. It writes
``benchmarks/results/runtime_image.json``. The base is debootstrap's ``minbase``, from which debian:12-slim is made by
leaving out manual pages, documentation and translations: the image of an engine is smaller by those.
"""

from __future__ import annotations

import io
import json
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from urllib.request import urlopen

import numpy as np
import onnx

from benchmarks.lab.dockerfile import Image, Run, read
from benchmarks.lab.image_root import ENVIRONMENT, Root, require_tools, temporary_root
from benchmarks.lab.integer_networks import initialized, write_qonnx
from benchmarks.lab.integer_page import fill, table
from benchmarks.onnx_int8 import PAGE, WORKS
from benchmarks.results import Row, write_results
from bitproof.export.integer import IntegerModel, MatMul, classify, run
from bitproof.export.lower import lower_file
from bitproof.export.onnx_int8 import build
from bitproof.export.onnx_int8.fault import flip_weight
from bitproof.pipeline.errors import BitproofError, StageError
from bitproof.pipeline.executor import Codes
from bitproof.pipeline.toolchain import running_beside

COMMAND = "make bench-runtime-image"
PROJECT = Path(__file__).parent.parent
DOCKERFILE = PROJECT / "examples" / "runtime.Dockerfile"
NETWORK, SAMPLES, SEED = "mlp w2a4 (default)", 1000, 0
GOAL_BYTES = 400_000_000
SHOWN = 60
"""Characters of an instruction in a row."""
START_S = 60
LAYER, SIZE = "layer", "image"
WITHOUT_TORCH = "try:\n import torch\nexcept ModuleNotFoundError as error:\n print('no', error.name)"


def main() -> int:
    """Carry out the Dockerfile, measure, compare, write the rows; return the exit code."""
    try:
        require_tools(COMMAND)
        image = read(DOCKERFILE.read_text())
        with temporary_root(COMMAND) as root:
            rows = [*_layers(root, image), *_answers(root, image)]
    except BitproofError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    write_results("runtime_image", rows, command=COMMAND, distributions=("numpy", "onnxruntime"))
    fill(PAGE, "runtime-image", page(rows), COMMAND)
    return 0 if all(row.met in (None, True) for row in rows) else 1


def page(rows: Sequence[Row]) -> str:
    """Return the table of the page: the layers and their sum."""
    found = [(row.work, row.ours or 0) for row in rows if row.metric in (LAYER, SIZE)]
    return table(
        ["layer", "MB"], [[f"`{work}`" if " " in work else work, f"{size / 1e6:,.2f}"] for work, size in found]
    )


def _layers(root: Root, image: Image) -> Iterator[Row]:
    """Make the root and yield what each layer adds, and the sum."""
    print(f"making {image.base}", file=sys.stderr, flush=True)
    total = root.make(image.base)
    yield Row(f"FROM {image.base}", LAYER, "bytes", total, note="debootstrap --variant=minbase, without apt's caches")
    for layer in image.layers:
        line = " ".join((layer.line if isinstance(layer, Run) else f"{' '.join(layer.sources)} {layer.folder}").split())
        said = f"{type(layer).__name__.upper()} {line}"
        print(said, file=sys.stderr, flush=True)
        size_bytes = root.add(layer, PROJECT)
        total += size_bytes
        yield Row(
            shorten(said, SHOWN, placeholder=" ...", break_on_hyphens=False), LAYER, "bytes", size_bytes, note=said
        )
    yield Row("sum", SIZE, "bytes", total, goal="< 400 MB", met=total < GOAL_BYTES)


def _answers(root: Root, image: Image) -> Iterator[Row]:
    """Serve the network in the root, right and with a flipped bit, and yield how its answers compare."""
    model, good, bad = _network()
    codes = np.random.default_rng(SEED).integers(0, 256, (SAMPLES, model.inputs))
    expected = run(model, codes)
    before = root.files()
    served = {name: _served(root, image, proto, codes) for name, proto in (("good", good), ("bad", bad))}
    written = {path for path, stamp in root.files().items() if before.get(path) != stamp} - {"model.onnx"}
    for what, answer in (("codes", expected), ("classes", classify(model, expected))):
        equal = float(np.mean([one == other for one, other in zip(served["good"][what], answer.tolist(), strict=True)]))
        yield Row(f"{what} of {NETWORK}", "exact_share", f"of {SAMPLES} samples", equal, goal="1", met=equal == 1)
    different = [one != other for one, other in zip(served["bad"]["codes"], expected.tolist(), strict=True)]
    share = float(np.mean(different))
    yield Row("one weight bit flipped", "different_share", f"of {SAMPLES} samples", share, goal="> 0", met=share > 0)
    right = served["good"]["healthy"] == [True, False]
    yield Row("health check", "holds", "1: only while the file is served", float(right), goal="1", met=right)
    said = root.ask([image.command[0], "-c", WITHOUT_TORCH], image.user).strip()
    yield Row("import torch", "refused", "1: yes", float(said == "no torch"), goal="1", met=said == "no torch")
    yield Row("files that the server wrote", "count", "files", len(written), goal="0", met=not written)


def _network() -> tuple[IntegerModel, onnx.ModelProto, onnx.ModelProto]:
    """Return the integer model of the network, its file, and that file with one flipped weight bit."""
    subject = WORKS[NETWORK].subject
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters about their own insides
        write_qonnx(initialized(subject), (subject.inputs,), Path(name) / "net.onnx")
        model = lower_file(Path(name) / "net.onnx").model
    good, bad = build(model)[0], build(model)[0]
    flip_weight(bad, model.nodes_of(MatMul)[-1].name, 0, 0)
    return model, good, bad


def _served(root: Root, image: Image, proto: onnx.ModelProto, codes: Codes) -> dict[str, list[object]]:
    """Return the codes and classes that the image's command gives for *codes*, with *proto* as its file.

    Under ``healthy``: whether the health check succeeds while it is served, and afterwards.
    """
    path = root.folder / "model.onnx"
    onnx.save_model(proto, path)
    path.chmod(0o644)
    stream = io.BytesIO()
    np.save(stream, codes.astype(np.uint8))
    with _serving(root, image):
        healthy = _healthy(root, image)
        answers = {what: _posted(image.port, what, stream.getvalue()) for what in ("codes", "classes")}
    return answers | {"healthy": [healthy, _healthy(root, image)]}


def _healthy(root: Root, image: Image) -> bool:
    try:
        root.ask(image.health, image.user)
    except StageError:
        return False
    return True


@contextmanager
def _serving(root: Root, image: Image) -> Iterator[None]:
    """Run the image's command in the root and wait until it answers at its port.

    Raises:
        StageError: the port is taken, or it does not answer in time.
    """
    if _answers_at(image.port):
        raise StageError(f"port {image.port} is in use on this machine, which has to be free: end what listens at it")
    argv = root.entered(image.command, image.user)
    with running_beside(argv, needed_by=COMMAND, cwd=root.folder, log=root.log, environment=ENVIRONMENT) as process:
        deadline = time.monotonic() + START_S
        while not _answers_at(image.port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StageError(f"the image's command does not answer at port {image.port}: {root.log.read_text()}")
            time.sleep(0.05)
        yield


def _answers_at(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False


def _posted(port: int, what: str, body: bytes) -> list[object]:
    with urlopen(f"http://127.0.0.1:{port}/{what}", body, timeout=60) as answer:
        found: list[object] = json.loads(answer.read())[what]
    return found


if __name__ == "__main__":
    sys.exit(main())
