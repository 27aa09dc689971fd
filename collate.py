"""Lists of token ids of different lengths -> one rectangle of inputs, one of targets.

The one idea: a language model is taught to say the next token, so the targets are the inputs
shifted by one; padding fills the rectangle and must teach nothing, except for the one
end-of-text token that tells the model to stop. Three versions, each mending the last.
This file knows nothing of text, tokenizers or models.

Axes: B batch, T tokens.
Source: Raschka, "Build a Large Language Model (From Scratch)", section 7.3.
"""

import numpy as np
import torch
from torch.utils.data import get_worker_info

END_OF_TEXT = 50256  # GPT-2's only special token: it ends a text, and it pads


def custom_collate_draft_1(batch, pad_token_id=END_OF_TEXT, device="cpu"):
    """Pad every row to the longest: inputs (B, T), int64.

    What is still wrong: there are no targets, so nothing can be learned from it.

    >>> custom_collate_draft_1([[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]])
    tensor([[    0,     1,     2,     3,     4],
            [    5,     6, 50256, 50256, 50256],
            [    7,     8,     9, 50256, 50256]])
    """
    return _padded(_checked_rows(batch, device), pad_token_id).to(device)


def custom_collate_draft_2(batch, pad_token_id=END_OF_TEXT, device="cpu"):
    """Add targets, the inputs shifted by one: two tensors (B, T), int64.

    A row gets one end-of-text token at its end; the inputs are all but the last column, the
    targets all but the first. What is still wrong: every padding token is a target as well, so
    most of what a short row teaches is to say end-of-text after end-of-text.

    >>> inputs, targets = custom_collate_draft_2([[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]])
    >>> targets
    tensor([[    1,     2,     3,     4, 50256],
            [    6, 50256, 50256, 50256, 50256],
            [    8,     9, 50256, 50256, 50256]])
    """
    rows = _checked_rows(batch, device)
    padded = _padded([np.append(row, pad_token_id) for row in rows], pad_token_id)
    return padded[:, :-1].to(device), padded[:, 1:].to(device)


def custom_collate_fn(
    batch,
    pad_token_id=END_OF_TEXT,
    ignore_index=-100,
    allowed_max_length=None,
    device="cpu",
):
    """Final version: targets after a row's own end are `ignore_index`, which the loss skips.

    Each row keeps one end-of-text target, at its own last place: without it a model never learns
    to stop. The place is found by counting, never by looking for 50256: the book's rule ("keep
    the first 50256") is the same on all rows without an inner 50256, but on [1, 50256, 2, 3] it
    masks the real end. Rows are cut to `allowed_max_length` tokens first; a cut row ends in the
    middle, so it has no end-of-text target. Returns inputs and targets (B, T), int64.

    >>> inputs, targets = custom_collate_fn([[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]])
    >>> inputs
    tensor([[    0,     1,     2,     3,     4],
            [    5,     6, 50256, 50256, 50256],
            [    7,     8,     9, 50256, 50256]])
    >>> targets
    tensor([[    1,     2,     3,     4, 50256],
            [    6, 50256,  -100,  -100,  -100],
            [    8,     9, 50256,  -100,  -100]])
    >>> custom_collate_fn([[1, 50256, 2, 3]])[1]
    tensor([[50256,     2,     3, 50256]])
    """
    _check_ids(pad_token_id, ignore_index)
    rows = _checked_rows(batch, device)
    if allowed_max_length is not None and allowed_max_length < 1:
        raise ValueError(f"allowed_max_length is {allowed_max_length}, but a row needs 1 token")
    longest = max(len(row) for row in rows)
    T = longest if allowed_max_length is None else min(longest, allowed_max_length)
    # Filled in as NumPy arrays, which are several times as fast as tensors for a row at a time.
    inputs = np.full((len(rows), T), pad_token_id)
    targets = np.full((len(rows), T), ignore_index)
    for i, row in enumerate(rows):
        n = min(len(row), T)
        inputs[i, :n] = row[:n]
        targets[i, : n - 1] = row[1:n]
        targets[i, n - 1] = row[n] if n < len(row) else pad_token_id
    return torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device)


def custom_collate_response_fn(
    batch,
    pad_token_id=END_OF_TEXT,
    ignore_index=-100,
    allowed_max_length=None,
    device="cpu",
):
    """The final version's sibling: only the answer and its end-of-text are targets.

    Each item is (prompt_length, token_ids); the prompt ends with the response header, so the
    header is masked too. Position i predicts token i + 1: the last prompt token predicts the
    first answer token, so prompt_length - 1 targets are masked.

    >>> custom_collate_response_fn([(3, [1, 2, 3, 4, 5]), (2, [6, 7, 8])])[1]
    tensor([[ -100,  -100,     4,     5, 50256],
            [ -100,     8, 50256,  -100,  -100]])
    """
    batch = list(batch)
    for i, item in enumerate(batch):
        pair = isinstance(item, tuple | list) and len(item) == 2
        if not (pair and isinstance(item[0], int)):
            raise ValueError(
                f"row {i} of the batch: expected (prompt_length, token_ids), got {item!r}"
            )
    token_ids = [ids for _, ids in batch]
    inputs, targets = custom_collate_fn(
        token_ids, pad_token_id, ignore_index, allowed_max_length, device
    )
    for i, (prompt_length, ids) in enumerate(batch):
        if not 0 <= prompt_length <= len(ids):
            raise ValueError(
                f"row {i} of the batch: prompt_length is {prompt_length}, "
                f"but the row has {len(ids)} tokens"
            )
        targets[i, : max(prompt_length - 1, 0)] = ignore_index
    return inputs, targets


def _padded(rows, pad_token_id):
    """Rows of different lengths -> one (B, T) rectangle, padded on the right."""
    padded = np.full((len(rows), max(map(len, rows))), pad_token_id)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
    return torch.from_numpy(padded)


def _check_ids(pad_token_id, ignore_index):
    """The padding is read by the model, so it is a token id; what the loss skips is none."""
    if type(pad_token_id) is not int or pad_token_id < 0:
        raise ValueError(f"pad_token_id is {pad_token_id!r}, but a token id is an int, 0 or more")
    if type(ignore_index) is not int or ignore_index >= 0:
        raise ValueError(f"ignore_index is {ignore_index!r}, but must be an int below 0: no token")


def _checked_rows(batch, device):
    """Each row as an int64 array, or a ValueError that says which row is wrong."""
    if get_worker_info() is not None and torch.device(device).type != "cpu":
        raise RuntimeError(
            f"collate runs inside a DataLoader worker and can't put tensors on {device!r}: "
            "leave device='cpu' and let the training loop move the batch"
        )
    rows = [_checked_row(i, row) for i, row in enumerate(batch)]
    if not rows:
        raise ValueError("empty batch")
    return rows


def _checked_row(i, row):
    try:
        token_ids = np.asarray(row)
    except (TypeError, ValueError, RuntimeError):  # no numbers, or not in a rectangle
        token_ids = np.array(None)
    kind = token_ids.dtype.kind  # boolean, (unsigned) integer, floating, complex, or no number
    if token_ids.ndim != 1 or len(token_ids) == 0 or kind not in "biufc":
        raise ValueError(f"row {i} of the batch: expected a list of token ids, got {row!r}")
    if kind not in "iu":
        raise ValueError(f"row {i} of the batch: token ids are integers, not {token_ids.dtype}")
    token_ids = token_ids.astype(np.int64, copy=False)
    if token_ids.min() < 0:
        raise ValueError(f"row {i} of the batch: {token_ids.min()} is no token id")
    return token_ids
