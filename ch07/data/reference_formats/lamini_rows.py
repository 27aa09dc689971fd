"""Token ids and labels as in the course by Lamini and DeepLearning.AI.

The one idea: question and answer are one text with nothing between them, and all of it is learned.
The labels are the ids, there is no end-of-text token, and a text that is too long loses its
beginning, so that the answer stays. Such a model never learns to stop, and it learns to write
questions as well. Source: "Finetuning Large Language Models", lesson "Data preparation",
`tokenize_function` (course notebook; utilities.py has it in `get_tokenize_function`).

The rows differ from the course's on purpose in two points: an instruction and its input are both
the question (the course reads the columns input and output, and loses the instruction), and an
end-of-text token typed by a user is ordinary text. Knows nothing of batches or models.
"""

from collections.abc import Iterable

import tiktoken

from ch07.data.prompt_styles import BARE_STYLE
from ch07.data.reference_formats.alpaca_labels import LabelRow, LabelRows, label_rows
from ch07.utils.errors import InputError
from instruction_dataset import Entry

MAX_LENGTH = 2048  # tokens; the context of Pythia, which the course trains


def lamini_rows(
    entries: Iterable[Entry], tokenizer: tiktoken.Encoding, max_length: int | None = MAX_LENGTH
) -> LabelRows:
    """`LabelRows` of entries; only the last `max_length` tokens of each are kept.

    None keeps all of them, as utilities.py does: it computes the limit and doesn't pass it on. No
    entry is dropped. ValueError for an entry without any token, and for a limit below 1.

    >>> from ch07.data.tokenizer import load_tokenizer
    >>> entries = [{"instruction": "Name a colour.", "output": "Red"}]
    >>> ((row,), dropped) = lamini_rows(entries, load_tokenizer())
    >>> row.ids == row.labels == load_tokenizer().encode("Name a colour.Red")
    True
    """
    if max_length is not None and (type(max_length) is not int or max_length < 1):
        raise InputError(f"max_length is {max_length!r}, but must be an int of at least 1 token")
    masked, dropped = label_rows(entries, tokenizer, BARE_STYLE, joint=True)
    return LabelRows([_last_tokens(row, max_length) for row in masked], dropped)


def _last_tokens(masked: LabelRow, max_length: int | None) -> LabelRow:
    """A row that learns all of its tokens except end-of-text, from one with a masked question."""
    ids = masked.ids[:-1]
    n_lost = 0 if max_length is None else max(0, len(ids) - max_length)
    cut = []
    if n_lost > 0:
        cut.append("prompt")
    if n_lost > masked.n_prompt:
        cut.append("answer")
    kept = ids[n_lost:]
    return LabelRow(kept, list(kept), tuple(cut), max(masked.n_prompt - n_lost, 0))
