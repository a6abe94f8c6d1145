"""Signatures of ledgers: the right key passes; another key, another ledger, another namespace and none do not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from bitproof_command import bitproof, bitproof_without_scheduler
from qonnx_files import random_mlp

from bitproof.commands.sign import NAMESPACE, SIGNATURE
from bitproof.pipeline.ledger import canonical_bytes, canonical_sha256
from bitproof.pipeline.toolchain import SSH_KEYGEN

pytestmark = [
    pytest.mark.tool,
    pytest.mark.end_to_end,
    pytest.mark.skipif(SSH_KEYGEN.find() is None, reason="ssh-keygen is not installed (openssh-client)"),
]


def keygen(folder: Path, *arguments: str | Path) -> None:
    SSH_KEYGEN.run(arguments, needed_by="test", cwd=folder, log=folder / "log", timeout_s=60)


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signed")
    random_mlp(folder / "net.onnx", 3)
    outcome = bitproof_without_scheduler("import", folder / "net.onnx", "--samples", "20", "--runs", folder)
    assert outcome.code == 0, outcome.err
    for name in ("key", "other"):
        keygen(folder, "-q", "-t", "ed25519", "-N", "", "-f", folder / name)
    outcome = bitproof("sign", folder / "net", "--key", folder / "key", "--json")
    assert outcome.code == 0, outcome.err
    said = json.loads(outcome.out)
    assert said["ledger"] == json.loads((folder / "net" / "ledger.json").read_text())["sha256"]
    return folder


@pytest.fixture
def copy(signed: Path, tmp_path: Path) -> Path:
    shutil.copytree(signed, tmp_path / "copy")
    return tmp_path / "copy"


def verified(folder: Path, key: str = "key.pub") -> tuple[int, str]:
    outcome = bitproof("verify", folder / "net", "--quick", "--signed-by", folder / key)
    assert "Traceback" not in outcome.err
    return outcome.code, outcome.err


def test_the_holder_of_the_key_is_told_from_others(copy: Path) -> None:
    code, said = verified(copy)
    assert (code, "signed by the holder of" in said) == (0, True)
    code, said = verified(copy, "other.pub")
    assert (code, "was not signed by the key in" in said) == (1, True)


def test_a_ledger_that_was_sealed_again_is_not_signed(copy: Path) -> None:
    path = copy / "net" / "ledger.json"
    content = json.loads(path.read_text())
    content["checks"][0]["compared"] += 1
    content["sha256"] = canonical_sha256(content)
    path.write_text(json.dumps(content))
    code, said = verified(copy)
    assert (code, "was not signed by the key in" in said) == (1, True)


def test_a_signature_made_for_another_purpose_does_not_fit(copy: Path) -> None:
    content = json.loads((copy / "net" / "ledger.json").read_text())
    (copy / "ledger").write_bytes(canonical_bytes(content))
    for namespace, code in (("file", 1), (NAMESPACE, 0)):
        keygen(copy, "-Y", "sign", "-q", "-f", copy / "key", "-n", namespace, copy / "ledger")
        (copy / "ledger.sig").replace(copy / "net" / SIGNATURE)
        assert verified(copy)[0] == code


def test_what_is_no_key_or_no_signature_is_told(copy: Path) -> None:
    (copy / "empty.pub").write_text("")
    assert verified(copy, "empty.pub")[0] == 2
    assert verified(copy, "none.pub")[0] == 2
    (copy / "net" / SIGNATURE).unlink()
    code, said = verified(copy)
    assert (code, "is not signed (it holds no ledger.json.sig)" in said) == (1, True)
    outcome = bitproof("sign", copy / "net", "--key", copy / "net.onnx")
    assert outcome.code == 2
    assert "cannot sign" in outcome.err
    assert not (copy / "net" / SIGNATURE).exists()
