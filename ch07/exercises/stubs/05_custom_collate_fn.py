"""Exercise 5: padding must teach nothing, but the end must be taught (the book's section 7.3)."""

import torch


def custom_collate_fn(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """Inputs and targets (B, T), int64, as in draft 2, but padding is not a target.

    Each row keeps one end-of-text target, in the place after its own last token; every target
    after that is `ignore_index`. Go by the row's length, not by the value 50256: a row may hold
    50256 in its middle. With `allowed_max_length`, inputs and targets keep only so many columns:
    a row with more tokens is cut, and has no end-of-text target, since its text goes on. `batch`
    is left as it is, and `device` stays "cpu" unless the caller says otherwise: data loader
    workers can't use a GPU. Example:
      [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]  ->  targets [[1, 2, 3, 4, 50256],
                                                         [6, 50256, -100, -100, -100],
                                                         [8, 9, 50256, -100, -100]]
    """
    raise NotImplementedError
