"""Every mistake in a configuration names the file, the key, the value, what is allowed and the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.config_file import validate
from bitproof.pipeline.errors import ConfigError
from bitproof.pipeline.run_folder import RunFolder
from bitproof.pipeline.target import parse_spec
from bitproof.targets import check_targets
from bitproof.yaml_file import read_config

ROOT = Path(__file__).parent.parent.parent
MINIMAL = """\
name: tiny
data: {name: digits}
model: {name: mlp, hidden: [8]}
targets: [onnx-int8]
"""


def read(folder: Path, text: str, *assignments: str) -> RunConfig:
    path = folder / "tiny.yaml"
    path.write_text(text)
    return read_config(path, assignments)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid_and_named_after_their_file(path: Path) -> None:
    assert read_config(path).name == path.stem


def test_configuration_survives_its_record_in_the_run_folder(tmp_path: Path) -> None:
    config = read_config(ROOT / "configs" / "fashion_mnist_mlp.yaml")
    run = RunFolder(tmp_path / "run")
    run.write_config(config)
    assert RunFolder.open(tmp_path / "run").config() == config


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            MINIMAL + "train: {epoch: 3}",
            "unknown key 'train.epoch' (value 3); did you mean 'epochs'? Known here: batch_size",
        ),
        (MINIMAL + "trian: {}", "unknown key 'trian' (value {}); did you mean 'train'?"),
        (MINIMAL + "train: {epochs: many}", "train.epochs = 'many': Input should be a valid integer"),
        (MINIMAL + "train: {epochs: 0}", "train.epochs = 0: Input should be greater than or equal to 1"),
        (MINIMAL + "train: {lr: .nan}", "train.lr = nan"),
        (MINIMAL + "train: {estimator: {beta_min: 0}}", "train.estimator.beta_min = 0: Input should be greater than 0"),
        (MINIMAL + "gates: {float_vs_quantized: .inf}", "gates.float_vs_quantized = inf"),
        (MINIMAL + "seed: -1", "seed = -1: Input should be greater than or equal to 0"),
        (MINIMAL + "seed: true", "seed = True"),
        (
            MINIMAL.replace("onnx-int8", "onnx-int9"),
            "unknown target 'onnx-int9' in 'onnx-int9'; did you mean 'onnx-int8'?",
        ),
        (
            MINIMAL.replace("onnx-int8", "'c{core=z80}'"),
            "core = 'z80': Input should be 'cortex-m0', 'cortex-m3', 'cortex-m4', 'cortex-m7', 'cortex-m33', 'cortex-m",
        ),
        (MINIMAL.replace("[8]", "32"), "tiny.yaml: model.hidden = 32: must be a list, for example [64, 64]"),
        (
            MINIMAL.replace("onnx-int8", "'finn{board=zcu}'"),
            "board = 'zcu': unknown board 'zcu'; known: pynq-z1, pynq-z2, tang-nano-20k, ulx3s-85f (options: ",
        ),
        (
            MINIMAL.replace("onnx-int8", "'c{cores=cortex-m4}'"),
            "cores = 'cortex-m4': Extra inputs are not permitted (options: core, flash, ram, prefix)",
        ),
        (MINIMAL.replace("onnx-int8", "'finn{fps=0}'"), "fps = '0': Input should be greater than or equal to 1"),
        (MINIMAL.replace("[onnx-int8]", "[]"), "targets = ()"),
        (MINIMAL.replace("[onnx-int8]", "[onnx-int8, onnx-int8]"), "would both be called 'onnx-int8'; keep one"),
        (MINIMAL.replace("name: tiny", "name: ../../etc"), "name = '../../etc'"),
        (MINIMAL.replace("name: mlp", "name: mpl"), "model.name = 'mpl'"),
        (MINIMAL.replace("[8]", "[0]"), "model.hidden.0 = 0: Input should be greater than or equal to 1"),
        (MINIMAL + "seed: 2020-99-99", "a value is not valid YAML"),
        (MINIMAL + "seed: !!int abc", "a value is not valid YAML"),
        (MINIMAL + "? [a, b]\n: 1", "cannot read the configuration"),
        ("a: &a [1]\nb: *a\n", "aliases (*name) are not supported; write the value"),
        (MINIMAL + "name: again", "key 'name' repeats"),
        ("- a\n- b\n", "the file holds list; it must hold a mapping"),
        ("", "the file holds NoneType"),
        ("name: [", "cannot read the configuration"),
        ("a: !!python/object/apply:os.system ['true']", "could not determine a constructor"),
        ("name: tiny", "key 'data' is missing"),
    ],
)
def test_a_mistake_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text)
    assert words in str(caught.value)
    assert "tiny.yaml" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the configuration .*none\.yaml"):
        read_config(tmp_path / "none.yaml")


def test_a_folder_is_no_configuration(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a regular file"):
        read_config(tmp_path)


def test_paths_are_made_absolute_since_stages_run_elsewhere(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL, "model.name=nets/mine.py:build", "data.root=here")
    assert config.model.name == f"{Path('nets/mine.py').absolute()}:build"
    assert config.data.root == Path("here").absolute()


@pytest.mark.parametrize("key", ["model.name", "data.name", "data.root"])
def test_what_lies_beside_the_configuration_comes_before_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    beside, here = tmp_path / "beside", tmp_path / "here"
    for folder in (beside, here):
        (folder / "nets").mkdir(parents=True)
    (here / "nets" / "mine.py").touch()
    monkeypatch.chdir(here)
    section, _, field = key.partition(".")
    suffix = ":make" if field == "name" else ""

    def found() -> str:
        return str(getattr(getattr(read(beside, MINIMAL, f"{key}=nets/mine.py{suffix}"), section), field))

    assert found() == f"{here}/nets/mine.py{suffix}"
    (beside / "nets" / "mine.py").touch()
    assert found() == f"{beside}/nets/mine.py{suffix}"


def test_values_are_replaced_by_dotted_name(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL, "train.epochs=3", "train.estimator.start=0.5", "targets=[c]")
    assert (config.train.epochs, config.train.estimator.start) == (3, 0.5)
    assert [str(target) for target in config.targets] == ["c{core=cortex-m4}"]


@pytest.mark.parametrize(("text", "size"), [("65536", 65536), ("64k", 65536), ("1M", 1 << 20), ("1024M", 1 << 30)])
def test_a_memory_is_a_number_of_bytes(tmp_path: Path, text: str, size: int) -> None:
    config = read(tmp_path, MINIMAL, f"targets=['c{{core=cortex-m4, flash={text}, ram=512}}']")
    (target,) = config.targets
    assert str(target) == f"c{{core=cortex-m4, flash={size}, ram=512}}"
    assert check_targets((parse_spec(str(target)),)) == (target,)


@pytest.mark.parametrize("text", ["0", "-1", "64K", "64 k", "1.5M", "1025M", "0x10", "k"])
def test_a_memory_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="flash = "):
        read(tmp_path, MINIMAL, f"targets=['c{{flash={text}}}']")


@pytest.mark.parametrize(("text", "lr"), [("1e-5", 1e-5), ("2.5e-3", 2.5e-3), ("1E-2", 1e-2), ("0.01", 0.01)])
def test_a_number_with_an_exponent_is_a_number(tmp_path: Path, text: str, lr: float) -> None:
    assert read(tmp_path, MINIMAL, f"train.lr={text}").train.lr == lr


def test_the_recorded_configuration_can_be_run_again(tmp_path: Path) -> None:
    config = read(tmp_path, MINIMAL, "train.lr=1e-5", "targets=[c, finn]")
    run = RunFolder(tmp_path / "run")
    run.write_config(config)
    assert read_config(run.path / "config.json") == config == run.config()


@pytest.mark.parametrize("assignment", ["train.epochs", "..=3", "name.x=3", "train.epoch=3", "train=[", "=1"])
def test_a_bad_assignment_is_refused(tmp_path: Path, assignment: str) -> None:
    with pytest.raises(ConfigError):
        read(tmp_path, MINIMAL, assignment)


def test_a_target_without_its_quotes_is_told_where_they_go(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, MINIMAL, "targets=[onnx-int8, c{core=cortex-m0}]")
    told = """targets=[onnx-int8, "c{core=cortex-m0}"]"""
    assert str(caught.value) == (
        "cannot set 'targets': '[onnx-int8, c{core=cortex-m0}]' is not YAML; a target with options needs quotes: "
        f"--set '{told}'"
    )
    assert [str(target) for target in read(tmp_path, MINIMAL, told).targets] == ["onnx-int8", "c{core=cortex-m0}"]


@pytest.mark.parametrize("key", ["estimator", "faults", "wrap"])
def test_value_in_the_place_of_a_section_is_told_the_keys(key: str) -> None:
    content = {"name": "x", "data": {"name": "digits"}, "model": {"name": "mlp"}, "targets": ["onnx-int8"]}
    with pytest.raises(ConfigError, match=rf"^x\.yaml: train\.{key} = 'ste': must be a section; its keys: \w+"):
        validate({**content, "train": {key: "ste"}}, file=Path("x.yaml"), check_targets=check_targets)
