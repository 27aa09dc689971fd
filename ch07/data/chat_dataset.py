"""Conversations -> token ids, and which of them the loss counts: every answer with its end.

The one idea: text and mask are born together. Each turn is tokenized by itself, so what one turn
adds to a row is the same whatever follows, and it is known where each answer begins and ends.
A row of one turn, without a system prompt, is that of an `InstructionDataset`, id for id.
"""

from array import array
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ch07.data.chat_forms import is_chat, prompt_parts, turns_of
from ch07.data.entry_checks import Entry
from ch07.data.field_names import COUNTS
from ch07.data.findings import Finding, FindingSink
from ch07.data.tokenizer import end_token_id
from ch07.utils.console import count
from ch07.utils.errors import InputError
from collate import END_OF_TEXT, IGNORE_INDEX, custom_collate_fn, custom_collate_response_fn
from instruction_dataset import (
    BOOK_STYLE,
    InstructionDataset,
    PromptStyle,
    Tokenizer,
    check_fields,
    encode_parts,
    encode_prompt,
)


class EncodedTurn(NamedTuple):
    """The ids of a turn: its prompt, and its answer without the token that ends it."""

    prompt: Sequence[int]
    answer: Sequence[int]
    counts: bool = True  # whether the loss counts the answer


def join_turns(
    turns: Iterable[tuple[Sequence[int], Sequence[int], bool]], end_id: int = END_OF_TEXT
) -> tuple[list[int], list[bool]]:
    """(ids, counted): a conversation's token ids, and whether the loss counts each as a target.

    Each turn is (prompt ids, answer ids, whether the answer counts). After each answer, the last
    one included, stands `end_id`, which counts as the answer does: a model that never learned to
    predict it doesn't stop.

    >>> join_turns([([1, 2], [3], True), ([4], [5, 6], True)], end_id=0)
    ([1, 2, 3, 0, 4, 5, 6, 0], [False, False, True, True, False, True, True, True])
    """
    ids: list[int] = []
    counted: list[bool] = []
    for prompt, answer, counts in turns:
        ids += [*prompt, *answer, end_id]
        counted += [False] * len(prompt) + [counts] * (len(answer) + 1)
    return ids, counted


def encode_turns(
    entry: Entry, tokenizer: Tokenizer, style: PromptStyle = BOOK_STYLE
) -> list[EncodedTurn]:
    """The turns of an entry, in order; the text of users and answers is ordinary text."""
    return [
        EncodedTurn(
            prompt=encode_parts(parts, tokenizer),
            answer=tokenizer.encode_ordinary(turn.get("output") or ""),
            counts=not is_chat(entry) or turn.get(COUNTS, True),
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
    ids, _ = join_turns(earlier, end_token_id(tokenizer))
    return [*ids, *last.prompt]


def count_header_tokens(
    entry: Entry, prompt_ids: Sequence[int], tokenizer: Any, style: PromptStyle = BOOK_STYLE
) -> int:
    r"""How many of the last ids of an entry's prompt are the response header.

    The header is the last line of the template: "### Response:\n" in the book's style. Its tokens
    are found by their length, because tokenized by itself, what comes before the header may have
    other ids at its end. A token that begins before the header is none of them.
    """
    role, text = prompt_parts(entry, style)[-1][-1]
    if role != "template":
        return 0
    line_start = text.rstrip("\n").rfind("\n") + 1
    n_left = len(text[line_start:].encode())  # bytes of the header
    for n_tokens, token_id in enumerate(reversed(prompt_ids)):
        n_left -= len(tokenizer.decode_single_token_bytes(token_id))
        if n_left < 0:
            return n_tokens
    return len(prompt_ids)


def drop_oldest_turns(
    entry: Entry, tokenizer: Tokenizer, style: PromptStyle, max_length: int
) -> tuple[Entry, int]:
    """(the entry with the latest turns that fit into so many tokens, how many were dropped).

    The system prompt and the entry's own question and answer always stay.
    """
    history = entry.get("history") or []
    if not history:
        return entry, 0
    turns = encode_turns(entry, tokenizer, style)
    sizes = [len(turn.prompt) + len(turn.answer) + 1 for turn in turns]
    n_tokens = sum(sizes) - 1  # collate adds the last end-of-text
    n_dropped = 0
    while n_tokens > max_length and n_dropped < len(history):
        n_dropped += 1
        # the turn that is first now has the preamble or the system prompt before it
        first = {**turns_of(entry)[n_dropped], "history": [], "system": entry.get("system")}
        n_prompt = len(encode_parts(prompt_parts(first, style)[0], tokenizer))
        # one end-of-text fewer than turns: collate adds the last one
        n_tokens = n_prompt + len(turns[n_dropped].answer) + sum(sizes[n_dropped + 1 :])
    return {**entry, "history": history[n_dropped:]}, n_dropped


def fit_conversations(
    entries: Iterable[Entry],
    places: Sequence[str],
    tokenizer: Tokenizer,
    style: PromptStyle,
    max_length: int,
    findings: FindingSink,
) -> list[Entry]:
    """The entries, of which conversations that exceed so many tokens lost their oldest turns.

    What was left out is appended to `findings`.
    """
    fitting: list[Entry] = []
    for entry, place in zip(entries, places, strict=True):
        shorter, n_dropped = drop_oldest_turns(entry, tokenizer, style, max_length)
        if n_dropped:
            text = f"{count(n_dropped, 'turn')} left out, the oldest: more than {max_length} tokens"
            kind = f"the oldest turns were left out: more than {max_length} tokens"
            findings.append(Finding(place, "note", text, kind))
        fitting.append(shorter)
    return fitting


class CountedRows(Dataset[Any]):
    """Rows of token ids and, for each id and the end-of-text after them, whether it is counted.

    Collate adds the last end-of-text, as to any row. `prompt_lengths` are the tokens of all that
    comes before the last answer.
    """

    def __init__(self, n_vocab: int) -> None:
        self.data: list[Entry] = []
        self.prompt_lengths: list[int] = []
        # Both hold the last end-of-text of each row, too; row i goes from _bounds[i] to
        # _bounds[i + 1]. The type codes are those of `InstructionDataset`.
        self._ids = array("H" if n_vocab <= 2**16 else "I")
        self._counted = bytearray()
        self._bounds = array("Q", [0])

    def append(
        self, entry: Entry, ids: Iterable[int], counted: Iterable[bool], prompt_length: int
    ) -> None:
        """Add the row of an entry; `ids` ends in end-of-text, and `counted` has a flag for each."""
        self.data.append(entry)
        self.prompt_lengths.append(prompt_length)
        self._ids.extend(ids)
        self._counted.extend(counted)
        self._bounds.append(len(self._ids))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        """Item (counted, ids), which `collate_responses` expects."""
        i = range(len(self))[index]  # as in a list: -1 is the last, IndexError beyond the end
        return self.counted(i), self._ids[self._bounds[i] : self._bounds[i + 1] - 1].tolist()

    def counted(self, i: int) -> list[bool]:
        """For each id of a row, and for its last end-of-text, whether it is counted."""
        return list(map(bool, self._counted[self._bounds[i] : self._bounds[i + 1]]))

    @property
    def masked_lengths(self) -> list[int]:
        """The number of tokens in each row that are no targets of the loss on responses."""
        rows = pairwise(self._bounds)
        return [self._counted.count(0, start, end) for start, end in rows]

    @property
    def lengths(self) -> list[int]:
        """The number of tokens in each row, without the end-of-text token that collate adds."""
        return [end - start - 1 for start, end in pairwise(self._bounds)]


class ChatDataset(CountedRows):
    """Conversations as token ids: `dataset[i]` is a list of ids, all turns with their ends.

    The last end-of-text is added by collate, as to any row. With `with_counted`, items are
    (counted, ids), which `collate_responses` expects: for each id, and for the last end-of-text,
    whether the loss counts it as a target. ValueError for fields that are not text.
    """

    def __init__(
        self,
        data: Iterable[Entry],
        tokenizer: Tokenizer,
        style: PromptStyle = BOOK_STYLE,
        with_counted: bool = False,
    ) -> None:
        super().__init__(tokenizer.n_vocab)
        self.with_counted = with_counted
        for i, entry in enumerate(data):
            for turn in turns_of(entry):
                check_fields(i, turn)
            turns = encode_turns(entry, tokenizer, style)
            ids, counted = join_turns(turns, end_token_id(tokenizer))
            self.append(entry, ids, counted, len(ids) - 1 - len(turns[-1].answer))

    def __getitem__(self, index: int) -> list[int] | tuple[list[bool], list[int]]:
        counted, ids = super().__getitem__(index)
        return (counted, ids) if self.with_counted else ids


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
    return ChatDataset(entries, tokenizer, style, with_counted=masked)


def _only_last_counts(entry: Entry) -> Entry:
    if not entry.get("history"):
        return entry
    return {**entry, "history": [{**turn, COUNTS: False} for turn in entry["history"]]}


# --- a batch --------------------------------------------------------------------------------------
def collate_responses(
    batch: Iterable[Any],
    ignore_index: int = IGNORE_INDEX,
    allowed_max_length: int | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Inputs and targets (B, T) of which the answers, and the end of each, are counted.

    Items are (prompt_length, token_ids), as for the book's `custom_collate_response_fn`, or
    (counted, token_ids), where `counted` has a flag for each id and one for the end-of-text after
    them. Position i predicts token i + 1, so the flags are one place ahead of the targets.

    >>> counted = [False, False, True, True, False, True, True]
    >>> collate_responses([(counted, [1, 2, 3, 50256, 5, 6])])[1]
    tensor([[ -100,     3, 50256,  -100,     6, 50256]])
    """
    batch = list(batch)
    options = {"ignore_index": ignore_index, "allowed_max_length": allowed_max_length, **options}
    if all(isinstance(first, int) for first, _ in batch):
        return custom_collate_response_fn(batch, **options)
    inputs, targets = custom_collate_fn([ids for _, ids in batch], **options)
    for i, (first, ids) in enumerate(batch):
        counted = counted_flags(first, len(ids))
        if len(counted) != len(ids) + 1:
            raise InputError(
                f"row {i} of the batch: {len(counted)} flags, but {len(ids)} tokens and their end"
            )
        masked = ~torch.tensor(counted[1 : targets.shape[1] + 1], dtype=torch.bool)
        targets[i, : len(masked)].masked_fill_(masked.to(targets.device), ignore_index)
    return inputs, targets


def counted_flags(first: int | Sequence[bool], n_ids: int) -> Sequence[bool]:
    """The flags of an item: a prompt's length says the same of a single question."""
    if not isinstance(first, int):
        return first
    return [False] * first + [True] * (n_ids + 1 - first)


def token_roles(entry: Entry, tokenizer: Any, style: PromptStyle = BOOK_STYLE) -> list[str]:
    """What each token of a row is: "template", "system", "instruction", "input", "answer", "end".

    A list as long as the row's ids. A token that spans two parts of a prompt belongs to the part
    where it begins.
    """
    roles: list[str] = []
    missing: bytes = getattr(tokenizer, "missing_bytes", b"")  # which it leaves out of a text
    parts_of_turns = prompt_parts(entry, style)
    turns = encode_turns(entry, tokenizer, style)
    for parts, turn in zip(parts_of_turns, turns, strict=True):
        role_of_byte = [
            role for role, text in parts for _ in text.encode().translate(None, missing)
        ]
        position = 0
        for token_id in turn.prompt:
            roles.append(role_of_byte[position])
            position += len(tokenizer.decode_single_token_bytes(token_id))
        roles += ["answer"] * len(turn.answer) + ["end"]
    return roles[:-1]  # collate adds the last end
