"""Exercise 5: padding teaches nothing, but the end must be learned (the book's section 7.3)."""

import torch


def custom_collate_fn(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """Inputs and targets (B, T), int64, as in draft 2, but padding is not a target.

    Each row keeps one end-of-text target, right after its own last token; every target after that
    is `ignore_index`. Use the row's length, not the value 50256: a row may contain 50256 itself.
    With `allowed_max_length`, inputs and targets keep only that many columns: a row with more
    tokens is cut and has no end-of-text target, since its text goes on. `batch` stays unchanged,
    and `device` is "cpu" unless the caller says otherwise: data loader workers can't use a GPU.
    Example:
      [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]  ->  targets [[1, 2, 3, 4, 50256],
                                                         [6, 50256, -100, -100, -100],
                                                         [8, 9, 50256, -100, -100]]
    """
    raise NotImplementedError
