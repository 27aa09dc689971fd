"""Where prompt and answer would melt into one token: the rows, and what melts.

The one idea: byte-pair encoding cuts a text by its letters, not by its meaning. A prompt that ends
in ":" or in a space has an end that belongs to the next token: ":" and "(" are one token ":(", a
space and "Paris" are one token " Paris". Whoever tokenizes the whole text at once, and counts the
prompt's own tokens to know where the answer begins, is then off at the seam. Stanford Alpaca's
`preprocess` (train.py) does so; ours joins ids, and tells such rows.
Knows nothing of files, limits or labels.
"""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from ch07.data.token_text import token_text
from collate import END_OF_TEXT
from instruction_dataset import Entry, InstructionDataset, PromptStyle, Tokenizer


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
        if merge(*_words_at_boundary(style.prompt(entry), entry["output"]))
    ]


def _words_at_boundary(prompt: str, answer: str) -> tuple[str, str]:
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


class SeamMerge(NamedTuple):
    """The tokens at one seam: tokenized apart `before` | `after`, at once `joined`."""

    row: int
    before: tuple  # the prompt's last tokens, as words
    after: tuple  # the answer's first ones
    joined: tuple  # what stands there when both are tokenized at once

    def __str__(self):
        return f"{_quoted(self.before)} | {_quoted(self.after)} -> {_quoted(self.joined)}"


def seam_merges(entries, tokenizer, style):
    """A `SeamMerge` for each entry whose ids at once differ from those of prompt and answer apart.

    ValueError names an entry that is none.

    >>> from ch07.data.prompt_styles import ALPACA_STYLE
    >>> from ch07.data.tokenizer import load_tokenizer
    >>> colour = {"instruction": "Name a colour.", "output": "Red"}
    >>> smile = {"instruction": "What does she do?", "output": "(She smiles.)"}
    >>> for merge in seam_merges([colour, smile], load_tokenizer(), ALPACA_STYLE):
    ...     print(merge.row, merge)
    1 ':' | '(' -> ':('
    """
    dataset = InstructionDataset(entries, tokenizer, style, with_prompt_length=True)
    return [
        _merge(i, *dataset[i], style.prompt(dataset.data[i]) + dataset.data[i]["output"], tokenizer)
        for i in boundary_merge_rows(dataset.data, tokenizer, style)
    ]


def _merge(row, prompt_length, apart, text, tokenizer):
    """What is left of both when the ids that they share at the start and the end are taken off."""
    joint = tokenizer.encode_ordinary(text)
    start = _shared(apart, joint)
    n_end = _shared(apart[start:][::-1], joint[start:][::-1])
    apart_end, joint_end = len(apart) - n_end, len(joint) - n_end

    def words(ids):
        return tuple(token_text(token_id, tokenizer, END_OF_TEXT) for token_id in ids)

    return SeamMerge(
        row,
        words(apart[start:prompt_length]),
        words(apart[max(start, prompt_length) : apart_end]),
        words(joint[start:joint_end]),
    )


def _shared(one, two):
    """How many ids two lists have in common at their start."""
    pairs = enumerate(zip(one, two, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(two)))


def _quoted(words):
    return " ".join(f"'{word}'" for word in words)
