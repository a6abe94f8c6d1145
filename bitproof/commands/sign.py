"""``bitproof sign``: who publishes a run, by an SSH key of theirs; and the check of such a signature.

A hash shows that nothing was changed by accident. A signature shows that the holder of a key stands for the ledger: it
is made and checked by ``ssh-keygen -Y``, over the ledger's canonical bytes, in a namespace of this project alone, so
that no signature made for another purpose fits.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import typer

from bitproof.commands.parity import require_ledger
from bitproof.pipeline.errors import GateError, InputError, StageError
from bitproof.pipeline.ledger import Ledger, canonical_bytes
from bitproof.pipeline.plain_file import read_bytes
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.toolchain import SSH_KEYGEN

NAMESPACE = "bitproof-ledger"
SIGNATURE = "ledger.json.sig"
PUBLISHER = "publisher"
MAX_KEY_BYTES = 1 << 16
TIMEOUT_S = 120.0


def sign_run(run_path: Path, key: Path, *, as_json: bool) -> None:
    """Sign the ledger of the run at *run_path* with the private key in the file *key*, or the key that an agent has.

    Raises:
        IntegrityError: there is no ledger, or it was edited.
        InputError: *key* is no key, or could not be used.
        ToolMissingError: ssh-keygen is not installed.
    """
    run = RunFolder.open(run_path)
    ledger = require_ledger(run)
    with tempfile.TemporaryDirectory(prefix="bitproof-sign-") as folder:
        content = Path(folder) / "ledger"
        content.write_bytes(canonical_bytes(ledger.model_dump(mode="json")))
        _keygen(["-Y", "sign", "-q", "-f", key.absolute(), "-n", NAMESPACE, content], Path(folder), f"key {key}")
        signature = run.file(SIGNATURE)
        partial = signature.with_suffix(".partial")
        partial.write_bytes((Path(folder) / "ledger.sig").read_bytes())
        partial.replace(signature)
    typer.echo(json.dumps({"signature": str(signature), "ledger": ledger.sha256}) if as_json else str(signature))


def require_signed(run: RunFolder, ledger: Ledger, public_key: Path) -> None:
    """Check that the holder of *public_key* signed *ledger*.

    Raises:
        GateError: it is not signed, or by another key, or another ledger was.
        InputError: *public_key* is no SSH public key.
        ToolMissingError: ssh-keygen is not installed.
    """
    signature = run.file(SIGNATURE)
    if not signature.is_file():
        raise GateError(
            f"{run.path} is not signed (it holds no {SIGNATURE}); whoever publishes it runs bitproof sign RUN"
        )
    try:
        words = read_bytes(public_key, MAX_KEY_BYTES).decode("ascii").split()
    except (OSError, ValueError) as error:
        raise InputError(f"{public_key} cannot be read as an SSH public key: {error}") from error
    if len(words) < 2 or not words[0].replace("-", "").replace("@", "").replace(".", "").isalnum():
        raise InputError(f"{public_key} is no SSH public key: one line, its type and the key, is expected")
    with tempfile.TemporaryDirectory(prefix="bitproof-sign-") as name:
        folder = Path(name)
        (folder / "allowed").write_text(f'{PUBLISHER} namespaces="{NAMESPACE}" {words[0]} {words[1]}\n')
        (folder / "sig").write_bytes(read_bytes(signature, MAX_KEY_BYTES))
        content = canonical_bytes(ledger.model_dump(mode="json"))
        check = ["-Y", "verify", "-f", "allowed", "-I", PUBLISHER, "-n", NAMESPACE, "-s", "sig"]
        try:
            SSH_KEYGEN.run(
                check, needed_by="--signed-by", cwd=folder, log=folder / "log", timeout_s=TIMEOUT_S, given=content
            )
        except StageError as error:
            said = str(error).splitlines()[-1]
            raise GateError(f"the ledger of {run.path} was not signed by the key in {public_key}: {said}") from error


def _keygen(arguments: list[str | Path], folder: Path, what: str) -> None:
    try:
        SSH_KEYGEN.run(arguments, needed_by="sign", cwd=folder, log=folder / "log", timeout_s=TIMEOUT_S)
    except StageError as error:
        raise InputError(f"{what} cannot sign: {str(error).splitlines()[-1]}") from error
