"""The rules for a user's network, so that every stage can read its codes: asked before it is trained."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import suppress
from functools import partial

import brevitas.nn as qnn
import torch
from brevitas.nn.quant_rnn import QuantRecurrentStackBase
from torch import nn

from bitproof.pipeline import InputError
from bitproof.pipeline.config import ModelConfig
from bitproof.train.layers import ends_of, require_input_codes
from bitproof.train.models.build import require_logits

RECURRENT, ATTENTION = "a recurrent layer", "a layer of attention"
NOT_INTEGERS: Mapping[type[nn.Module], str] = {
    nn.RNNBase: RECURRENT,
    nn.RNNCellBase: RECURRENT,
    QuantRecurrentStackBase: RECURRENT,
    nn.MultiheadAttention: ATTENTION,
    nn.Transformer: ATTENTION,
    nn.TransformerEncoderLayer: ATTENTION,
    nn.TransformerDecoderLayer: ATTENTION,
    qnn.QuantMultiheadAttention: ATTENTION,
    qnn.ScaledDotProductAttention: ATTENTION,
    qnn.QuantScaledDotProductAttention: ATTENTION,
}
"""Layers that the exporter takes apart or fails on, so that its messages would not name them."""


def require_own_network(model: ModelConfig, network: nn.Module, inputs: int, classes: int) -> None:
    """Refuse the untrained *network* that ``model.name`` gave if its codes could not be read once it is trained.

    A copy is run; *network* itself stays as it is.

    Raises:
        InputError: it has a layer without a form in integers, cannot be run on values of shape (N, *inputs*), gives no
            logits of shape (N, *classes*), does not begin with a quantizer that passes the codes of the data unchanged,
            or its outputs have no known scale.
    """
    _require_known_kinds(model.name, network, inputs)
    # In training mode the trial moves an input scale that is learned: it does not pass for a constant one.
    trial = copy.deepcopy(network)
    require_logits(model.name, trial, inputs, classes)
    try:
        require_input_codes(trial, model.input_bits)
        ends_of(trial.eval(), inputs)
    except InputError as error:
        raise InputError(f"model.name = {model.name!r}: {error}") from error


def _require_known_kinds(name: str, network: nn.Module, inputs: int) -> None:
    """Refuse the layers of NOT_INTEGERS that a pass through a copy of *network* runs, by their names in it."""
    trial, ran = copy.deepcopy(network), list[str]()
    for path, layer in trial.named_modules():
        if any(isinstance(layer, kind) for kind in NOT_INTEGERS):
            layer.register_forward_pre_hook(partial(_note, ran, path))
    with suppress(Exception), torch.no_grad():  # what is wrong otherwise is said by the trial after this one
        trial(torch.zeros(2, inputs))
    if not ran:
        return
    layer = dict(trial.named_modules())[ran[0]]
    what = next(what for kind, what in NOT_INTEGERS.items() if isinstance(layer, kind))
    raise InputError(
        f"model.name = {name!r}: {f'its layer {ran[0]}' if ran[0] else 'it'} is a {type(layer).__name__}, {what}, "
        "which has no form in integers here; supported are linear and convolutional layers, batch norms, quantized "
        "activations, pools, sums and concatenations (docs/integer-model.md)"
    )


def _note(ran: list[str], path: str, *_: object) -> None:
    ran.append(path)
