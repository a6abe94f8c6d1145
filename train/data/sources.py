"""The readers of data sets, by the names that a configuration gives them."""

from __future__ import annotations

from pathlib import Path

from bitproof.pipeline.config import DataConfig
from bitproof.train.data.cifar10 import read_cifar10
from bitproof.train.data.custom import read_custom
from bitproof.train.data.digits import read_digits
from bitproof.train.data.fashion_mnist import read_fashion_mnist
from bitproof.train.data.mnist import read_mnist
from bitproof.train.data.speech_commands import read_speech_commands
from bitproof.train.data.splits import Source
from bitproof.train.data.toyadmos import read_toyadmos


def read_source(config: DataConfig, scratch: Path, seed: int) -> Source:
    """Read the data set; downloads go to *scratch*, splits that it lacks are drawn by *seed*.

    Raises:
        InputError: it is not there (the message tells how to get it), or it is damaged.
    """
    root = config.root
    match config.name:
        case "digits":
            return read_digits(seed)
        case "fashion-mnist":
            return read_fashion_mnist(root, scratch)
        case "mnist":
            return read_mnist(root, scratch, seed)
        case "cifar-10":
            return read_cifar10(root, scratch)
        case "speech-commands":
            return read_speech_commands(root)
        case "toyadmos":
            return read_toyadmos(root, seed)
        case function:
            return read_custom(function, root, seed)
