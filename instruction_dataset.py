"""Entries -> formatted prompt -> token ids, ready to be batched.

The one idea: an instruction, an optional input and an answer become one text in a fixed form.
The dataset tokenizes every entry once, and remembers where the answer starts.
This file knows nothing of batches, padding, models or files.

An entry is a dict with "instruction", "output" and perhaps "input". Source: Raschka, "Build a
Large Language Model (From Scratch)", sections 7.2 and 7.3.
"""

import re
from array import array
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from string import Formatter

from torch.utils.data import Dataset


@dataclass(frozen=True)
class PromptStyle:
    """How an entry is written as text: the one home of a template.

    Training, inference and scoring all call `prompt`, so that they can't drift apart. ValueError
    for a template with other fields than {instruction} and {input}, or with a lone brace.
    """

    name: str
    with_input: str  # holds {instruction} and {input}, ends where the answer begins
    no_input: str  # holds {instruction}

    def __post_init__(self):
        for template in (self.with_input, self.no_input):
            for _, field, form, conversion in _parsed(template):
                if field not in (None, "instruction", "input") or form or conversion:
                    raise ValueError(
                        f"a prompt style can't have {{{field}}}, but {{instruction}} and {{input}} "
                        "as they are"
                    )

    def parts(self, entry):
        r"""The prompt in pieces: (role, text), role "template", "instruction" or "input".

        >>> style = PromptStyle("tiny", "{instruction}: {input}\n", "Q: {instruction}\n")
        >>> style.parts({"instruction": "Name a colour."})
        [('template', 'Q: '), ('instruction', 'Name a colour.'), ('template', '\n')]
        """
        fields = {"instruction": entry["instruction"], "input": entry.get("input") or ""}
        template = self.with_input if fields["input"].strip() else self.no_input
        pieces = []
        for fixed, field, _, _ in _parsed(template):
            pieces.append(("template", fixed))
            if field is not None:
                pieces.append((field, fields[field]))
        return [(role, text) for role, text in pieces if text]

    def prompt(self, entry):
        """Everything before the answer, response header included."""
        return "".join(text for _, text in self.parts(entry))


@lru_cache
def _parsed(template):
    """A template in pieces, as `string.Formatter` cuts it: done once, not for every entry."""
    return tuple(Formatter().parse(template))


PREAMBLE = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request."
    "\n\n### Instruction:\n{instruction}"
)
RESPONSE_HEADER = "\n\n### Response:\n"

BOOK_STYLE = PromptStyle(
    name="book",
    with_input=PREAMBLE + "\n\n### Input:\n{input}" + RESPONSE_HEADER,
    no_input=PREAMBLE + RESPONSE_HEADER,
)


def format_input(entry):
    r"""The book's prompt without its response header: preamble, instruction, input if any.

    >>> text = format_input({"instruction": "Name a colour.", "input": "", "output": "Red"})
    >>> text.endswith("completes the request.\n\n### Instruction:\nName a colour.")
    True
    """
    return BOOK_STYLE.prompt(entry).removesuffix(RESPONSE_HEADER)


def encode_prompt(entry, tokenizer, style=BOOK_STYLE):
    """The prompt's token ids, the same for training and for inference.

    User text is ordinary text: `encode_ordinary` never turns a typed "<|endoftext|>" into 50256.
    """
    return tokenizer.encode_ordinary(style.prompt(entry))


class InstructionDataset(Dataset):
    """Entries as token ids: `dataset[i]` is a list of ids, prompt and answer, as in the book.

    Prompt and answer are tokenized apart and their ids joined, so that the prompt seen in
    training is, id for id, the prompt at inference. Where tokenizing the whole text at once would
    give other ids (a prompt that ends in a space, an answer that starts with a newline), the
    row stands in `seam_rows`. With `with_prompt_length`, items are (prompt_length, ids), as
    `custom_collate_response_fn` wants them. An entry without any token is a ValueError, and so
    is one whose fields are not text. All ids stand in one array, at 2 bytes a token with GPT-2's
    tokenizer: as lists of Python's own numbers they would take 30.
    """

    def __init__(self, data, tokenizer, style=BOOK_STYLE, with_prompt_length=False):
        self.data = list(data)
        self.with_prompt_length = with_prompt_length
        self._ids = array("H" if tokenizer.n_vocab <= 2**16 else "I")
        self._ends = array("Q", [0])  # row i stands from _ends[i] to _ends[i + 1]
        self.prompt_lengths = []
        self.seam_rows = []
        merges = lru_cache(lambda before, after: _merges(before, after, tokenizer))
        for i, entry in enumerate(self.data):
            _check_fields(i, entry)
            prompt_ids = encode_prompt(entry, tokenizer, style)
            self._ids.extend(prompt_ids)
            self._ids.extend(tokenizer.encode_ordinary(entry["output"]))
            if len(self._ids) == self._ends[-1]:
                raise ValueError(f"entry {i} has no token at all: {entry!r}")
            if merges(*_around_the_seam(style.prompt(entry), entry["output"])):
                self.seam_rows.append(i)
            self._ends.append(len(self._ids))
            self.prompt_lengths.append(len(prompt_ids))

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        i = range(len(self))[index]  # counts from the end where it is below 0
        ids = self._ids[self._ends[i] : self._ends[i + 1]].tolist()
        return (self.prompt_lengths[i], ids) if self.with_prompt_length else ids

    @property
    def lengths(self):
        """Tokens in each row, the end-of-text not counted."""
        return [end - start for start, end in pairwise(self._ends)]


def _around_the_seam(prompt, answer):
    """The end of the prompt and the start of the answer: all that could merge into one token.

    GPT-2's tokenizer always cuts before a space or a newline that follows anything else.
    """
    cut = len(prompt)
    while (cut := max(prompt.rfind(" ", 0, cut), prompt.rfind("\n", 0, cut), 0)) > 0:
        if not prompt[cut - 1].isspace():
            break
    word = re.search(r"\S(?=[ \n])", answer)
    return prompt[cut:], answer[: word.end()] if word else answer


def _merges(before, after, tokenizer):
    """Whether two texts have other ids when they are tokenized as one."""
    encode = tokenizer.encode_ordinary
    return encode(before + after) != encode(before) + encode(after)


def _check_fields(i, entry):
    """ValueError with entry and field unless all are text; "input" may be missing or None."""
    if not isinstance(entry, dict):
        raise ValueError(f"entry {i} is no dict: {entry!r}")
    for key in ("instruction", "input", "output"):
        if key == "input" and entry.get(key) is None:
            continue
        if key not in entry:
            found = ", ".join(map(repr, entry)) or "none"
            raise ValueError(f"entry {i}: {key!r} is missing; keys found: {found}")
        if not isinstance(entry[key], str):
            raise ValueError(f"entry {i}: {key!r} is not text: {entry[key]!r}")
        try:
            entry[key].isascii() or entry[key].encode()
        except UnicodeEncodeError:  # the tokenizer would replace it without a word
            raise ValueError(
                f"entry {i}: {key!r} holds half a character (a lone surrogate)"
            ) from None
