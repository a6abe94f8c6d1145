"""The server of the page that runs packed-int8 files in a browser, and the page itself where there is a browser."""

from __future__ import annotations

import json
import shutil
import tomllib
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from integer_networks import random_codes, random_network

from benchmarks.onnx_int8 import PAGE as DOCUMENT
from benchmarks.onnx_int8 import WORKS
from benchmarks.onnx_web import (
    BROWSERS,
    PAGE,
    ROOT,
    browser,
    install,
    main,
    outputs_in_browser,
    sentence,
    serving,
    version,
)
from benchmarks.results import RESULTS, Row
from bitproof.export.integer import MatMul, run
from bitproof.export.onnx_int8 import build
from bitproof.export.onnx_int8.fault import flip_weight
from bitproof.pipeline import StageError, ToolMissingError

HAS_BROWSER = any(shutil.which(name) for name in BROWSERS) and shutil.which("npm") is not None


def test_files_are_served_and_what_is_posted_is_kept(tmp_path: Path) -> None:
    (tmp_path / "codes.bin").write_bytes(b"\0\1\2")
    with serving(tmp_path) as served:
        assert urllib.request.urlopen(f"{served.address}/codes.bin").read() == b"\0\1\2"
        request = urllib.request.Request(f"{served.address}/report", data=json.dumps({"outputs": {"y": [1]}}).encode())
        assert urllib.request.urlopen(request).status == 204
        assert served.arrived.wait(5)
        assert served.posted == {"outputs": {"y": [1]}}
        with pytest.raises(urllib.error.HTTPError, match="413"):
            urllib.request.urlopen(urllib.request.Request(f"{served.address}/report", data=b"", method="POST"))
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{served.address}/codes.bin")


def test_a_missing_program_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ToolMissingError, match="needs 'Chromium', which was not found"):
        browser()
    with pytest.raises(ToolMissingError, match="needs 'npm'"):
        install(tmp_path, tmp_path / "npm.log")


def test_the_page_loads_the_script_and_the_package_from_beside_it() -> None:
    page, script = ((PAGE / name).read_text() for name in ("index.html", "run.js"))
    assert '<script src="run.js"></script>' in page
    assert '<script src="node_modules/onnxruntime-web/dist/ort.wasm.min.js"></script>' in page
    assert "http" not in script, "nothing is fetched from elsewhere"


def test_the_package_is_pinned_with_its_digest_at_the_version_of_onnxruntime() -> None:
    lock = json.loads((PAGE / "package-lock.json").read_text())["packages"]
    assert all(entry["integrity"].startswith("sha512-") for name, entry in lock.items() if name)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"onnxruntime=={version()}" in project["optional-dependencies"]["onnx"]


def test_the_page_about_the_files_says_what_was_measured() -> None:
    rows = [Row(**row) for row in json.loads((RESULTS / "onnx_web.json").read_text())["rows"]]
    assert sentence(rows) in DOCUMENT.read_text()
    assert {row.work for row in rows} == {key.split(" (")[0].replace(" ", "-") for key in WORKS}
    assert all(row.met for row in rows)
    worse = [replace(row, ours=(row.ours or 0) - 1) for row in rows]
    assert sentence(worse) != sentence(rows)


def test_without_a_browser_it_ends_with_code_3(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.setattr("benchmarks.onnx_web.LOGS", tmp_path / "logs")
    with pytest.raises(SystemExit, match=r"^3$"):
        main()
    assert "Install it: apt-get install chromium" in capsys.readouterr().err


@pytest.mark.tool
@pytest.mark.slow
@pytest.mark.skipif(not HAS_BROWSER, reason="Chromium and npm are not installed")
def test_the_page_gives_the_codes_of_the_integer_model(tmp_path: Path) -> None:
    model = random_network((9, 8, 4))
    proto, codes = build(model)[0], random_codes(model, 40)
    onnx.save_model(proto, tmp_path / "m.onnx")
    flip_weight(proto, model.nodes_of(MatMul)[-1].name, 0, 0)
    onnx.save_model(proto, tmp_path / "flipped.onnx")
    (tmp_path / "codes.bin").write_bytes(codes.astype(np.uint8).tobytes())
    (tmp_path / "short.bin").write_bytes(b"\0" * 10)
    install(tmp_path, tmp_path / "npm.log")
    expected, log = run(model, codes), tmp_path / "chromium.log"
    with serving(tmp_path) as served:
        (made,) = outputs_in_browser(served, tmp_path, "m.onnx", "codes.bin", log).values()
        np.testing.assert_array_equal(np.array(made).reshape(expected.shape), expected)
        (changed,) = outputs_in_browser(served, tmp_path, "flipped.onnx", "codes.bin", log).values()
        assert (np.array(changed).reshape(expected.shape) != expected).any()
        with pytest.raises(StageError, match="10 codes are no whole samples of 9"):
            outputs_in_browser(served, tmp_path, "m.onnx", "short.bin", log)
        with pytest.raises(StageError, match="404"):
            outputs_in_browser(served, tmp_path, "none.onnx", "codes.bin", log)
