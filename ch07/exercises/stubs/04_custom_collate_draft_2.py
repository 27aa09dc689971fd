"""Exercise 4: what the model should predict at each position (the book's section 7.3)."""

import torch


def custom_collate_draft_2(batch, pad_token_id=50256, device="cpu"):
    """Inputs and targets, each (B, T), int64: the target of a token is the token after it.

    Each row gets one `pad_token_id` at its end, which means "the answer ends here", and is then
    padded with more of them. The inputs are all but the last column, the targets all but the
    first, so T is the length of the longest row. `batch` stays unchanged. Example:
      [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]  ->  targets [[1, 2, 3, 4, 50256],
                                                         [6, 50256, 50256, 50256, 50256],
                                                         [8, 9, 50256, 50256, 50256]]
    """
    raise NotImplementedError
