"""Exercise 18: several heads of queries share a head of keys and values (not in chapter 7)."""

import torch


def grouped_query_attention(queries, keys, values):
    """Causal attention with fewer heads of keys and values: a smaller cache.

    Queries and result are (B, H, T, D), keys and values (B, G, T, D), and H is a multiple of G.
    Each head of keys and values serves H / G heads of queries, which are neighbours. All else is as
    in exercise 9: softmax(Q K^T / sqrt(D)) V, where a token attends to itself and what came before.
    (Ainslie et al. 2023, "GQA", section 2.2.)
    Example, with H = 6 and G = 2:
      head of queries           0 1 2 3 4 5
      head of keys and values   0 0 0 1 1 1
    """
    raise NotImplementedError
