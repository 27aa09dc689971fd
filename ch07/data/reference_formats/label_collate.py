"""Collate rows of labels into a batch: token ids, labels and an attention mask.

The one idea: ids are padded on the right with a padding token, labels with -100, which the loss
ignores, and the attention mask is 1 at a row's own tokens. The mask follows from each row's length,
as in Hugging Face's `DataCollatorForSeq2Seq`. Stanford Alpaca's `DataCollatorForSupervisedDataset`
(train.py) compares each id with the padding token instead, and so masks every end-of-text token
when that also serves as padding. For a causal model padded on the right the mask changes no
counted loss, but anything else that reads it is misled. Knows nothing of text. Axes: B batch,
T tokens.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ch07.data.reference_formats.alpaca_labels import LabelRow
from ch07.utils.errors import InputError
from collate import END_OF_TEXT, custom_collate_fn


def collate_label_rows(
    rows: Iterable[LabelRow],
    pad_token_id: int = END_OF_TEXT,
    ignore_index: int = -100,
    *,
    mask_by_value: bool = False,
    length: int | None = None,
) -> dict[str, Tensor]:
    """{"input_ids", "labels", "attention_mask"}, each (B, T), from rows with `ids` and `labels`.

    T is the length of the longest row, or `length`. The mask is int64; with `mask_by_value` it is
    Alpaca's boolean mask. ValueError for an empty batch, for a row whose ids and labels differ in
    length, and for a row longer than `length`.

    >>> from ch07.data.reference_formats.alpaca_labels import original_row
    >>> batch = collate_label_rows([original_row([1, 2, 3], [4, 5]), original_row([6], [7])])
    >>> batch["input_ids"]
    tensor([[    1,     2,     3,     4,     5, 50256],
            [    6,     7, 50256, 50256, 50256, 50256]])
    >>> batch["labels"]
    tensor([[ -100,  -100,  -100,     4,     5, 50256],
            [ -100,     7, 50256,  -100,  -100,  -100]])
    >>> batch["attention_mask"][1]
    tensor([1, 1, 1, 0, 0, 0])
    """
    rows = list(rows)
    ids, _ = custom_collate_fn([row.ids for row in rows], pad_token_id)  # (B, T)
    for i, row in enumerate(rows):
        if len(row.labels) != len(row.ids):
            raise InputError(
                f"row {i} of the batch: {len(row.ids)} ids, but {len(row.labels)} labels"
            )
        if length is not None and len(row.ids) > length:
            raise InputError(f"row {i} of the batch: {len(row.ids)} tokens, but length is {length}")
    labels = [torch.tensor(row.labels, dtype=torch.int64) for row in rows]
    labels = pad_sequence(labels, batch_first=True, padding_value=ignore_index)  # (B, T)
    extra_columns = 0 if length is None else length - ids.shape[1]
    ids = torch.nn.functional.pad(ids, (0, extra_columns), value=pad_token_id)
    labels = torch.nn.functional.pad(labels, (0, extra_columns), value=ignore_index)
    lengths = torch.tensor([len(row.ids) for row in rows])
    if mask_by_value:
        mask = ids != pad_token_id
    else:
        mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}
