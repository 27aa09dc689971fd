"""What the collate explorer carries: GPT-2's merges, entries to choose from, prompt styles, counts.

The one idea: the page computes everything by itself, so all that it needs goes with it as data. Its
toy models are counts of tokens and of neighbouring pairs in training rows, as the loss sees them.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import islice, pairwise
from typing import Any

import tiktoken

from ch07.data.chat_forms import is_chat
from ch07.data.prompt_styles import ALPACA_STYLE, BARE_STYLE, QUESTION_STYLE
from ch07.data.tokenizer import end_token_id, load_tokenizer, merges_of, vocabulary_files
from ch07.pages.one_file import PAGES, one_file_page
from ch07.pages.style_pieces import style_pieces
from ch07.utils.console import count
from ch07.utils.errors import DataError
from instruction_dataset import BOOK_STYLE, Entry, InstructionDataset

NAME = "collate_explorer"
STYLES = (BOOK_STYLE, ALPACA_STYLE, QUESTION_STYLE, BARE_STYLE)
FIELDS = ("instruction", "input", "output")
TRAINING_ROWS = 2000  # at most so many rows are counted for the toy models
MAX_CHARACTERS = 2000  # of a field that can be chosen; the page is for rows that fit on it


def collate_explorer_page(
    entries: Iterable[Entry],
    n_entries: int = 40,
    language: str = "en",
    report: Callable[[str], None] = lambda text: None,
) -> str:
    """The page as one HTML text, with the first `n_entries` entries to choose from.

    Conversations of several turns have no single prompt and answer and are left out, and long rows
    can't be chosen: `report` gets a line on each. DataError if nothing else is there.
    """
    found = list(islice(entries, TRAINING_ROWS))
    rows = [entry for entry in found if not is_chat(entry)]
    if not rows:
        raise DataError("no row with one instruction and one answer: the explorer shows only those")
    if len(rows) < len(found):
        report(f"{count(len(found) - len(rows), 'conversation')} left out")
    short = [entry for entry in rows if _is_short(entry)]
    if len(short) < len(rows):
        n_long = count(len(rows) - len(short), "row")
        report(f"{n_long} can't be chosen in the page: longer than {MAX_CHARACTERS:,} characters")
    tokenizer = load_tokenizer()
    data = {
        "merges": "\n".join(merges_of(vocabulary_files())),
        "entries": [_shown(entry) for entry in short[:n_entries]],
        "styles": {style.name: style_pieces(style) for style in STYLES},
        "counts": token_counts(rows, tokenizer),
        "training-rows": len(rows),
        "texts": page_texts(),
        "first-language": language,
    }
    return one_file_page(NAME, data)


def page_texts() -> dict[str, dict[str, str]]:
    """All that the page says, by language and key."""
    return json.loads((PAGES / NAME / "texts.json").read_text(encoding="utf-8"))


def token_counts(entries: Sequence[Entry], tokenizer: tiktoken.Encoding) -> dict[str, Any]:
    """How often each token, and each pair of neighbours, occurs as target in the book's rows.

    {"vocabulary": V, "tokens": [[id, n], ...], "pairs": [[id, next, n], ...]}, sorted by id.
    """
    dataset = InstructionDataset(entries, tokenizer, BOOK_STYLE)
    tokens: Counter[int] = Counter()
    pairs: Counter[tuple[int, int]] = Counter()
    for i in range(len(dataset)):
        ids = [*dataset[i], end_token_id(tokenizer)]
        tokens.update(ids[1:])
        pairs.update(pairwise(ids))
    return {
        "vocabulary": tokenizer.n_vocab,
        "tokens": [[token_id, n] for token_id, n in sorted(tokens.items())],
        "pairs": [[before, after, n] for (before, after), n in sorted(pairs.items())],
    }


def _is_short(entry: Entry) -> bool:
    return all(len(entry.get(field) or "") <= MAX_CHARACTERS for field in FIELDS)


def _shown(entry: Entry) -> dict[str, str]:
    return {field: entry.get(field) or "" for field in FIELDS}
