"""What a network of the user's must be so that every stage can read its codes, asked before it is trained."""

from __future__ import annotations

import copy

from torch import nn

from pipeline import InputError
from pipeline.config import ModelConfig
from train.layers import ends_of, require_input_codes
from train.models.build import require_logits


def require_own_network(model: ModelConfig, network: nn.Module, inputs: int, classes: int) -> None:
    """Refuse the untrained *network* that ``model.name`` gave where its codes could not be read once it is trained.

    A copy is run; *network* itself stays as it is.

    Raises:
        InputError: it cannot be run on values of shape (N, *inputs*), gives no logits of shape (N, *classes*), does not
            begin with a quantizer that passes the codes of the data unchanged, or its outputs have no known scale.
    """
    # In training mode the trial moves an input scale that is learned: it does not pass for a constant one.
    trial = copy.deepcopy(network)
    require_logits(model.name, trial, inputs, classes)
    try:
        require_input_codes(trial, model.input_bits)
        ends_of(trial.eval(), inputs)
    except InputError as error:
        raise InputError(f"model.name = {model.name!r}: {error}") from error
