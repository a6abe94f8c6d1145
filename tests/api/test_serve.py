"""``examples/serve.py``: the codes and classes of the integer model over HTTP, and what it refuses."""

from __future__ import annotations

import http.client
import importlib.util
import io
import json
import os
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from default_signals import with_default_signals
from integer_networks import random_codes, random_network
from numpy.typing import DTypeLike, NDArray
from written_onnx import Written

import bitproof
from bitproof.export.integer import IntegerModel, MatMul, classify, run
from bitproof.export.onnx_int8 import build
from bitproof.export.onnx_int8.ends import Ends
from bitproof.pipeline.toolchain import running_beside

SERVE = Path(__file__).parents[2] / "examples" / "serve.py"
NETWORK = random_network((9, 8, 4))


def serve_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("serve", SERVE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


serve = serve_module()


def written(model: IntegerModel, folder: Path, ends: Ends | None = None) -> Path:
    onnx.save_model(build(model, ends=ends or Ends())[0], folder / "model.onnx")
    return folder / "model.onnx"


@contextmanager
def serving(path: Path) -> Iterator[int]:
    """Serve *path* in a thread and yield the port."""
    with serve.Server(("127.0.0.1", 0), bitproof.onnx_session(path), path.name) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with serving(written(NETWORK, tmp_path_factory.mktemp("served"))) as port:
        yield port


def asked(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    """Return the status and the content of an answer."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def raw(port: int, request: bytes) -> tuple[int, str]:
    """Send *request*, and no more, and return the status and the reason of the refusal."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]


def npy(array: NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def headed(header: str, content: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    """Return a ``.npy`` file with this header."""
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + content


@pytest.mark.parametrize("kind", [np.uint8, np.int64, ">i4", np.float32])
def test_codes_and_classes_are_those_of_the_integer_model(port: int, kind: DTypeLike) -> None:
    codes = random_codes(NETWORK, 600)
    expected = run(NETWORK, codes)
    body = npy(codes.astype(kind))
    assert asked(port, "POST", "/codes", body) == (200, {"codes": expected.tolist()})
    assert asked(port, "POST", "/classes", body) == (200, {"classes": classify(NETWORK, expected).tolist()})


def test_lists_and_single_samples_are_taken(port: int) -> None:
    codes = random_codes(NETWORK, 3)
    expected = run(NETWORK, codes).tolist()
    assert asked(port, "POST", "/codes", json.dumps(codes.tolist()).encode()) == (200, {"codes": expected})
    assert asked(port, "POST", "/codes", json.dumps(codes[0].tolist()).encode()) == (200, {"codes": expected[:1]})
    assert asked(port, "POST", "/codes", npy(np.asfortranarray(codes))) == (200, {"codes": expected})
    assert asked(port, "POST", "/codes", npy(codes[:0])) == (200, {"codes": []})


def test_a_flipped_bit_is_seen(tmp_path: Path) -> None:
    changed, other = Written.of(NETWORK).with_flipped_weight(NETWORK, NETWORK.nodes_of(MatMul)[-1], 3)
    onnx.save_model(changed.proto, tmp_path / "model.onnx")
    codes = random_codes(NETWORK, 50)
    with serving(tmp_path / "model.onnx") as port:
        status, content = asked(port, "POST", "/codes", npy(codes))
    assert status == 200
    assert content["codes"] != run(NETWORK, codes).tolist()
    assert content["codes"] == run(other, codes).tolist()


def test_the_server_says_what_the_file_takes(port: int, tmp_path: Path) -> None:
    expected = {"file": "model.onnx", "shape": [9], "takes": "codes", "outputs": 4, "heads": []}
    assert asked(port, "GET", "/") == (200, expected)
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("HEAD", "/")
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (200, b"")
    pixels = written(replace(NETWORK, input_scale=Fraction(1, 255)), tmp_path, Ends("1/255"))
    images = np.arange(90, dtype=np.uint8).reshape(10, 9)
    with serving(pixels) as other:
        assert asked(other, "GET", "/") == (200, {**expected, "takes": "pixels"})
        assert asked(other, "POST", "/codes", npy(images)) == (
            200,
            {"codes": run(NETWORK, images.astype(np.int64)).tolist()},
        )
        status, content = asked(other, "POST", "/codes", npy(images / 255))
        assert (status, content["error"]) == (
            400,
            "the file takes pixels 0..255, not real numbers: give the image as uint8",
        )


U1 = "{'descr': '|u1', 'fortran_order': False, 'shape': (%s)}\n"
WRONG = {
    "wrong shape": (npy(np.zeros((2, 8), np.uint8)), r"the images have the shape \(2, 8\); expected \(N, 9\)"),
    "no code": (b"[0, 0, 0, 0, 0, 0, 0, 0, 256]", "the images hold 256; the file takes codes 0..255"),
    "not finite": (b"[0, 0, 0, 0, 0, 0, 0, 0, NaN]", "a number that is not finite"),
    "pickled": (npy(np.array([{}] * 9)), "it holds object; expected integers or real numbers"),
    "text": (npy(np.array(["0"] * 9)), "it holds <U1; expected integers or real numbers"),
    "booleans": (npy(np.zeros(9, np.bool_)), "it holds bool; expected"),
    "fields": (npy(np.zeros(9, [("a", "u1")])), r"it holds \[\('a', 'u1'\)\]; expected"),
    "cut": (npy(np.zeros(9, np.uint8))[:-1], "its header promises 9 bytes, 8 follow"),
    "longer": (npy(np.zeros(9, np.uint8)) + b"0", "its header promises 9 bytes, 10 follow"),
    "huge": (headed(U1 % "10**12,"), "the .npy file cannot be read"),
    "huge promise": (headed(U1 % "1000000000000,"), "its header promises 1000000000000 bytes, 0 follow"),
    "negative": (headed(U1 % "-1, -9", b"0" * 9), "the .npy file cannot be read"),
    "format 3": (headed(U1 % "9,", b"0" * 9, b"\x03\x00"), r"its format is \(3, 0\); expected \(1, 0\) or \(2, 0\)"),
    "no header": (b"\x93NUMPY", "the .npy file cannot be read"),
    "header that nests": (headed("-" * 9000 + "1"), "the .npy file cannot be read"),
    "header of brackets": (headed("(" * 500), "the .npy file cannot be read"),
    "header of nothing": (headed("'''"), "the .npy file cannot be read"),
    "zip": (b"PK\x03\x04", "the body is neither a .npy file nor JSON"),
    "empty": (b"", "the body is neither a .npy file nor JSON"),
    "object": (b'{"codes": []}', "the JSON is of type dict; expected a list"),
    "number": (b"1", "the JSON is of type int; expected a list"),
    "ragged": (b"[[1, 2], [3]]", "the JSON list is no array"),
    "strings": (b'["1"]', "the JSON list holds something else than numbers"),
    "null": (b"[null]", "the JSON list holds something else than numbers"),
    "long integer": (b"[99999999999999999999]", "the JSON list holds something else than numbers of 64 bits"),
    "nested": (b"[" * 100_000, "the body is neither a .npy file nor JSON"),
    "many axes": (b"[" * 100 + b"]" * 100, "the JSON list"),
}


@pytest.mark.parametrize(("body", "reason"), WRONG.values(), ids=WRONG)
def test_what_is_no_input_of_the_network_is_refused(port: int, body: bytes, reason: str) -> None:
    status, content = asked(port, "POST", "/codes", body)
    assert status == 400
    assert re.search(reason, content["error"]), content


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        (b"GET /nope HTTP/1.1\r\n\r\n", 404, "there is no '/nope'; there are / and /codes and /classes"),
        (b"POST /codes/ HTTP/1.1\r\n\r\n", 404, "there is no '/codes/'"),
        (b"POST / HTTP/1.1\r\n\r\n", 405, "/ takes GET, not POST"),
        (b"GET /codes HTTP/1.1\r\n\r\n", 405, "/codes takes POST, not GET"),
        (b"DELETE /classes HTTP/1.1\r\n\r\n", 405, "/classes takes POST, not DELETE"),
        (b"BREW / HTTP/1.1\r\n\r\n", 501, r"Unsupported method \('BREW'\)"),
        (b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431, "Too many headers"),
        (b"POST /codes HTTP/1.1\r\n\r\n[]", 411, "send a Content-Length, and no Transfer-Encoding"),
        (
            b"POST /codes HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n[]",
            411,
            "send a Content-Length, and no Transfer-Encoding",
        ),
        (b"POST /codes HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400, "the Content-Length is '-1'; expected a number"),
        (b"POST /codes HTTP/1.1\r\nContent-Length: 9\r\n\r\n[]", 400, "the body ended after 2 of 9 bytes"),
        (
            b"POST /codes HTTP/1.1\r\nContent-Length: 8388609\r\n\r\n",
            413,
            "the body has 8388609 bytes; at most 8388608",
        ),
        (b"POST /codes HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413, "the body has 9{30} bytes"),
    ],
)
def test_other_requests_are_refused(port: int, request_: bytes, status: int, reason: str) -> None:
    answered, said = raw(port, request_)
    assert answered == status
    assert re.match(reason, said), said


def test_a_client_that_sends_too_much_still_reads_why_it_is_refused(port: int) -> None:
    status, content = asked(port, "POST", "/codes", bytes(serve.LIMIT_BYTES + (1 << 20)))
    assert (status, content["error"]) == (
        413,
        "the body has 9437184 bytes; at most 8388608 are taken: send fewer samples at once",
    )


def test_a_method_that_is_not_allowed_is_told_which_is(port: int) -> None:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request("PUT", "/codes", b"[]")
        answer = connection.getresponse()
        assert (answer.status, answer.headers["Allow"]) == (405, "POST")


def test_requests_at_once_do_not_mix(port: int) -> None:
    codes = random_codes(NETWORK, 40)
    expected, made = run(NETWORK, codes).tolist(), [None] * 40

    def ask(number: int) -> None:
        made[number] = asked(port, "POST", "/codes", npy(codes[number]))[1]["codes"][0]

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == expected


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_script_prints_its_address_and_ends_cleanly(tmp_path: Path, number: int) -> None:
    path, log = written(NETWORK, tmp_path), tmp_path / "log"
    argv = with_default_signals([sys.executable, str(SERVE), str(path), "--port", "0"])
    with running_beside(argv, needed_by="the test", cwd=tmp_path, log=log) as process:
        deadline, found = time.monotonic() + 60, None
        while found is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
            found = re.search(r"serves \S+ at http://127\.0\.0\.1:(\d+)/\n", log.read_text())
        codes = random_codes(NETWORK, 2)
        assert asked(int(found[1]), "POST", "/codes", npy(codes)) == (200, {"codes": run(NETWORK, codes).tolist()})
        os.kill(process.pid, number)
        assert process.wait(timeout=30) == 0
    assert "Traceback" not in log.read_text()


def test_what_cannot_be_served_is_named(tmp_path: Path, port: int, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(NETWORK, tmp_path))
    for arguments, reason in (
        ([str(tmp_path / "absent.onnx")], "absent.onnx' is no file; give the path of a model.onnx"),
        ([path, "--port", str(port)], f"127.0.0.1:{port} cannot be listened at: "),
        ([path, "--port", "65536"], "127.0.0.1:65536 cannot be listened at: "),
    ):
        with pytest.raises(SystemExit) as ended:
            serve.main(arguments)
        assert ended.value.code == 2
        assert reason in capsys.readouterr().err
