"""The safe reader of YAML configuration files: no tags, no aliases, no duplicate keys, a size limit."""

from __future__ import annotations

import re
from collections.abc import Hashable
from functools import partial
from pathlib import Path

import yaml

from bitproof.pipeline.config import RunConfig
from bitproof.pipeline.config_file import override, validate
from bitproof.pipeline.errors import ConfigError
from bitproof.pipeline.plain_file import read_bytes
from bitproof.targets import check_targets

MAX_BYTES = 1 << 20


class _UniqueKeyLoader(yaml.SafeLoader):
    """The safe loader, but a key that repeats is an error instead of the last one winning."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases: a few lines of them can stand for gigabytes."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # untyped in the stubs
            raise yaml.MarkedYAMLError(problem="aliases (*name) are not supported; write the value", problem_mark=mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, object]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key!r} repeats", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# YAML 1.1, which PyYAML reads, takes 1e-5 for text; JSON, Python and YAML 1.2 take it for a number.
_UniqueKeyLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+"), list("-+0123456789")
)


def read_config(path: Path, assignments: tuple[str, ...] = ()) -> RunConfig:
    """Read and validate the configuration at *path*, with ``section.key=value`` *assignments* on top.

    Relative paths in it stand for what lies beside it, or else in the current directory.

    Raises:
        ConfigError: the file is missing, too large or not YAML, or a key or value is not valid.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigError(f"{path} is not a regular file; give a YAML file")
        if path.stat().st_size > MAX_BYTES:
            raise ConfigError(f"{path} has {path.stat().st_size} bytes; a configuration has at most {MAX_BYTES}")
        content = _parse(read_bytes(path, MAX_BYTES).decode("utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read the configuration {path}: {error}") from error
    if assignments and isinstance(content, dict):
        content = override(content, tuple(_parse_assignment(text) for text in assignments))
    folder = path.absolute().parent
    config = validate(content, file=path, check_targets=partial(check_targets, folder=folder))
    return _with_absolute_paths(config, folder)


def _with_absolute_paths(config: RunConfig, folder: Path) -> RunConfig:
    """Make the paths in *config* absolute: the stages run in the folder of the run, not in the user's.

    What lies beside the configuration, in *folder*, comes before what lies in the current directory, so that a
    configuration that is kept with its files runs from everywhere.
    """
    data, model = config.data, config.model
    if data.root is not None:
        data = data.model_copy(update={"root": _absolute(data.root, folder)})
    data = data.model_copy(update={"name": _absolute_name(data.name, folder)})
    model = model.model_copy(update={"name": _absolute_name(model.name, folder)})
    return config.model_copy(update={"data": data, "model": model})


def _absolute(path: Path, folder: Path) -> Path:
    return folder / path if (folder / path).exists() else path.absolute()


def _absolute_name(name: str, folder: Path) -> str:
    """Return ``path/to/file.py:function`` with an absolute path, and any other name as it is."""
    file, colon, function = name.rpartition(":")
    return f"{_absolute(Path(file), folder)}:{function}" if colon else name


def _parse(text: str) -> object:
    """Parse YAML; a value that its own tag rejects (a date that does not exist, say) is an error of the text, too."""
    try:
        return yaml.load(text, Loader=_UniqueKeyLoader)  # noqa: S506  a subclass of SafeLoader
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise yaml.YAMLError(f"a value is not valid YAML: {error}") from error


def _parse_assignment(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ConfigError(f"cannot set {text!r}: write section.key=value, for example train.epochs=3")
    try:
        return key.strip(), _parse(value)
    except yaml.YAMLError as error:
        quoted = _with_quoted_targets(value)
        if quoted is not None:
            hint = f"a target with options needs quotes: --set '{key}={quoted}'"
            raise ConfigError(f"cannot set {key!r}: {value!r} is not YAML; {hint}") from error
        raise ConfigError(f"cannot set {key!r}: {value!r} is not YAML: {error}") from error


def _with_quoted_targets(text: str) -> str | None:
    """Return *text* with every bare ``name{key=value}`` in double quotes; None if that does not make it YAML."""
    quoted = re.sub(r"""(?<!["'\w-])[\w-]+\{[^{}"']*\}""", r'"\g<0>"', text)
    try:
        _parse(quoted)
    except yaml.YAMLError:
        return None
    return quoted
