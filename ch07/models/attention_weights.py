"""How much each token attends to each other, in every layer and head, of both kinds of models.

The models themselves never form these weights: PyTorch's attention computes its result without
them. Here each layer's queries and keys are computed once more from what the layer reads.

Axes: T tokens, C embedding, H heads, G heads of keys, D head size.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor

from ch07.models.architectures import BaseModel
from ch07.models.llama import GroupedQueryAttention, rotate
from ch07.utils.evaluation_mode import evaluation_mode
from gpt_model import MultiHeadAttention

Attention = MultiHeadAttention | GroupedQueryAttention


@torch.inference_mode()
def logits_and_attention(model: BaseModel, token_ids: Sequence[int]) -> tuple[Tensor, list[Tensor]]:
    """(logits (T, V), attention weights (H, T, T) of each layer) of one row of tokens.

    Row i of a head holds the weights of query i: they sum to 1, and are 0 for later tokens.
    """
    device = next(model.parameters()).device
    layers = [cast(Attention, block.att) for block in model.trf_blocks]
    inputs: list[tuple[Any, ...]] = []  # of each layer
    with ExitStack() as stack:
        for attention in layers:
            hook = attention.register_forward_pre_hook(lambda _, given: inputs.append(given))
            stack.callback(hook.remove)
        stack.enter_context(evaluation_mode(model))
        logits = model(torch.tensor([list(token_ids)], device=device))[0]
    read = zip(layers, inputs, strict=True)
    return logits, [_weights_of_layer(attention, *given[:3]) for attention, given in read]


def _weights_of_layer(attention: Attention, x: Tensor, *given: Any) -> Tensor:
    """The weights (H, T, T) of a layer that reads x (1, T, C) and, in a Llama, cos and sin."""
    T, C = x.shape[1:]
    is_grouped = isinstance(attention, GroupedQueryAttention)
    D = attention.head_size if is_grouped else C // attention.n_heads
    queries = attention.W_query(x[0]).view(T, -1, D).transpose(0, 1)  # (T, C) -> (H, T, D)
    keys = attention.W_key(x[0]).view(T, -1, D).transpose(0, 1)  # (G, T, D)
    if is_grouped:
        cos, sin = given
        queries = rotate(queries, cos, sin)
        keys = rotate(keys, cos, sin)
    keys = keys.repeat_interleave(len(queries) // len(keys), dim=0)  # (G, T, D) -> (H, T, D)
    scores = queries @ keys.transpose(1, 2) / D**0.5  # (H, T, T)
    future = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(diagonal=1)
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1)
