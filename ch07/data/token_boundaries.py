"""Where prompt and answer would merge into one token: which rows, and what merges.

The one idea: byte-pair encoding cuts a text by its characters, not by its meaning. A prompt that
ends in ":" or in a space ends in the middle of a possible token: ":" and "(" are one token ":(", a
space and "Paris" are one token " Paris". A program that tokenizes the whole text at once, and
counts the prompt's own tokens to find where the answer begins, is then off by a token or more.
Stanford Alpaca's `preprocess` (train.py) does so; here the ids are joined, and such rows are
reported.
Knows nothing of files, limits or labels.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from tiktoken import Encoding

from ch07.data.chat_forms import is_chat, prompt_parts, turns_of
from ch07.data.token_text import token_text
from ch07.data.tokenizer import end_token_id
from instruction_dataset import Entry, PromptStyle, Tokenizer, check_fields


def boundary_merge_rows(
    entries: Iterable[Entry], tokenizer: Tokenizer, style: PromptStyle
) -> list[int]:
    """The rows whose prompt and answer have other ids when they are tokenized as one text.

    Only the words next to the boundary are tokenized, each combination of them once.

    >>> from ch07.data.prompt_styles import ALPACA_STYLE
    >>> from ch07.data.tokenizer import load_tokenizer
    >>> entries = [{"instruction": "Smile.", "output": output} for output in ("Red", "(A smile.)")]
    >>> boundary_merge_rows(entries, load_tokenizer(), ALPACA_STYLE)
    [1]
    """
    merge = lru_cache(lambda before, after: _merge_at_boundary(before, after, tokenizer))
    return [
        i
        for i, entry in enumerate(entries)
        if any(
            merge(*_text_around_boundary(prompt, answer))
            for prompt, answer in _prompts_and_answers(entry, style)
        )
    ]


def _prompts_and_answers(entry: Entry, style: PromptStyle) -> Iterator[tuple[str, str]]:
    """The prompt and the answer of each turn."""
    if not is_chat(entry):
        yield style.prompt(entry), entry["output"] or ""
        return
    for turn, parts in zip(turns_of(entry), prompt_parts(entry, style), strict=True):
        yield "".join(text for _, text in parts), turn["output"] or ""


def _text_around_boundary(prompt: str, answer: str) -> tuple[str, str]:
    """The end of the prompt and the start of the answer: all that could merge into one token.

    GPT-2's tokenizer never merges a space or a newline with anything other than whitespace before
    it, so the last word of the prompt and the first of the answer are enough.
    """
    cut = len(prompt)
    while cut > 0:
        cut = max(prompt.rfind(" ", 0, cut), prompt.rfind("\n", 0, cut), 0)
        if not prompt[cut - 1 : cut].isspace():
            break
    first_word = re.search(r"\S(?=[ \n])", answer)
    return prompt[cut:], answer[: first_word.end()] if first_word else answer


def _merge_at_boundary(before: str, after: str, tokenizer: Tokenizer) -> bool:
    """Whether two texts have other ids when they are tokenized as one."""
    encode = tokenizer.encode_ordinary
    return encode(before + after) != encode(before) + encode(after)


class BoundaryMerge(NamedTuple):
    """The tokens at one boundary: tokenized apart `before` | `after`, together `joined`."""

    row: int
    before: tuple[str, ...]  # the prompt's last tokens, as visible text
    after: tuple[str, ...]  # the answer's first tokens
    joined: tuple[str, ...]  # the tokens there when both are tokenized as one text

    def __str__(self) -> str:
        return f"{_quoted(self.before)} | {_quoted(self.after)} -> {_quoted(self.joined)}"


def boundary_merges(
    entries: Iterable[Entry], tokenizer: Encoding, style: PromptStyle
) -> list[BoundaryMerge]:
    """A `BoundaryMerge` for each entry whose prompt and answer merge when tokenized as one text.

    ValueError names an entry that isn't valid.

    >>> from ch07.data.prompt_styles import ALPACA_STYLE
    >>> from ch07.data.tokenizer import load_tokenizer
    >>> colour = {"instruction": "Name a colour.", "output": "Red"}
    >>> smile = {"instruction": "What does she do?", "output": "(She smiles.)"}
    >>> for merge in boundary_merges([colour, smile], load_tokenizer(), ALPACA_STYLE):
    ...     print(merge.row, merge)
    1 ':' | '(' -> ':('
    """
    entries = list(entries)
    for i, entry in enumerate(entries):
        check_fields(i, entry)
    return [
        _merge_of_entry(i, entries[i], tokenizer, style)
        for i in boundary_merge_rows(entries, tokenizer, style)
    ]


def _merge_of_entry(
    row: int, entry: Entry, tokenizer: Encoding, style: PromptStyle
) -> BoundaryMerge:
    """What remains of both tokenizations without the ids that they share at either end.

    Of a conversation, at the first boundary where they differ.
    """
    encode = tokenizer.encode_ordinary
    for prompt, answer in _prompts_and_answers(entry, style):
        prompt_length = len(encode(prompt))
        separate = encode(prompt) + encode(answer)
        joint = encode(prompt + answer)
        if separate != joint:
            break
    start = _common_prefix_length(separate, joint)
    n_end = _common_prefix_length(separate[start:][::-1], joint[start:][::-1])
    separate_end = len(separate) - n_end
    joint_end = len(joint) - n_end

    def words(ids: Sequence[int]) -> tuple[str, ...]:
        return tuple(token_text(token_id, tokenizer, end_token_id(tokenizer)) for token_id in ids)

    return BoundaryMerge(
        row=row,
        before=words(separate[start:prompt_length]),
        after=words(separate[max(start, prompt_length) : separate_end]),
        joined=words(joint[start:joint_end]),
    )


def _common_prefix_length(one: Sequence[int], other: Sequence[int]) -> int:
    """How many ids two lists have in common at their start."""
    for i, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return i
    return min(len(one), len(other))


def _quoted(words: Iterable[str]) -> str:
    return " ".join(f"'{word}'" for word in words)
