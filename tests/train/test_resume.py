"""A training that was cut anywhere and resumed ends in the same bits as one that was not cut."""

from __future__ import annotations

import hashlib
import logging
import os
import signal
import subprocess  # noqa: TID251  a process that can be killed is what is tested
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from training_tasks import CutError, CutLoss, moved, quantized_task

import bitproof.train.resume
from bitproof.pipeline import Artifact, InputError, StageError
from bitproof.pipeline.config import DataConfig, EstimatorConfig, ModelConfig, TrainConfig
from bitproof.pipeline.stage import execute
from bitproof.train.data import PrepareData
from bitproof.train.devices import make_fabric
from bitproof.train.estimators import BiasCorrected, Estimator, Guided, Ramp, Schedule, Spsa, StraightThrough
from bitproof.train.loop import Task, Trained, cross_entropy, fit
from bitproof.train.resume import ResumeFile
from bitproof.train.seeded import seeded
from bitproof.train.stages import TrainQuantized
from bitproof.train.training_state import TrainingState

# brevitas drops the names of tensors, which torch calls experimental
pytestmark = [pytest.mark.filterwarnings("ignore:Named tensors:UserWarning"), pytest.mark.xdist_group("resume")]

CONFIG = TrainConfig(epochs=4, batch_size=16, lr=0.02, device="cpu")  # 6 steps an epoch, 24 in all
GUIDED = Guided(1, Ramp(1.0, 0.9))
CORRECTED = BiasCorrected(Spsa(1, Ramp.constant(0.3), "uniform"), 0.9)
ESTIMATORS: dict[str, Estimator] = {"ste": StraightThrough(), "guided": GUIDED, "with memory": CORRECTED}


def noisy(values: Tensor, generator: torch.Generator) -> Tensor:
    return values + 0.01 * torch.rand(values.shape, generator=generator)


def trained(
    estimator: Estimator, resume: ResumeFile | None, cut: int | None = None, config: TrainConfig = CONFIG
) -> tuple[Trained, str]:
    """Train from the same start and return how it went and the digest of all that the network then holds."""
    torch.rand(3)  # the state of torch's own generator must not matter
    task = replace(quantized_task(), training_loss=CutLoss(cut), augment=noisy)
    with seeded(7):
        outcome = fit(make_fabric(config), task, config, Schedule(estimator, 0.4), 0, resume=resume)
    return outcome, digest(task)


def digest(task: Task) -> str:
    hasher = hashlib.sha256()
    for name, tensor in [*task.network.named_parameters(), *task.network.named_buffers()]:
        hasher.update(name.encode() + tensor.detach().numpy().tobytes())
    for name, module in task.network.named_modules():
        hasher.update(f"{name} {getattr(module, 'counter', None)} {getattr(module, 'init_done', None)}".encode())
    return hasher.hexdigest()


@pytest.fixture
def resume(tmp_path: Path) -> ResumeFile:
    return ResumeFile(tmp_path / "resume", "a" * 64)


@pytest.fixture
def every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bitproof.train.resume, "SECONDS_BETWEEN_SAVES", 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("cuts", [[1], [3, 9], [6], [11, 1, 7], [23]])
def test_training_cut_at_any_step_ends_in_the_same_bits(name: str, cuts: list[int], resume: ResumeFile) -> None:
    expected, bits = trained(ESTIMATORS[name], None)
    for cut in cuts:
        with pytest.raises(CutError):
            trained(ESTIMATORS[name], resume, cut)
    outcome, actual = trained(ESTIMATORS[name], resume)
    assert actual == bits
    assert outcome.epochs == expected.epochs
    assert outcome.guided_steps == expected.guided_steps


@pytest.mark.parametrize("cut", [5, 8, 17])
def test_training_goes_on_from_its_last_epoch_where_time_was_too_short(cut: int, resume: ResumeFile) -> None:
    _, bits = trained(GUIDED, None)
    with pytest.raises(CutError):
        trained(GUIDED, resume, cut)
    assert resume.path.exists() is (cut > 6)
    assert trained(GUIDED, resume)[1] == bits


@pytest.mark.usefixtures("every_step")
@pytest.mark.parametrize("lost", ["memory", "order", "generators", "attributes", "streams", "optimizer", "scheduler"])
def test_every_part_of_the_state_matters(lost: str, resume: ResumeFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Negative control: if a part is put back as it is at the start, the bits differ."""
    content = TrainingState.content
    _, bits = trained(CORRECTED, None)
    with pytest.raises(CutError):
        trained(CORRECTED, resume, 2)
    early = resume.read()
    assert isinstance(early, dict)
    resume.path.unlink()
    with monkeypatch.context() as patch:
        patch.setattr(TrainingState, "content", lambda self, fabric: {**content(self, fabric), lost: early[lost]})
        with pytest.raises(CutError):
            trained(CORRECTED, resume, 16)
    assert trained(CORRECTED, resume)[1] != bits


def test_state_of_another_training_is_discarded_with_a_warning(
    resume: ResumeFile, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(CutError):
        trained(StraightThrough(), resume, 8)
    other = ResumeFile(resume.folder, "b" * 64)
    assert other.read() is None
    assert not other.path.exists()
    (record,) = caplog.records
    assert record.getMessage() == (
        f"training starts from the beginning; the saved state {other.path} is discarded: it belongs to a training "
        "with other options, data, seed or versions"
    )


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(
    "damage", [lambda _: b"", lambda _: b"garbage", lambda c: c[:-100], flipped, lambda c: c + b" "]
)
def test_damaged_state_is_discarded_with_a_warning(
    damage: Callable[[bytes], bytes], resume: ResumeFile, caplog: pytest.LogCaptureFixture
) -> None:
    _, bits = trained(StraightThrough(), None)
    with pytest.raises(CutError):
        trained(StraightThrough(), resume, 8)
    resume.path.write_bytes(damage(resume.path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        assert trained(StraightThrough(), resume)[1] == bits
    assert len(caplog.records) == 1
    assert "training starts from the beginning" in caplog.text


def test_no_code_of_the_file_is_run(resume: ResumeFile, caplog: pytest.LogCaptureFixture) -> None:
    payload = b"\x80\x02cos\nsystem\n(S'touch ran'\ntR."
    resume.folder.mkdir()
    header = f"{bitproof.train.resume.FORMAT} {resume.key} {hashlib.sha256(payload).hexdigest()}\n"
    resume.path.write_bytes(header.encode() + payload)
    assert resume.read() is None
    assert "it cannot be read" in caplog.text


def test_state_of_another_network_under_the_right_key_is_refused(resume: ResumeFile) -> None:
    resume.write({"tensors": {}})
    with pytest.raises(InputError, match=r"does not fit this training \('1\.weight'\); delete it$"):
        trained(StraightThrough(), resume)


@pytest.mark.usefixtures("every_step")
def test_diverged_training_keeps_its_last_good_state_and_names_it(resume: ResumeFile) -> None:
    steps = 0
    weights: list[Tensor] = []

    def loss(network: nn.Module, values: Tensor, labels: Tensor) -> Tensor:
        nonlocal steps
        steps += 1
        weights[:] = [parameter.detach().clone() for parameter in network.parameters()]
        return cross_entropy(network, values, labels) * (torch.inf if steps == 9 else 1.0)

    task = replace(quantized_task(), training_loss=loss)
    with pytest.raises(StageError) as caught:
        fit(make_fabric(CONFIG), task, CONFIG, Schedule(StraightThrough(), 1.0), 0, resume=resume)
    assert str(caught.value) == (
        "training of the quantized network diverged: loss inf in epoch 2, batch 3 (step 9); lower train.lr (now 0.02); "
        f"the last good state, of step 8, is kept in {resume.path}"
    )
    assert caught.value.exit_code == 4
    content = resume.read()
    assert isinstance(content, dict)
    assert content["step"] == 8
    for name, parameter in task.network.named_parameters():
        assert torch.equal(content["tensors"][name], parameter.detach())  # the optimizer made no step on the bad loss


def test_weights_that_are_not_finite_do_not_replace_a_good_state(resume: ResumeFile) -> None:
    task = quantized_task()
    fabric = make_fabric(CONFIG)
    optimizer = torch.optim.SGD(task.network.parameters(), 0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=4)
    state = TrainingState(task.network, optimizer, scheduler, {})
    keeper = bitproof.train.resume.Keeper(fabric, state, resume, "quantized")
    keeper.save()
    before = resume.path.read_bytes()
    with torch.no_grad():
        next(task.network.parameters()).fill_(torch.nan)
    state.step = 1
    keeper.save()
    assert resume.path.read_bytes() == before
    assert keeper.saved_step == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_training_on_cuda_goes_on_from_its_last_epoch(resume: ResumeFile) -> None:
    """The same bits are promised on the CPU only."""
    config = CONFIG.model_copy(update={"device": "cuda"})
    fabric = make_fabric(config)
    tasks = [
        moved(replace(quantized_task(), training_loss=CutLoss(cut), augment=noisy), fabric.device) for cut in (20, None)
    ]
    with seeded(7), pytest.raises(CutError):
        fit(fabric, tasks[0], config, Schedule(CORRECTED, 0.4), 0, resume=resume)
    saved = resume.read()
    assert isinstance(saved, dict)
    assert saved["step"] == 18
    assert len(saved["streams"]) == 2  # the CPU's and the device's
    outcome = fit(fabric, tasks[1], config, Schedule(CORRECTED, 0.4), 0, resume=resume)
    assert outcome.epochs[:3] == saved["history"]
    assert len(outcome.epochs) == 4


MODEL = ModelConfig(name="mlp", hidden=(16, 16), weight_bits=2, act_bits=4)
TRAIN = TrainConfig(
    epochs=12, batch_size=64, lr=0.02, device="cpu", nudge=False, estimator=EstimatorConfig(name="guided", start=0.5)
)
SCRIPT = """
import sys, warnings
warnings.simplefilter("ignore")
from pathlib import Path
from bitproof.pipeline import Artifact
from bitproof.pipeline.stage import execute
sys.path.insert(0, {tests!r})
from {module} import MODEL, TRAIN, TrainQuantized
run = Path({run!r})
execute(TrainQuantized(MODEL, TRAIN), Artifact.load(run / "data"), run / "train", seed=0, versions={{}}, name="train")
"""


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    final = tmp_path_factory.mktemp("digits") / "data"
    return execute(PrepareData(DataConfig(name="digits")), None, final, seed=0, versions={}, name="data")


def start(run: Path) -> subprocess.Popen[str]:
    script = SCRIPT.format(tests=str(Path(__file__).parent), module=Path(__file__).stem, run=str(run))
    support = str(Path(__file__).parent.parent / "support")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(["", support, *sys.path])}  # noqa: TID251
    return subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_stage_killed_by_the_system_goes_on_to_the_same_artifact(digits: Artifact, tmp_path: Path) -> None:
    run = digits.path.parent
    expected = execute(TrainQuantized(MODEL, TRAIN), digits, tmp_path / "train", seed=0, versions={}, name="train")
    assert not (tmp_path / "resume" / "train").exists()
    state = run / "resume" / "train" / "state"
    process = start(run)
    while not state.exists() and process.poll() is None:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert state.exists()
    assert not (run / "train").exists()
    again = start(run)
    _, errors = again.communicate(timeout=300)
    assert again.returncode == 0, errors
    assert "training of the quantized network resumes at step" in errors
    assert Artifact.load(run / "train").sha256 == expected.sha256
    assert not (run / "resume" / "train").exists()
