"""How much each token attends to each other, in every layer and head, of both kinds of models.

The models themselves never form these weights: PyTorch's attention computes its result without
them. Here a layer's queries and keys are computed once more from what the layer reads.

Axes: T tokens, P prefix columns, S keys, C embedding, H heads, G heads of keys, D head size.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn

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
    layers = [cast(Attention, block.att) for block in model.trf_blocks]
    logits, inputs = _logits_and_inputs(model, layers, token_ids)
    read = zip(layers, inputs, strict=True)
    return logits, [_weights_of_layer(attention, *given) for attention, given in read]


@torch.no_grad()
def attention_weights(
    model: nn.Module,
    attention: MultiHeadAttention,
    token_ids: Sequence[int],
    prefix: Tensor | None = None,
) -> Tensor:
    """How much each token attends to each key: (H, T, T), or (H, T, P + T) with a prefix.

    `attention` is one of the model's `MultiHeadAttention` modules; `prefix` is the table of a
    `PrefixEncoder`, (P, 2 * L * C). Row i holds the weights of query i, which sum to 1.
    """
    _, inputs = _logits_and_inputs(model, [attention], token_ids)
    return _weights_of_layer(attention, *inputs[0], prefix=prefix)


def _logits_and_inputs(
    model: nn.Module, layers: Sequence[Attention], token_ids: Sequence[int]
) -> tuple[Tensor, list[tuple[Any, ...]]]:
    """(logits (T, V), what each of these layers is called with) for one row of tokens."""
    device = next(model.parameters()).device
    inputs: list[tuple[Any, ...]] = []
    with ExitStack() as stack:
        for attention in layers:
            hook = attention.register_forward_pre_hook(lambda _, given: inputs.append(given))
            stack.callback(hook.remove)
        stack.enter_context(evaluation_mode(model))
        logits = model(torch.tensor([list(token_ids)], device=device))[0]
    return logits, inputs


def _weights_of_layer(
    attention: Attention, x: Tensor, *given: Any, prefix: Tensor | None = None
) -> Tensor:
    """The weights (H, T, S) of a layer called with x (1, T, C) and, in a Llama, with cos and sin.

    S = P + T; a prefix is for GPT-2's layers alone.
    """
    T, C = x.shape[1:]
    is_grouped = isinstance(attention, GroupedQueryAttention)
    D = attention.head_size if is_grouped else C // attention.n_heads
    queries = attention.W_query(x[0])  # (T, H * D)
    keys = attention.W_key(x[0])  # (T, G * D)
    if prefix is not None:
        first = 2 * attention.layer * C  # where this layer's keys begin
        keys = torch.cat([prefix[:, first : first + C], keys])  # (S, C)
    S = len(keys)
    queries = queries.view(T, -1, D).transpose(0, 1)  # (T, H * D) -> (H, T, D)
    keys = keys.view(S, -1, D).transpose(0, 1)  # (S, G * D) -> (G, S, D)
    if is_grouped:
        cos, sin = given[:2]
        queries = rotate(queries, cos, sin)
        keys = rotate(keys, cos, sin)
    keys = keys.repeat_interleave(len(queries) // len(keys), dim=0)  # (G, S, D) -> (H, S, D)
    scores = queries @ keys.transpose(1, 2) / D**0.5  # (H, T, S)
    future = torch.ones(T, S, dtype=torch.bool, device=x.device).triu(diagonal=S - T + 1)
    return scores.masked_fill(future, -torch.inf).softmax(dim=-1)
