"""A packed-int8 file behind HTTP: the standard library, numpy and onnxruntime, as ``examples/runtime.Dockerfile`` has.

    python examples/serve.py model.onnx --port 8471

``GET /`` says what the file takes. ``POST /codes`` and ``POST /classes`` take one ``.npy`` array or a JSON list, one
sample or several, and answer ``{"codes": [[...], ...]}`` and ``{"classes": [...]}``: what ``bitproof.onnx_session``
gives. Whatever is refused is answered with ``{"error": "..."}``. There is neither encryption nor authentication: a
server that strangers reach belongs behind one that has both.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import signal
import socket
import tokenize
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import bitproof

LIMIT_BYTES = 8 << 20
"""Of a body; 10,000 images of 784 pixels fit."""
LINGER_BYTES, LINGER_S = 8 * LIMIT_BYTES, 2
"""How much of a refused body is read and thrown away, and how long a client may pause in it."""
TIMEOUT_S = 30
"""How long a client may pause in a request."""
METHODS = {"/": "GET", "/codes": "POST", "/classes": "POST"}
MAGIC = b"\x93NUMPY"
NPY_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
"""Version 3 is for names of fields, which no array of numbers has."""


class RefusedError(Exception):
    """A request that is answered with another status than 200."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        self.status = status
        super().__init__(reason)


class Server(ThreadingHTTPServer):
    """Answers requests with the codes of *session*, which was read from *file*."""

    request_queue_size = 128  # of connections that no thread has yet; the library's 5 resets those of a burst

    def __init__(self, address: tuple[str, int], session: bitproof.OnnxSession, file: str) -> None:
        self.session, self.file = session, file
        super().__init__(address, Handler)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://{self.server_address[0]!s}:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    """One request; the connection is closed after it."""

    server: Server
    timeout = TIMEOUT_S

    def do_GET(self) -> None:
        """Answer a request of any method."""
        try:
            content = self._content()
        except RefusedError as error:
            self.send_error(error.status, str(error))
        except ValueError as error:
            self.send_error(HTTPStatus.BAD_REQUEST, str(error))
        else:
            self._send(HTTPStatus.OK, content)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815  the library's names

    def _content(self) -> dict[str, Any]:
        """Return what is answered.

        Raises:
            RefusedError: it is no request of this server.
            ValueError: the body is no input of the network.
        """
        method = METHODS.get(self.path)
        if method is None:
            raise RefusedError(
                HTTPStatus.NOT_FOUND, f"there is no {self.path!r:.100}; there are {' and '.join(METHODS)}"
            )
        if self.command != method and (self.command, method) != ("HEAD", "GET"):
            raise RefusedError(HTTPStatus.METHOD_NOT_ALLOWED, f"{self.path} takes {method}, not {self.command}")
        session = self.server.session
        if self.path == "/":
            return {
                "file": self.server.file,
                "shape": list(session.shape),
                "takes": "pixels" if session.pixels else "codes",
                "outputs": session.outputs,
                "heads": list(session.heads),
            }
        images = array_of(self._body())
        if self.path == "/codes":
            return {"codes": session.codes(images).tolist()}
        return {"classes": session.classes(images).tolist()}

    def _body(self) -> bytes:
        text = self.headers.get("Content-Length")
        if text is None or "Transfer-Encoding" in self.headers:
            raise RefusedError(HTTPStatus.LENGTH_REQUIRED, "send a Content-Length, and no Transfer-Encoding")
        if not (text.isascii() and text.isdigit()):
            raise ValueError(f"the Content-Length is {text!r:.100}; expected a number of bytes")
        if len(text) > len(str(LIMIT_BYTES)) or int(text) > LIMIT_BYTES:
            raise RefusedError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"the body has {text:.30} bytes; at most {LIMIT_BYTES} are taken: send fewer samples at once",
            )
        body = self.rfile.read(int(text))
        if len(body) < int(text):
            raise ValueError(f"the body ended after {len(body)} of {text} bytes")
        return body

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer ``{"error": message}``, as JSON also where the library itself refuses a request."""
        status = HTTPStatus(code)
        self._send(status, {"error": message or status.phrase})
        # A socket that is closed with unread bytes resets the connection, and the answer may be lost with it.
        left = LINGER_BYTES
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER_S)
            while left > 0 and (chunk := self.connection.recv(1 << 16)):
                left -= len(chunk)

    def _send(self, status: HTTPStatus, content: dict[str, Any]) -> None:
        body = json.dumps(content).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", METHODS[self.path])
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def array_of(body: bytes) -> NDArray[Any]:
    """Return the array that *body* holds, a ``.npy`` file or a JSON list.

    Raises:
        ValueError: it holds something else than numbers.
    """
    return _array_of_npy(body) if body.startswith(MAGIC) else _array_of_json(body)


def _array_of_npy(body: bytes) -> NDArray[Any]:
    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in NPY_HEADERS:
            raise ValueError(f"its format is {version}; expected (1, 0) or (2, 0)")
        shape, _, kind = NPY_HEADERS[version](stream)
        if kind.kind not in "iuf":
            raise ValueError(f"it holds {kind}; expected integers or real numbers")
        # numpy would reserve what the header promises.
        promised, held = math.prod(shape) * kind.itemsize, len(body) - stream.tell()
        if promised != held:
            raise ValueError(f"its header promises {promised} bytes, {held} follow")
        array: NDArray[Any] = np.load(io.BytesIO(body), allow_pickle=False)
    except (ValueError, TypeError, SyntaxError, tokenize.TokenError, RecursionError, MemoryError) as error:
        raise ValueError(f"the .npy file cannot be read: {error}") from error
    return array


def _array_of_json(body: bytes) -> NDArray[Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the body is neither a .npy file nor JSON: {error}") from error
    if not isinstance(content, list):
        raise ValueError(f"the JSON is of type {type(content).__name__}; expected a list of numbers or of lists")
    try:
        array = np.array(content)
    except ValueError as error:
        raise ValueError(f"the JSON list is no array: {error}") from error
    if array.dtype.kind not in "iuf":
        raise ValueError("the JSON list holds something else than numbers of 64 bits")
    return array


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the file that *arguments* name until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(description="Serve a packed-int8 ONNX file of bitproof over HTTP.")
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8471, help="0: any that is free (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of onnxruntime, for one request (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        session = bitproof.onnx_session(options.model, threads=options.threads)
        server = Server((options.host, options.port), session, options.model.name)
    except (ImportError, ValueError) as error:
        parser.error(str(error))
    except (OSError, OverflowError) as error:
        parser.error(f"{options.host}:{options.port} cannot be listened at: {error}")
    # What ends a container is SIGTERM, which the first process of one would ignore.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with server, suppress(KeyboardInterrupt):
        print(f"serves {options.model} at {server.url}", flush=True)  # noqa: T201  the result of a script
        server.serve_forever()


if __name__ == "__main__":
    main()
