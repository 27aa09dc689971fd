"""Exercise 6: only the answer is a target (exercise 7.2 of the book)."""

import torch

from collate import custom_collate_fn  # the solution of exercise 5


def custom_collate_response_fn(
    batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
):
    """Inputs and targets (B, T), int64, as in exercise 5, but no token of a prompt is a target.

    Each item of `batch` is (prompt_length, token_ids): the first `prompt_length` ids are the
    prompt (there may be none), response header included; the rest is the answer. The remaining
    targets are the tokens of the answer and its end-of-text. Mind the shift: position i predicts
    token i + 1.
    Example:
      [(3, [1, 2, 3, 4, 5]), (2, [6, 7, 8])]  ->  targets [[-100, -100, 4, 5, 50256],
                                                           [-100, 8, 50256, -100, -100]]
    """
    raise NotImplementedError
