"""What ChatGLM-6B is asked in evaluation, and the reference that its answer is compared with.

The one idea: a model is asked with what precedes the answer in a training row: the question,
[gMASK] and bos. The original makes these rows with another function, and they differ from its
training rows: a chat's first round is the bare question, the text is cut one token earlier, and
[gMASK] and bos follow the reference answer as well, because the tokenizer adds them to every text.
The corrected rows (the default) are training rows in two parts, so that a model is asked in the
form that it has learned. Source: THUDM/ChatGLM-6B, ptuning/main.py, `preprocess_function_eval`;
tokenization_chatglm.py on the Hugging Face hub, `build_inputs_with_special_tokens` and `_pad`.

A batch is padded on the left, so that all rows end in bos and grow in the same column. ChatGLM's
mask also lets the tokens of a question attend to later ones; the mask here hides the padding only,
since a causal model never attends to later tokens. Knows nothing of models. Axes: B batch,
T tokens.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import tiktoken
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ch07.data.prompt_styles import BARE_STYLE
from ch07.data.reference_formats.alpaca_labels import LabelRow
from ch07.data.reference_formats.chatglm_labels import (
    SpecialTokens,
    chat_prompt,
    chatglm_rows,
)
from ch07.utils.errors import InputError
from collate import END_OF_TEXT, IGNORE_INDEX


class EvaluationRow(NamedTuple):
    """The ids of what is asked, those of the reference answer, and which of the two were `cut`.

    `cut` holds "prompt", "answer", both or neither.
    """

    ids: list[int]
    labels: list[int]
    cut: tuple[str, ...] = ()


class EvaluationRows(NamedTuple):
    """The rows of several entries, and the dropped entries: [(index of the entry, why), ...]."""

    rows: list[EvaluationRow]
    dropped: list[tuple[int, str]]


def chatglm_evaluation_rows(
    entries: Iterable[dict[str, Any]],
    tokenizer: tiktoken.Encoding,
    special_tokens: SpecialTokens = SpecialTokens(),
    *,
    max_source_length: int = 64,
    max_target_length: int = 64,
    original: bool = False,
) -> EvaluationRows:
    """`EvaluationRows` of entries, which may have a "history" of [question, answer] pairs.

    `ids` end in [gMASK] and bos; `labels` are the answer, and with `original` also [gMASK] and bos
    after it. Lengths, dropped entries and errors are those of `chatglm_rows`, but the original's
    question has at most `max_source_length` - 2 tokens of text, and so needs a length of 3.

    >>> from ch07.data.tokenizer import load_tokenizer
    >>> entries = [{"instruction": "Why?", "output": "Dark red", "history": []}]
    >>> ((row,), dropped) = chatglm_evaluation_rows(entries, load_tokenizer(), original=True)
    >>> row.ids, row.labels  # "Why", "?", [gMASK], bos and "Dark", " red", [gMASK], bos
    ([5195, 30, 50257, 50258], [17367, 2266, 50257, 50258])
    """
    entries = list(entries)
    training_rows, dropped = chatglm_rows(
        entries,
        tokenizer,
        special_tokens,
        max_source_length=max_source_length,
        max_target_length=max_target_length,
    )
    if not original:
        return EvaluationRows([_in_two_parts(row) for row in training_rows], dropped)
    if max_source_length < 3:
        raise InputError(
            f"max_source_length is {max_source_length}, but must be at least 3 to leave text: "
            "[gMASK] and bos are two tokens"
        )
    left_out = {i for i, _ in dropped}
    rows = [
        _original_row(entry, tokenizer, special_tokens, max_source_length, max_target_length)
        for i, entry in enumerate(entries)
        if i not in left_out
    ]
    return EvaluationRows(rows, dropped)


def _in_two_parts(row: LabelRow) -> EvaluationRow:
    """A training row up to and including bos, and its answer without eos."""
    answer = row.ids[row.n_prompt :]
    if "answer" not in row.cut:
        answer.pop()  # eos, which only an answer that is whole has
    return EvaluationRow(row.ids[: row.n_prompt], answer, row.cut)


def _original_row(
    entry: dict[str, Any],
    tokenizer: tiktoken.Encoding,
    special_tokens: SpecialTokens,
    max_source_length: int,
    max_target_length: int,
) -> EvaluationRow:
    """The original's row: question and answer as its tokenizer returns them."""
    question = chat_prompt(BARE_STYLE.prompt(entry), entry.get("history"), training=False)
    prompt = tokenizer.encode_ordinary(question)
    answer = tokenizer.encode_ordinary(entry["output"])
    # The tokenizer adds two tokens to every text, and cuts the text to leave room for them.
    added = (special_tokens.gmask, special_tokens.bos)
    max_prompt_tokens = max_source_length - len(added)
    max_answer_tokens = max_target_length - len(added)
    cut = []
    if len(prompt) > max_prompt_tokens:
        cut.append("prompt")
    if len(answer) > max_answer_tokens:
        cut.append("answer")
    return EvaluationRow(
        ids=[*prompt[:max_prompt_tokens], *added],
        labels=[*answer[:max_answer_tokens], *added],
        cut=tuple(cut),
    )


def collate_evaluation_rows(
    rows: Iterable[EvaluationRow],
    pad_token_id: int = END_OF_TEXT,
    ignore_index: int = IGNORE_INDEX,
) -> dict[str, Tensor]:
    """{"input_ids", "labels", "attention_mask"}, padded on the left to the longest of the batch.

    Ids and mask are (B, T) of the questions, labels (B, T) of the answers, all int64; the mask is
    1 at a row's own tokens. ValueError for an empty batch.

    >>> batch = collate_evaluation_rows([EvaluationRow([1, 2, 3], [4]), EvaluationRow([5], [6, 7])])
    >>> batch["input_ids"]
    tensor([[    1,     2,     3],
            [50256, 50256,     5]])
    >>> batch["labels"]
    tensor([[-100,    4],
            [   6,    7]])
    """
    rows = list(rows)
    if not rows:
        raise InputError("empty batch")
    ids = [row.ids for row in rows]
    return {
        "input_ids": _left_padded(ids, pad_token_id),
        "labels": _left_padded([row.labels for row in rows], ignore_index),
        "attention_mask": _left_padded([[1] * len(row_ids) for row_ids in ids], 0),
    }


def _left_padded(rows: Sequence[Sequence[int]], padding: int) -> Tensor:
    """Rows as one tensor (B, T); each ends in the last column."""
    tensors = [torch.tensor(row, dtype=torch.int64) for row in rows]
    return pad_sequence(tensors, batch_first=True, padding_value=padding, padding_side="left")
