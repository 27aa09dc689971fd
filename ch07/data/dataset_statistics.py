"""A data file in numbers, before training: lengths, counted targets, rows that resemble each other.

The one idea: what a limit destroys, what the loss counts and what a held-out score is worth can be
known in advance, within seconds. Functions return numbers and lines of text; nothing is printed.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import tiktoken

from ch07.data.chat_dataset import ChatDataset, token_roles
from ch07.data.chat_forms import prompt_text
from ch07.data.entry_checks import Entry
from ch07.data.loaded_rows import LoadedRows, SplitDataset
from ch07.data.near_duplicates import find_near_duplicates
from ch07.data.reference_formats.label_row_dataset import LabelRowDataset
from ch07.data.splits import normalised_prompt
from ch07.data.token_boundaries import boundary_merge_rows, boundary_merges
from instruction_dataset import PromptStyle

SIMILARITY_THRESHOLD = 0.9  # cosine: the threshold of the book's find-near-duplicates.py
# Beyond so many rows a search for near-duplicates takes too long: of all training rows with each
# other, and of the held-out rows with all others.
MAX_TRAINING_ROWS_COMPARED = 20_000
MAX_ROWS_COMPARED = 100_000
MERGES_SEARCHED = 200  # rows with a merge in which different examples are searched for
MERGE_EXAMPLES = 3
HISTOGRAM_BINS = 12
HISTOGRAM_WIDTH = 40  # columns of the longest bar

RowPair = tuple[int, int, float]  # row numbers of the file, and their cosine similarity


# --- lengths --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class TruncationCost:
    """How many rows lose their end, or their whole answer, at a limit."""

    limit: int
    rows: int
    end: int
    answer: int


def truncation_cost(lengths: Sequence[tuple[int, int]], limit: int) -> TruncationCost:
    """What a limit costs; `lengths` has (tokens, those of the prompt) for each row.

    >>> truncation_cost([(5, 3), (9, 6), (9, 7)], limit=6)  # a prompt of 6 predicts one token more
    TruncationCost(limit=6, rows=3, end=2, answer=1)
    """
    beyond = [(n, prompt) for n, prompt in lengths if n > limit]
    n_answers = sum(prompt > limit for _, prompt in beyond)
    return TruncationCost(limit=limit, rows=len(lengths), end=len(beyond), answer=n_answers)


def informative_limits(lengths: Sequence[tuple[int, int]], context_length: int) -> list[int]:
    """Powers of two that cut some rows but not all: limits worth considering."""
    tokens = [n for n, _ in lengths]
    powers = [2**k for k in range(3, 13)]
    return [n for n in powers if min(tokens) < n < max(tokens) and n < context_length]


def histogram(tokens: Sequence[int], limit: int | None = None) -> Iterator[str]:
    """Lines of text: how many rows have how many tokens, with the limit drawn in.

    >>> for line in histogram([2, 3, 3, 5], limit=4):
    ...     print(line)
    2 to 2  #################### 1
    3 to 3  ######################################## 2
    4 to 4   0
    --------- limit: 4 tokens ---------
    5 to 5  #################### 1
    """
    low = min(tokens)
    high = max(tokens)
    step = (high - low) // HISTOGRAM_BINS + 1
    ends = set(range(low + step - 1, high + step, step))
    if limit:
        ends.add(limit)
    bins: list[tuple[int, int, int]] = []
    start = min(low, limit or low)
    for end in sorted(ends):
        bins.append((start, end, sum(start <= n <= end for n in tokens)))
        start = end + 1
    largest = max(n for _, _, n in bins)
    digits = len(str(bins[-1][1]))
    for start, end, n in bins:
        bar = "#" * -(-HISTOGRAM_WIDTH * n // largest)
        yield f"{start:>{digits}} to {end:>{digits}}  {bar} {n:,}"
        if end == limit:
            yield f"--------- limit: {limit} tokens ---------"


# --- targets --------------------------------------------------------------------------------------
def counted_targets_by_role(
    dataset: SplitDataset,
    tokenizer: tiktoken.Encoding,
    style: PromptStyle,
    loss_on: str,
    allowed_max_length: int | None = None,
) -> dict[str, int]:
    """How many counted targets are template, instruction, input, answer or end-of-text."""
    counts: Counter[str] = Counter()
    lengths = dataset.lengths.tolist()
    prompt_lengths = dataset.prompt_lengths.tolist()
    source = dataset.dataset
    for i, (entry, n, prompt_length) in enumerate(
        zip(dataset.data, lengths, prompt_lengths, strict=True)
    ):
        roles: list[str | None]
        if isinstance(source, LabelRowDataset):
            n_prompt = source.answer_starts[dataset.indices[i]]
            parts = ["prompt"] * n_prompt + ["answer"] * (n - n_prompt) + ["end"]
            counted = source.counted(dataset.indices[i])
            pairs = zip(parts[1:], counted[1:], strict=True)
            roles = [role if is_counted else None for role, is_counted in pairs]
        elif isinstance(source, ChatDataset) and loss_on != "all":
            own_roles = [*token_roles(entry, tokenizer, style), "end"]
            counted = source.counted(dataset.indices[i])
            pairs = zip(own_roles[1:], counted[1:], strict=True)
            roles = [role if is_counted else None for role, is_counted in pairs]
        elif loss_on == "all":  # the first token is no target, since nothing predicts it
            roles = [*token_roles(entry, tokenizer, style)[1:], "end"]
        else:  # the prompt's last token predicts the answer's first
            masked = max(prompt_length - 1, 0)
            roles = [None] * masked + ["answer"] * (n - max(prompt_length, 1)) + ["end"]
        counts.update(role for role in roles[:allowed_max_length] if role)
    return dict(counts)


@dataclass(frozen=True)
class BoundaryMerges:
    """Rows whose tokens would merge if prompt and answer were tokenized as one text."""

    rows: list[int]  # row numbers, in the file's order
    n_rows: int  # rows in all splits
    template_end: str  # the last character of the prompt
    examples: list[dict[str, str]]  # {"row": place, "tokens": text}, each another merge


def find_boundary_merges(
    rows: LoadedRows, tokenizer: tiktoken.Encoding, style: PromptStyle
) -> BoundaryMerges:
    """The `BoundaryMerges` of the usable rows."""
    used = sorted(row for dataset in rows.datasets.values() for row in dataset.indices)
    entries = [rows.file.entries[row] for row in used]
    merged = [used[i] for i in boundary_merge_rows(entries, tokenizer, style)]
    searched = merged[:MERGES_SEARCHED]
    examples: dict[str, dict[str, str]] = {}
    for merge in boundary_merges([rows.file.entries[row] for row in searched], tokenizer, style):
        place = rows.file.places[searched[merge.row]]
        examples.setdefault(str(merge), {"row": place, "tokens": str(merge)})
    return BoundaryMerges(
        rows=merged,
        n_rows=len(used),
        template_end=style.no_input[-1:],
        examples=list(examples.values())[:MERGE_EXAMPLES],
    )


# --- rows that resemble each other ----------------------------------------------------------------
def conflicting_answers(entries: Sequence[Entry]) -> list[list[int]]:
    """Groups of row numbers whose entries ask the same and answer differently."""
    groups: dict[str, list[int]] = defaultdict(list)
    for row, entry in enumerate(entries):
        groups[normalised_prompt(entry)].append(row)
    return [rows for rows in groups.values() if len({entries[row]["output"] for row in rows}) > 1]


def near_duplicates_across_splits(
    entries: Sequence[Entry], datasets: Mapping[str, SplitDataset]
) -> list[RowPair] | None:
    """(held-out row, training row, similarity): one pair for each held-out row that has any.

    None if there are too many rows for a search within a minute.
    """
    if sum(map(len, datasets.values())) > MAX_ROWS_COMPARED:
        return None
    held_out = [*datasets["test"].indices, *datasets["validation"].indices]
    rows = [*held_out, *datasets["train"].indices]
    return _similar_prompts(entries, rows, first=len(held_out))


def near_duplicates_within_training(
    entries: Sequence[Entry], datasets: Mapping[str, SplitDataset]
) -> list[RowPair] | None:
    """Likewise for two training rows; None if there are too many for a search within seconds."""
    rows = datasets["train"].indices
    return _similar_prompts(entries, rows) if len(rows) <= MAX_TRAINING_ROWS_COMPARED else None


def _similar_prompts(
    entries: Sequence[Entry], rows: Sequence[int], first: int | None = None
) -> list[RowPair]:
    texts = [prompt_text(entries[row]) for row in rows]
    pairs = find_near_duplicates(texts, SIMILARITY_THRESHOLD, first, one_each=True)
    return [(rows[i], rows[j], similarity) for i, j, similarity in pairs]
