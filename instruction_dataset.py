"""Entries -> formatted text, prompt and answer -> token ids, ready to be batched.

The one idea: an instruction, an optional input and an answer are written as one text in a fixed
form. The dataset tokenizes every entry once and records where its answer starts.
This file knows nothing of batches, padding, models or files.

An entry is a dict with "instruction", "output" and, optionally, "input". Source: Raschka, "Build a
Large Language Model (From Scratch)", sections 7.2 and 7.3.
"""

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from string import Formatter
from typing import Any, Protocol

from torch.utils.data import Dataset

Entry = dict[str, Any]  # the three keys above hold text; further keys may hold anything


# --- an entry as text -----------------------------------------------------------------------------


@lru_cache
def parse_template(template: str) -> tuple[tuple[str, str | None, str | None, str | None], ...]:
    """A template in pieces, as `string.Formatter` splits it; cached, because every entry needs it.

    Each piece is (text, name of the field after it, format spec, conversion); None: no field.

    >>> parse_template("Q: {instruction}")
    (('Q: ', 'instruction', '', None),)
    """
    return tuple(Formatter().parse(template))


@dataclass(frozen=True)
class PromptStyle:
    """How an entry is written as text.

    Training, inference and scoring all call `prompt`, so they use the same text. Raises ValueError
    for a template with a field other than {instruction} and {input}, with a format such as
    {input!r} or {input:>9}, or with a single brace (which `parse_template` refuses).
    """

    name: str
    with_input: str  # contains {instruction} and {input}, and ends where the answer begins
    no_input: str  # contains {instruction}, and ends there as well

    def __post_init__(self) -> None:
        for template in (self.with_input, self.no_input):
            for _, field, format_spec, conversion in parse_template(template):
                known = field in (None, "instruction", "input")
                if not known or format_spec or conversion:
                    raise ValueError(
                        f"a prompt style can't have {{{field}}}: only {{instruction}} and "
                        "{input} are allowed, without a format or conversion"
                    )

    def parts(self, entry: Entry) -> list[tuple[str, str]]:
        r"""The prompt in pieces: (role, text), where role is "template", "instruction" or "input".

        The roles are for pictures and checks that must know where each piece of text comes from.

        >>> style = PromptStyle("tiny", "{instruction}: {input}\n", "Q: {instruction}\n")
        >>> style.parts({"instruction": "Name a colour."})
        [('template', 'Q: '), ('instruction', 'Name a colour.'), ('template', '\n')]
        """
        # An input that is missing, None or blank is no input.
        fields = {"instruction": entry["instruction"], "input": entry.get("input") or ""}
        template = self.with_input if fields["input"].strip() else self.no_input
        pieces = []
        for fixed, field, _, _ in parse_template(template):
            pieces.append(("template", fixed))
            if field is not None:
                pieces.append((field, fields[field]))
        return [(role, text) for role, text in pieces if text]

    def prompt(self, entry: Entry) -> str:
        """Everything before the answer; in the book's style it ends with "### Response:"."""
        return "".join(text for _, text in self.parts(entry))


PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
)
INSTRUCTION = "\n\n### Instruction:\n{instruction}"
INPUT = "\n\n### Input:\n{input}"
RESPONSE_HEADER = "\n\n### Response:\n"

BOOK_STYLE = PromptStyle(
    name="book",
    with_input=PREAMBLE + INSTRUCTION + INPUT + RESPONSE_HEADER,
    no_input=PREAMBLE + INSTRUCTION + RESPONSE_HEADER,
)


def format_input(entry: Entry) -> str:
    r"""The book's prompt without the response header: preamble, instruction and any input.

    >>> text = format_input({"instruction": "Name a colour.", "input": "", "output": "Red"})
    >>> text.endswith("completes the request.\n\n### Instruction:\nName a colour.")
    True
    """
    return BOOK_STYLE.prompt(entry).removesuffix(RESPONSE_HEADER)


# --- text as token ids ----------------------------------------------------------------------------


class Tokenizer(Protocol):
    """Anything with these two will do as a tokenizer, for example a tiktoken encoding."""

    @property
    def n_vocab(self) -> int:
        """The number of different tokens."""
        ...

    def encode_ordinary(self, text: str) -> list[int]:
        """The ids of a text; "<|endoftext|>" in it is read as ordinary characters."""
        ...


def encode_prompt(entry: Entry, tokenizer: Tokenizer, style: PromptStyle = BOOK_STYLE) -> list[int]:
    """The prompt's token ids, the same in training and at inference.

    User text is ordinary text: `encode_ordinary` never turns a typed "<|endoftext|>" into 50256.
    """
    return encode_parts(style.parts(entry), tokenizer)


def encode_parts(parts: Iterable[tuple[str, str]], tokenizer: Tokenizer) -> list[int]:
    """The token ids of a prompt in pieces, as `PromptStyle.parts` has them.

    The template of a chat model contains marks, such as "<|im_start|>", that are tokens of their
    own. Only the template's are; a mark that a user types is ordinary text. GPT-2 has no such
    tokens, so its prompts are tokenized as one text.
    """
    marks: Iterable[str] = getattr(tokenizer, "special_tokens_set", ())
    ids: list[int] = []
    text = ""  # what has come since the last mark
    for role, part in parts:
        pieces = split_at_marks(part, frozenset(marks)) if role == "template" else (part,)
        for piece in pieces:
            if role == "template" and piece in marks:
                mark_id: int = tokenizer.encode_single_token(piece)  # type: ignore[attr-defined]
                ids += [*tokenizer.encode_ordinary(text), mark_id]
                text = ""
            else:
                text += piece
    return ids + tokenizer.encode_ordinary(text)


@lru_cache
def split_at_marks(text: str, marks: frozenset[str]) -> tuple[str, ...]:
    """A text in pieces, in which each mark is a piece of its own; cached, as templates repeat.

    >>> split_at_marks("<|im_start|>user", frozenset({"<|im_start|>"}))
    ('<|im_start|>', 'user')
    """
    if not marks:
        return (text,)
    longest_first = sorted(marks, key=len, reverse=True)  # one may begin as another does
    pattern = "|".join(map(re.escape, longest_first))
    return tuple(piece for piece in re.split(f"({pattern})", text) if piece)


def is_valid_unicode(text: str) -> bool:
    r"""Whether a text can be written as UTF-8.

    A lone surrogate such as "\ud83d", half of an emoji, can't; a tokenizer would replace it and
    say nothing.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_fields(i: int, entry: Entry) -> None:
    """Raise a ValueError that names entry i and the field, unless it is a dict of valid texts.

    "input" may be missing or None.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"entry {i} is not a dict: {entry!r}")
    for key in ("instruction", "input", "output"):
        if key == "input" and entry.get(key) is None:
            continue
        if key not in entry:
            found = ", ".join(map(repr, entry)) or "none"
            raise ValueError(f"entry {i}: {key!r} is missing; keys found: {found}")
        text = entry[key]
        if not isinstance(text, str):
            raise ValueError(f"entry {i}: {key!r} is not text: {text!r}")
        if not is_valid_unicode(text):
            raise ValueError(f"entry {i}: {key!r} contains half a character (a lone surrogate)")


class InstructionDataset(Dataset):
    """Entries as token ids: `dataset[i]` is a list of ids, prompt and answer, as in the book.

    Prompt and answer are tokenized separately and their ids are joined: given the whole text, a
    tokenizer might merge the end of the prompt with the start of the answer. So the ids of a prompt
    are the same in training as at inference, where there is no answer yet.

    With `with_prompt_length`, items are (prompt_length, ids), which `custom_collate_response_fn`
    (collate.py) expects. Raises ValueError for an entry without any token, or with a field that is
    not text.
    """

    def __init__(
        self,
        data: Iterable[Entry],
        tokenizer: Tokenizer,
        style: PromptStyle = BOOK_STYLE,
        with_prompt_length: bool = False,
    ) -> None:
        self.data = list(data)
        self.with_prompt_length = with_prompt_length
        self.prompt_lengths: list[int] = []
        # All ids are stored in one array: 2 bytes for each id of GPT-2. A list takes about 30.
        # Type codes: "H" is an unsigned integer of 2 bytes, "I" of 4, "Q" of 8.
        self._ids = array("H" if tokenizer.n_vocab <= 2**16 else "I")
        self._bounds = array("Q", [0])  # row i goes from _bounds[i] to _bounds[i + 1]
        for i, entry in enumerate(self.data):
            check_fields(i, entry)
            prompt_ids = encode_prompt(entry, tokenizer, style)
            answer_ids = tokenizer.encode_ordinary(entry["output"])
            if not prompt_ids and not answer_ids:
                raise ValueError(f"entry {i} has no token at all: {entry!r}")
            self._ids.extend(prompt_ids)
            self._ids.extend(answer_ids)
            self._bounds.append(len(self._ids))
            self.prompt_lengths.append(len(prompt_ids))

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> list[int] | tuple[int, list[int]]:
        i = range(len(self))[index]  # as in a list: -1 is the last, IndexError beyond the end
        ids = self._ids[self._bounds[i] : self._bounds[i + 1]].tolist()
        return (self.prompt_lengths[i], ids) if self.with_prompt_length else ids

    @property
    def lengths(self) -> list[int]:
        """The number of tokens in each row, without the end-of-text token that collate adds."""
        return [end - start for start, end in pairwise(self._bounds)]
