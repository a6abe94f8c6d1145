"""A disk that is full, at every size: exit code 4, nothing half-written, and with more room the run goes on."""

from __future__ import annotations

import json
import shutil
import subprocess  # noqa: TID251  a file system of its own for the real command line
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.tool, pytest.mark.end_to_end, pytest.mark.slow]

CONFIG = Path(__file__).parent.parent.parent / "configs" / "digits_mlp.yaml"
SIZES_KB = (128, 1024, 24, 200, 300, 400, 500, 700, 850)
"""Too small, each in another stage; ``--disks`` says how many of them are tried."""
ENOUGH_KB = 16_384
SETTINGS = ("train.epochs=2", "gates.float_vs_quantized=100", 'targets=[onnx-int8, "c{core=cortex-m0}"]')
NAMESPACES = (("unshare", "--user", "--map-root-user", "--mount"), ("unshare", "--mount"))
"""Where a user may mount a file system: as the root of their own namespace, or as the root of this machine."""
GROWING = """
import json, os, subprocess, sys
folder, sizes, command = sys.argv[1], sys.argv[2].split(), sys.argv[3:]
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=" + sizes[0], "disk", folder], check=True)
for size in sizes:
    subprocess.run(["mount", "-o", "remount,size=" + size, folder], check=True)
    done = subprocess.run(command, capture_output=True, text=True)
    left = [path for path, _, _ in os.walk(folder) if path.endswith(".partial")]
    ledger = os.path.exists(folder + "/digits_mlp/ledger.json")
    print(json.dumps([size, done.returncode, done.stderr, left, ledger]), flush=True)
"""


def namespace_to_mount_in(folder: Path) -> tuple[str, ...]:
    """Return the command that starts another one in a namespace where it may mount a file system on *folder*."""
    for namespace in NAMESPACES if shutil.which("unshare") is not None else ():
        command = [*namespace, "mount", "-t", "tmpfs", "disk", str(folder)]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return namespace
    pytest.skip("this user may not mount a small disk")


def test_a_full_disk_is_exit_code_4_at_every_size_and_the_next_run_resumes(
    tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    namespace = namespace_to_mount_in(tmp_path)
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    run = [sys.executable, "-P", "-m", "bitproof", "run", str(CONFIG), "--runs", str(tmp_path), *settings]
    sizes = " ".join(f"{size}k" for size in [*sorted(SIZES_KB[: pytestconfig.getoption("disks")]), ENOUGH_KB])
    command = [*namespace, sys.executable, "-c", GROWING, str(tmp_path), sizes, *run]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr
    *full, (_, code, err, _, has_ledger) = [json.loads(line) for line in done.stdout.splitlines()]
    assert (code, has_ledger) == (0, True), err
    for size, code, err, left, _ in full:
        assert code == 4, f"{size}: {err}"
        assert "is the disk full?" in err, size
        assert left == [], size
