"""Exercise 14: what all rows begin with is read once (not in chapter 7)."""

import torch
import torch.nn.functional as F


def sum_loss_with_shared_beginning(input_batch, target_batch, model, device):
    """The loss summed over the counted targets, and their number, as a pair (tensor, int).

    `input_batch` and `target_batch` are (B, T), int64; a target of -100 is not counted. In the
    first P columns, all rows have the same input and the same target: find the largest such P,
    which may be 0. The model reads these columns once, as one row, and stores their keys and values
    in a KV cache; then it reads the B rests, which attend to them. Loss, number and gradient are
    those of a model that reads each row whole, so a target of the beginning counts once per row.
    Example, with P = 2:
      inputs  [[7, 8, 1], [7, 8, 2]]
      targets [[8, -100, 5], [8, -100, 6]]  ->  number 4

    `model` is a `GPTModel` without dropout, on `device`: model(token_ids, cache=cache) gives logits
    (B, T, V). `cache = model.new_cache(T)` is an empty cache with room for T columns, and
    `cache.keep(rows)` replaces its rows by those with these indices, which may repeat.
    """
    raise NotImplementedError
