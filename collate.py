"""Lists of token ids of different lengths -> one rectangle of inputs and one of targets.

The one idea: a language model learns to predict the next token, so the targets are the inputs
shifted by one. Padding fills the rectangle. The model should learn nothing from it, except from
one end-of-text token after each row, which teaches it to stop. There are three versions; each
corrects what is still wrong with the one before. A fourth function has only the answers as targets.
This file knows nothing of text, tokenizers or models.

Axes: B batch, T tokens.
Source: Raschka, "Build a Large Language Model (From Scratch)", section 7.3.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

END_OF_TEXT = 50256  # GPT-2's only special token: it ends a text, and it serves as padding
IGNORE_INDEX = -100  # a target that PyTorch's cross_entropy skips

TokenIds = Sequence[int] | np.ndarray | Tensor  # one row


# --- two drafts, for rows that are lists of ids ---------------------------------------------------


def custom_collate_draft_1(
    batch: Sequence[list[int]], pad_token_id: int = END_OF_TEXT, device: str = "cpu"
) -> Tensor:
    """Pad every row to the length of the longest: inputs (B, T), int64.

    What is still wrong: without targets, there is nothing to learn.

    >>> custom_collate_draft_1([[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]])
    tensor([[    0,     1,     2,     3,     4],
            [    5,     6, 50256, 50256, 50256],
            [    7,     8,     9, 50256, 50256]])
    """
    batch_max_length = max(len(item) for item in batch)
    inputs = []
    for item in batch:
        padding = [pad_token_id] * (batch_max_length - len(item))
        inputs.append(torch.tensor([*item, *padding]))
    return torch.stack(inputs).to(device)


def custom_collate_draft_2(
    batch: Sequence[list[int]], pad_token_id: int = END_OF_TEXT, device: str = "cpu"
) -> tuple[Tensor, Tensor]:
    """Add the targets, which are the inputs shifted by one: two tensors (B, T), int64.

    At least one end-of-text token follows each row. The inputs are all columns but the last, the
    targets all but the first. What is still wrong: padding tokens are targets like any other, so a
    short row mostly teaches the model to predict end-of-text after end-of-text.

    >>> inputs, targets = custom_collate_draft_2([[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]])
    >>> targets
    tensor([[    1,     2,     3,     4, 50256],
            [    6, 50256, 50256, 50256, 50256],
            [    8,     9, 50256, 50256, 50256]])
    """
    batch_max_length = max(len(item) + 1 for item in batch)
    inputs = []
    targets = []
    for item in batch:
        padding = [pad_token_id] * (batch_max_length - len(item))
        padded = torch.tensor([*item, *padding])
        inputs.append(padded[:-1])
        targets.append(padded[1:])
    return torch.stack(inputs).to(device), torch.stack(targets).to(device)


# --- the final version, and the checks of its arguments -------------------------------------------


def check_special_ids(pad_token_id: int, ignore_index: int) -> None:
    """Raise ValueError unless the padding is a token id and `ignore_index` is not."""
    # `type`, not `isinstance`: True and False are ints as well.
    if type(pad_token_id) is not int or pad_token_id < 0:
        raise ValueError(f"pad_token_id is {pad_token_id!r}, but a token id is an int, 0 or more")
    if type(ignore_index) is not int or ignore_index >= 0:
        raise ValueError(
            f"ignore_index is {ignore_index!r}, but must be an int below 0, so that no token has it"
        )


def check_device(device: str | torch.device) -> None:
    """Raise RuntimeError in a DataLoader worker that would put tensors on a GPU.

    Workers are separate processes, usually forked, and CUDA can't be used in a forked process.
    """
    if get_worker_info() is not None and torch.device(device).type != "cpu":
        raise RuntimeError(
            f"collate runs inside a DataLoader worker and can't put tensors on {device!r}: "
            "leave device='cpu' and let the training loop move the batch"
        )


def to_token_array(i: int, row: TokenIds) -> np.ndarray:
    """Row i of a batch as an int64 array; raises ValueError unless it is a list of token ids."""
    try:
        token_ids = np.asarray(row)
    except (TypeError, ValueError, RuntimeError):  # not numbers, or nested lists of unequal length
        token_ids = np.array(None)  # has no axis, so the check below refuses it
    # b: boolean, i: integer, u: unsigned integer, f: floating, c: complex; others aren't numbers
    kind = token_ids.dtype.kind
    if token_ids.ndim != 1 or len(token_ids) == 0 or kind not in "biufc":
        raise ValueError(f"row {i} of the batch: expected a list of token ids, got {row!r}")
    if kind not in "iu":
        raise ValueError(f"row {i} of the batch: token ids are integers, not {token_ids.dtype}")
    token_ids = token_ids.astype(np.int64, copy=False)
    if token_ids.min() < 0:
        raise ValueError(f"row {i} of the batch: {token_ids.min()} is not a token id")
    return token_ids


def custom_collate_fn(
    batch: Iterable[TokenIds],
    pad_token_id: int = END_OF_TEXT,
    ignore_index: int = IGNORE_INDEX,
    allowed_max_length: int | None = None,
    device: str | torch.device = "cpu",
) -> tuple[Tensor, Tensor]:
    """Final version: targets beyond the end of a row are `ignore_index`, which the loss skips.

    The target of a row's last token is end-of-text, for which `pad_token_id` serves; without it, a
    model never learns to stop. Its place follows from the length of the row, not from a search for
    50256. The book's rule ("keep the first 50256") gives the same result for all rows that don't
    contain 50256 themselves, but for [1, 50256, 2, 3] it masks the real end. The inputs of a row
    are its first `allowed_max_length` tokens; the last target of a row that is cut is the token
    after the cut, not end-of-text, because the row does not end there. Returns inputs and targets,
    (B, T) each, int64. Raises ValueError with the number of a row that is malformed.

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
    check_special_ids(pad_token_id, ignore_index)
    check_device(device)
    rows = [to_token_array(i, row) for i, row in enumerate(batch)]
    if not rows:
        raise ValueError("empty batch")
    if allowed_max_length is not None and allowed_max_length < 1:
        raise ValueError(f"allowed_max_length is {allowed_max_length}, but must be 1 or more")
    T = max(len(row) for row in rows)
    if allowed_max_length is not None:
        T = min(T, allowed_max_length)
    # NumPy arrays are several times as fast as tensors when they are filled row by row.
    inputs = np.full((len(rows), T), pad_token_id, dtype=np.int64)
    targets = np.full((len(rows), T), ignore_index, dtype=np.int64)
    for i, row in enumerate(rows):
        n = min(len(row), T)
        inputs[i, :n] = row[:n]
        targets[i, : n - 1] = row[1:n]
        is_cut = n < len(row)
        targets[i, n - 1] = row[n] if is_cut else pad_token_id  # the next token, or end-of-text
    return torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device)


# --- the loss on answers alone --------------------------------------------------------------------


def check_pair(i: int, item: tuple[int, TokenIds]) -> None:
    """Raise ValueError unless item i of a batch is (prompt_length, token_ids)."""
    is_pair = isinstance(item, tuple | list) and len(item) == 2
    if not (is_pair and isinstance(item[0], int)):
        raise ValueError(f"row {i} of the batch: expected (prompt_length, token_ids), got {item!r}")


def custom_collate_response_fn(
    batch: Iterable[tuple[int, TokenIds]],
    pad_token_id: int = END_OF_TEXT,
    ignore_index: int = IGNORE_INDEX,
    allowed_max_length: int | None = None,
    device: str | torch.device = "cpu",
) -> tuple[Tensor, Tensor]:
    """Like the final version, but only the answer and its end-of-text token are targets.

    Each item is (prompt_length, token_ids). The prompt includes the header "### Response:", which
    is therefore masked as well. Position i predicts token i + 1, and the last token of the prompt
    predicts the first token of the answer; so prompt_length - 1 targets are masked. A row whose
    answer is cut off entirely has no target left. Raises ValueError if prompt_length is not within
    the row.

    >>> custom_collate_response_fn([(3, [1, 2, 3, 4, 5]), (2, [6, 7, 8])])[1]
    tensor([[ -100,  -100,     4,     5, 50256],
            [ -100,     8, 50256,  -100,  -100]])
    """
    batch = list(batch)
    for i, item in enumerate(batch):
        check_pair(i, item)
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
        targets[i, : max(prompt_length - 1, 0)] = ignore_index  # 0: a row may have no prompt
    return inputs, targets
