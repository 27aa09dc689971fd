"""Label rows -> one rectangle of ids, one of labels, one that says which ids are real.

The one idea: ids are padded on the right with a token, labels with -100, which the loss skips, and
an attention mask is 1 where a row has a token of its own. The place is counted, as Hugging Face's
`DataCollatorForSeq2Seq` does; Stanford Alpaca's `DataCollatorForSupervisedDataset` (train.py) asks
each id whether it is the padding token, and so blinds the model to every end-of-text where
that pads too. For a causal model padded on the right the mask changes no counted loss; it is wrong
for all that reads it. Knows nothing of text. Axes: B batch, T tokens.
"""

import torch
from torch.nn.utils.rnn import pad_sequence

from collate import END_OF_TEXT, custom_collate_fn


def collate_label_rows(
    rows, pad_token_id=END_OF_TEXT, ignore_index=-100, mask_by_value=False, length=None
):
    """{"input_ids", "labels", "attention_mask"}, each (B, T), of rows with `ids` and `labels`.

    T is the longest row's, or `length`. The mask is int64; with `mask_by_value` it is Alpaca's,
    boolean. ValueError for an empty batch, for ids and labels of different lengths, and for a row
    longer than `length`.

    >>> from ch07.systems.reference_formats.alpaca_labels import original_row
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
            raise ValueError(
                f"row {i} of the batch: {len(row.ids)} ids, but {len(row.labels)} labels"
            )
        if length is not None and len(row.ids) > length:
            raise ValueError(f"row {i} of the batch: {len(row.ids)} tokens, but length is {length}")
    labels = [torch.tensor(row.labels, dtype=torch.int64) for row in rows]
    labels = pad_sequence(labels, batch_first=True, padding_value=ignore_index)  # (B, T)
    more = (0, 0 if length is None else length - ids.shape[1])
    ids = torch.nn.functional.pad(ids, more, value=pad_token_id)
    labels = torch.nn.functional.pad(labels, more, value=ignore_index)
    real = torch.arange(ids.shape[1]) < torch.tensor([len(row.ids) for row in rows])[:, None]
    mask = ids != pad_token_id if mask_by_value else real.long()
    return {"input_ids": ids, "labels": labels, "attention_mask": mask}
