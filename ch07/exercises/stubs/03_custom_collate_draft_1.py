"""Exercise 3: rows of different lengths become one rectangle (the book's section 7.3)."""

import torch


def custom_collate_draft_1(batch, pad_token_id=50256, device="cpu"):
    """Pad each row on the right to the longest row of the batch: inputs (B, T), int64.

    `batch` is a list of lists of token ids. It belongs to the caller: leave it unchanged. The
    result is on `device`. Example:
      [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]  ->  [[0, 1, 2, 3, 4],
                                                 [5, 6, 50256, 50256, 50256],
                                                 [7, 8, 9, 50256, 50256]]
    """
    raise NotImplementedError
