"""Conversations -> token ids, and which of them the loss counts: every answer with its end.

The one idea: text and mask are born together. Each turn is tokenized by itself, so what one turn
adds to a row is the same whatever follows, and it is known where each answer begins and ends.
A row of one turn, without a system prompt, is that of an `InstructionDataset`, id for id.
"""

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from ch07.data.chat_forms import is_chat, prompt_parts, turns_of
from ch07.data.entry_checks import Entry
from collate import END_OF_TEXT, IGNORE_INDEX, custom_collate_fn, custom_collate_response_fn
from instruction_dataset import (
    BOOK_STYLE,
    InstructionDataset,
    PromptStyle,
    Tokenizer,
    check_fields,
    encode_prompt,
)

Span = tuple[int, int]  # positions of tokens: the first, and the one after the last


@dataclass(frozen=True)
class EncodedTurn:
    """The ids of a turn: its prompt, and its answer without the token that ends it."""

    prompt: list[int]
    answer: list[int]
    counts: bool  # whether the loss counts the answer


def encode_turns(
    entry: Entry, tokenizer: Tokenizer, style: PromptStyle = BOOK_STYLE
) -> list[EncodedTurn]:
    """The turns of an entry, in order; the text of users and answers is ordinary text."""
    encode = tokenizer.encode_ordinary
    return [
        EncodedTurn(
            encode("".join(text for _, text in parts)),
            encode(turn.get("output") or ""),
            turn.get("counts", True),
        )
        for turn, parts in zip(turns_of(entry), prompt_parts(entry, style), strict=True)
    ]


def encode_chat_prompt(
    entry: Entry, tokenizer: Tokenizer, style: PromptStyle = BOOK_STYLE
) -> list[int]:
    """The ids before an entry's answer, the same in training and at inference."""
    if not is_chat(entry):
        return encode_prompt(entry, tokenizer, style)
    *earlier, last = encode_turns(entry, tokenizer, style)
    ids: list[int] = []
    for turn in earlier:
        ids += [*turn.prompt, *turn.answer, END_OF_TEXT]
    return ids + last.prompt


def drop_oldest_turns(
    entry: Entry, tokenizer: Tokenizer, style: PromptStyle, max_length: int
) -> tuple[Entry, int]:
    """(the entry with the latest turns that fit into so many tokens, how many were dropped).

    The system prompt and the entry's own question and answer always stay.
    """
    history = entry.get("history") or []
    for n_dropped in range(len(history) + 1):
        shorter = {**entry, "history": history[n_dropped:]}
        turns = encode_turns(shorter, tokenizer, style)
        n_tokens = sum(len(turn.prompt) + len(turn.answer) + 1 for turn in turns) - 1
        if n_tokens <= max_length or n_dropped == len(history):
            break
    if not shorter["history"]:
        del shorter["history"]
    return shorter, n_dropped


class ChatDataset(Dataset):
    """Conversations as token ids: `dataset[i]` is a list of ids, all turns with their ends.

    The last end-of-text is added by collate, as to any row. With `with_masked_spans`, items are
    (spans, ids), which `collate_responses` expects: the spans of tokens that are no targets, which
    are all prompts and the answers that don't count. ValueError for fields that are not text.
    """

    def __init__(
        self,
        data: Iterable[Entry],
        tokenizer: Tokenizer,
        style: PromptStyle = BOOK_STYLE,
        with_masked_spans: bool = False,
    ) -> None:
        self.data = list(data)
        self.with_masked_spans = with_masked_spans
        self.prompt_lengths: list[int] = []  # in tokens: all that comes before the last answer
        self.masked_spans: list[tuple[Span, ...]] = []
        self._ids = array("H" if tokenizer.n_vocab <= 2**16 else "I")
        self._bounds = array("Q", [0])  # row i goes from _bounds[i] to _bounds[i + 1]
        for i, entry in enumerate(self.data):
            for turn in turns_of(entry):
                check_fields(i, turn)
            self._append(encode_turns(entry, tokenizer, style))

    def _append(self, turns: Sequence[EncodedTurn]) -> None:
        """Add a row: its ids, and the spans that are masked."""
        start = len(self._ids)
        spans: list[Span] = []
        position = 0
        for turn in turns:
            spans.append((position, position + len(turn.prompt)))
            end = position + len(turn.prompt) + len(turn.answer) + 1  # with end-of-text
            if not turn.counts:
                spans[-1] = (position, end)
            self._ids.extend([*turn.prompt, *turn.answer, END_OF_TEXT])
            position = end
        self._ids.pop()  # collate adds the last one
        self._bounds.append(len(self._ids))
        self.masked_spans.append(tuple(spans))
        self.prompt_lengths.append(len(self._ids) - start - len(turns[-1].answer))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> list[int] | tuple[tuple[Span, ...], list[int]]:
        i = range(len(self))[index]  # as in a list: -1 is the last, IndexError beyond the end
        ids = self._ids[self._bounds[i] : self._bounds[i + 1]].tolist()
        return (self.masked_spans[i], ids) if self.with_masked_spans else ids

    @property
    def masked_lengths(self) -> list[int]:
        """The number of tokens in each row that are no targets of the loss on responses."""
        return [sum(end - start for start, end in spans) for spans in self.masked_spans]

    @property
    def lengths(self) -> list[int]:
        """The number of tokens in each row, without the end-of-text token that collate adds."""
        return [end - start for start, end in pairwise(self._bounds)]


def make_dataset(
    entries: Sequence[Entry], tokenizer: Tokenizer, style: PromptStyle, loss_on: str
) -> InstructionDataset | ChatDataset:
    """The dataset of entries, with the items that `collate_responses` needs for this loss.

    `loss_on` is "all", "response" (every answer of a conversation) or "last-response".
    """
    masked = loss_on != "all"
    if not any(map(is_chat, entries)):
        return InstructionDataset(entries, tokenizer, style, with_prompt_length=masked)
    if loss_on == "last-response":
        entries = [_only_last_counts(entry) for entry in entries]
    return ChatDataset(entries, tokenizer, style, with_masked_spans=masked)


def _only_last_counts(entry: Entry) -> Entry:
    if not entry.get("history"):
        return entry
    return {**entry, "history": [{**turn, "counts": False} for turn in entry["history"]]}


# --- a batch --------------------------------------------------------------------------------------
def collate_responses(
    batch: Iterable[Any],
    ignore_index: int = IGNORE_INDEX,
    allowed_max_length: int | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Inputs and targets (B, T) of which the answers, and the end of each, are counted.

    Items are (prompt_length, token_ids), as for the book's `custom_collate_response_fn`, or
    (masked_spans, token_ids). Position i predicts token i + 1, so a masked token is one target
    earlier.

    >>> collate_responses([(((0, 2), (4, 6)), [1, 2, 3, 50256, 5, 6, 7])])[1]
    tensor([[ -100,     3, 50256,  -100,  -100,     7, 50256]])
    """
    batch = list(batch)
    options = {"ignore_index": ignore_index, "allowed_max_length": allowed_max_length, **options}
    if not any(isinstance(item[0], tuple) for item in batch):
        return custom_collate_response_fn(batch, **options)
    inputs, targets = custom_collate_fn([ids for _, ids in batch], **options)
    for i, (spans, _) in enumerate(batch):
        for start, end in spans if isinstance(spans, tuple) else ((0, spans),):
            targets[i, max(start - 1, 0) : max(end - 1, 0)] = ignore_index
    return inputs, targets


def token_roles(entry: Entry, tokenizer: Any, style: PromptStyle = BOOK_STYLE) -> list[str]:
    """What each token of a row is: "template", "system", "instruction", "input", "answer", "end".

    A list as long as the row's ids. A token that spans two parts of a prompt belongs to the part
    where it begins.
    """
    roles: list[str] = []
    parts_of_turns = prompt_parts(entry, style)
    turns = encode_turns(entry, tokenizer, style)
    for parts, turn in zip(parts_of_turns, turns, strict=True):
        role_of_byte = [role for role, text in parts for _ in text.encode()]
        position = 0
        for token_id in turn.prompt:
            roles.append(role_of_byte[position])
            position += len(tokenizer.decode_single_token_bytes(token_id))
        roles += ["answer"] * len(turn.answer) + ["end"]
    return roles[:-1]  # collate adds the last end
