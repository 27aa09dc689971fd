"""Token ids and labels as in Stanford Alpaca and Chinese-LLaMA-Alpaca, original and corrected.

The one idea: labels are aligned with the ids: the id itself where it is learned, -100 where it is
not. The model shifts them by one, so `labels[1:]` is what our collate functions call targets. The
two systems differ in their prompt style and in how they tokenize:

    Stanford Alpaca        joint=True    train.py, `preprocess`: prompt and answer are tokenized as
                                         one text; the number of masked labels comes from
                                         tokenizing the prompt alone
    Chinese-LLaMA-Alpaca   joint=False   build_dataset.py, `build_instruction_dataset`: prompt and
                                         answer are tokenized separately, so the mask is exact

Both truncate to 512 tokens on the right (`original=True, max_length=512`): a long answer loses its
end-of-text token, and a long prompt leaves only labels of -100, whose mean loss is NaN. The
corrected rows (the default) truncate prompt and answer separately. They differ from the originals
on purpose in two more points: an end-of-text token typed by a user is ordinary text, and an input
of spaces counts as empty. (LLaMA's tokenizer also puts a token before the text; GPT-2's does not.)
Knows nothing of batches or models.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, zip_longest
from typing import Any, NamedTuple

import tiktoken

from ch07.data.prompt_styles import ALPACA_STYLE
from ch07.data.token_boundaries import boundary_merge_rows
from ch07.data.token_text import display_width, token_text
from ch07.data.tokenizer import end_token_id
from ch07.utils.errors import InputError
from collate import END_OF_TEXT
from instruction_dataset import Entry, InstructionDataset, PromptStyle
from train_loop import IGNORE_INDEX


class LabelRow(NamedTuple):
    """One row: `ids` and `labels` of the same length, and which parts were `cut`.

    `cut` holds "prompt", "answer", both or neither; `n_prompt` of the ids come before the answer.
    """

    ids: list[int]
    labels: list[int]
    cut: tuple[str, ...] = ()
    n_prompt: int = 0

    @property
    def n_counted(self) -> int:
        """How many labels enter the loss; the first never does, since nothing precedes it."""
        return sum(label != IGNORE_INDEX for label in self.labels[1:])

    def has_end(self, end_id: int = END_OF_TEXT) -> bool:
        """Whether the row ends in an end-of-text token that is learned."""
        return bool(self.labels) and self.labels[-1] == end_id


class LabelRows(NamedTuple):
    """The rows of several entries, and the dropped entries: [(index of the entry, why), ...]."""

    rows: list[LabelRow]
    dropped: list[tuple[int, str]]


def label_row(
    entry: Entry, tokenizer: tiktoken.Encoding, style: PromptStyle = ALPACA_STYLE, **options: Any
) -> LabelRow:
    """The `LabelRow` of one entry; `options` are those of `label_rows` except `skip_bad_rows`.

    >>> from ch07.data.tokenizer import load_tokenizer
    >>> entry = {"instruction": "Name a colour.", "output": "Dark red"}
    >>> row = label_row(entry, load_tokenizer())
    >>> row.labels[-4:]  # the last token of the prompt, "Dark", " red", end-of-text
    [-100, 17367, 2266, 50256]
    """
    return label_rows([entry], tokenizer, style, skip_bad_rows=False, **options).rows[0]


def _tokenized_entries(
    entries: Iterable[Entry], tokenizer: tiktoken.Encoding, style: PromptStyle, joint: bool
) -> Iterator[tuple[Entry, list[int], list[int], int]]:
    """For each entry (entry, ids of its prompt, of its answer, tokens of its prompt alone)."""
    dataset = InstructionDataset(entries, tokenizer, style, with_prompt_length=True)
    merged_rows = set(boundary_merge_rows(dataset.data, tokenizer, style)) if joint else set()
    for i, entry in enumerate(dataset.data):
        item: Any = dataset[i]  # a pair, because of `with_prompt_length`
        prompt_length, ids = item
        prompt = ids[:prompt_length]
        answer = ids[prompt_length:]
        if i in merged_rows:
            prompt, answer = _tokenize_jointly(entry, tokenizer, style)
        yield entry, prompt, answer, prompt_length


def label_rows(
    entries: Iterable[Entry],
    tokenizer: tiktoken.Encoding,
    style: PromptStyle = ALPACA_STYLE,
    *,
    joint: bool = False,
    original: bool = False,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
    max_answer_length: int | None = None,
    skip_bad_rows: bool = False,
) -> LabelRows:
    """`LabelRows` of entries; prompt and answer are tokenized as one text if `joint`.

    Lengths are in tokens; the answer's includes the end-of-text token. Without `original`, only
    `max_prompt_length` ever cuts a prompt, and a token that spans prompt and answer is learned.
    ValueError names an entry whose limits leave no token for the answer; with `skip_bad_rows` such
    entries are listed in `dropped`.
    """
    if original and (max_prompt_length is not None or max_answer_length is not None):
        raise InputError(
            "the originals have max_length only: omit original, or the two other limits"
        )
    end_id = end_token_id(tokenizer)
    result = LabelRows([], [])
    tokenized = _tokenized_entries(entries, tokenizer, style, joint)
    for i, (entry, prompt, answer, prompt_length) in enumerate(tokenized):
        if original:
            result.rows.append(original_row(prompt, answer, prompt_length, max_length, end_id))
            continue
        cuts_prompt = max_prompt_length is not None
        try:
            row = corrected_row(
                prompt,
                answer,
                max_length=max_length,
                max_prompt_length=max_prompt_length,
                max_answer_length=max_answer_length,
                header_length=_header_length(prompt, entry, tokenizer, style) if cuts_prompt else 0,
                end_id=end_id,
            )
        except InputError as error:
            if not skip_bad_rows:
                raise InputError(f"entry {i}: {error}") from None
            result.dropped.append((i, str(error)))
        else:
            result.rows.append(row)
    return result


# --- from ids to rows ---------------------------------------------------------------------------
def original_row(
    prompt: Sequence[int],
    answer: Sequence[int],
    n_masked: int | None = None,
    max_length: int | None = None,
    end_id: int = END_OF_TEXT,
) -> LabelRow:
    """The originals' row: ids with end-of-text, labels masked at the start, truncated on the right.

    `n_masked` labels become -100; by default as many as the prompt has tokens.

    >>> original_row([1, 2, 3], [4, 5])
    LabelRow(ids=[1, 2, 3, 4, 5, 50256], labels=[-100, -100, -100, 4, 5, 50256], cut=(), n_prompt=3)
    >>> original_row([1, 2, 3], [4, 5], max_length=2).labels  # nothing is left to learn
    [-100, -100]
    """
    _check_limits(max_length=max_length)
    if n_masked is not None and n_masked < 0:
        raise InputError(f"n_masked is {n_masked}, but must be 0 or more tokens")
    ids = [*prompt, *answer, end_id]
    n_masked = min(len(prompt) if n_masked is None else n_masked, len(ids))
    labels = [IGNORE_INDEX] * n_masked + ids[n_masked:]
    limit = len(ids) if max_length is None else max_length
    cut = []
    if limit < len(prompt):
        cut.append("prompt")
    if limit < len(ids):
        cut.append("answer")
    return LabelRow(ids[:limit], labels[:limit], tuple(cut), min(n_masked, limit))


def corrected_row(
    prompt: Sequence[int],
    answer: Sequence[int],
    *,
    max_length: int | None = None,
    max_prompt_length: int | None = None,
    max_answer_length: int | None = None,
    header_length: int = 0,
    end_id: int = END_OF_TEXT,
) -> LabelRow:
    """Ids with end-of-text and their labels; prompt and answer are truncated separately.

    A truncated prompt keeps its last `header_length` tokens, since the answer follows them at
    inference. A truncated answer gets no end-of-text token, which would teach the model to stop in
    mid-sentence. ValueError if no token of the answer would be left.

    >>> corrected_row([1, 2, 3], [4, 5, 6], max_length=5)
    LabelRow(ids=[1, 2, 3, 4, 5], labels=[-100, -100, -100, 4, 5], cut=('answer',), n_prompt=3)
    >>> corrected_row([1, 2, 3, 7], [4], max_prompt_length=2, header_length=1).ids
    [1, 7, 4, 50256]
    """
    _check_limits(
        max_length=max_length,
        max_prompt_length=max_prompt_length,
        max_answer_length=max_answer_length,
    )
    cut: list[str] = []
    if max_prompt_length is not None and len(prompt) > max_prompt_length:
        prompt = _cut_before_header(prompt, max_prompt_length, header_length)
        cut.append("prompt")
    limit = len(answer) + 1 if max_answer_length is None else max_answer_length
    if max_length is not None:
        limit = min(limit, max_length - len(prompt))
    if limit < 1:
        raise InputError(
            "the prompt leaves no token for the answer: shorten it with max_prompt_length "
            "(--max-source-length), or raise the limit"
        )
    learned = [*answer, end_id]
    if limit < len(learned):
        learned = learned[:limit]
        cut.append("answer")
    labels = [IGNORE_INDEX] * len(prompt) + learned
    return LabelRow([*prompt, *learned], labels, tuple(cut), len(prompt))


def _cut_before_header(prompt: Sequence[int], max_length: int, header_length: int) -> Sequence[int]:
    """The first tokens of a prompt, and its last `header_length`: `max_length` in all."""
    if max_length <= header_length:
        raise InputError(
            f"max_prompt_length (--max-source-length) is {max_length}, but the response header "
            f"alone has {header_length} tokens"
        )
    header = prompt[len(prompt) - header_length :]
    return [*prompt[: max_length - header_length], *header]


def _check_limits(**limits: int | None) -> None:
    for name, limit in limits.items():
        if limit is not None and (type(limit) is not int or limit < 1):
            raise InputError(f"{name} is {limit!r}, but must be an int of at least 1 token")


def _tokenize_jointly(
    entry: Entry, tokenizer: tiktoken.Encoding, style: PromptStyle
) -> tuple[list[int], list[int]]:
    """The ids of prompt and answer as one text: those within the prompt, and the rest.

    A token that spans both belongs to the answer: only there can its part of the answer be learned.
    """
    prompt = style.prompt(entry)
    ids = tokenizer.encode_ordinary(prompt + entry["output"])
    n_prompt_bytes = len(prompt.encode())
    n_prompt_tokens = sum(end <= n_prompt_bytes for end in _token_ends(ids, tokenizer))
    return ids[:n_prompt_tokens], ids[n_prompt_tokens:]


def _header_length(
    prompt: Sequence[int], entry: Entry, tokenizer: tiktoken.Encoding, style: PromptStyle
) -> int:
    """How many of the prompt's last tokens belong to the template's text before the answer."""
    role, text = style.parts(entry)[-1]
    if role != "template":
        return 0
    header_start = len(style.prompt(entry).encode()) - len(text.encode())
    return sum(end > header_start for end in _token_ends(prompt, tokenizer))


def _token_ends(ids: Sequence[int], tokenizer: tiktoken.Encoding) -> Iterator[int]:
    """The byte offset in the text at which each token ends."""
    return accumulate(len(tokenizer.decode_single_token_bytes(token_id)) for token_id in ids)


# --- side by side -------------------------------------------------------------------------------
def side_by_side(
    entry: Entry,
    tokenizer: tiktoken.Encoding,
    style: PromptStyle = ALPACA_STYLE,
    *,
    joint: bool = False,
    n_last: int = 8,
    **limits: int | None,
) -> str:
    """The last `n_last` tokens of the original row and of the corrected one, in two text columns.

    Learned tokens are marked ">". The original row only observes the limit `max_length`.
    """
    max_length = limits.get("max_length")
    original = label_row(entry, tokenizer, style, joint=joint, original=True, max_length=max_length)
    corrected = label_row(entry, tokenizer, style, joint=joint, **limits)
    left = _column("original", original, tokenizer, n_last)
    right = _column("corrected", corrected, tokenizer, n_last)
    width = max(map(display_width, left)) + 4
    lines = []
    for left_cell, right_cell in zip_longest(left, right, fillvalue=""):
        padding = " " * (width - display_width(left_cell))
        lines.append((left_cell + padding + right_cell).rstrip())
    return "\n".join(lines)


def _column(name: str, row: LabelRow, tokenizer: tiktoken.Encoding, n_last: int) -> list[str]:
    end_id = end_token_id(tokenizer)
    end = "end-of-text learned" if row.has_end(end_id) else "no end-of-text"
    lines = [f"{name}: {row.n_counted} of {len(row.ids)} tokens learned, {end}"]
    tokens = list(zip(row.ids, row.labels, strict=True))
    for token_id, label in tokens[-n_last:]:
        mark = " " if label == IGNORE_INDEX else ">"
        lines.append(f"{mark} {token_text(token_id, tokenizer, end_id)}")
    return lines
