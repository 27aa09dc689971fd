"""A model whose tensors have shapes but no memory, for weights that come from elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from ch07.models.architectures import BaseModel, ModelConfig, make_model

# What draws or sets initial weights: methods of a tensor, and functions of `torch.nn.init`.
INITIALISERS = {
    "fill_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "uniform_",
    "zero_",
    "zeros_",
}


class _WithoutInitialisation(TorchFunctionMode):
    """While it is active, initialisers return their tensor as it is.

    On the meta device they have no numbers to write. Yet there, the first `normal_` imports all of
    `torch._dynamo`, which takes longer than reading the weights of GPT-2 small.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(func, "__name__", None) in INITIALISERS:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def empty_model(config: ModelConfig) -> BaseModel:
    """A model on the meta device: `load_state_dict(state, assign=True)` gives it weights."""
    with torch.device("meta"), _WithoutInitialisation():
        return make_model(config)
