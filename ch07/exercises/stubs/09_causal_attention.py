"""Exercise 9: each token attends to what came before (the book's section 3.5)."""

import torch


def causal_attention(queries, keys, values):
    """softmax(Q K^T / sqrt(D)) V with a causal mask: three tensors (B, H, T, D) -> (B, H, T, D).

    B batch, H heads, T tokens, D head size. Token i gathers the values of tokens 0 to i, itself
    included, each weighted by the softmax, over these tokens, of query times key divided
    by sqrt(D). (Vaswani et al. 2017, "Attention Is All You Need", section 3.2.1.)
    """
    raise NotImplementedError
