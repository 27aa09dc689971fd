"""A data file in numbers, before it is trained on: lengths, what counts, which rows are alike.

The one idea: what a limit destroys, what the loss counts and what a held-out score is worth can be
known beforehand, in seconds. Functions return numbers and lines of text; nothing is printed.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass

from ch07.near_duplicates import find_near_duplicates
from ch07.prompts import token_roles
from ch07.splits import normalised_prompt
from ch07.tokenizer import load_tokenizer

ALIKE = 0.9  # cosine: the threshold of the book's find-near-duplicates.py
MANY = 20_000  # rows; beyond that, only held-out rows are compared with the others
BINS, WIDTH = 12, 40  # of the histogram: lines, and columns of the longest bar


@dataclass(frozen=True)
class Alike:
    """Pairs of prompts that are nearly the same, as (entry, entry, similarity)."""

    across: list  # the first is held out, the second in training
    within: list | None  # both in training; None: too many rows to look at


def limit_costs(lengths, limit):
    """{"limit", "rows", "end", "answer"}: how many rows lose their end, or their whole answer.

    `lengths` has (tokens, those of the prompt) for each row.

    >>> limit_costs([(5, 3), (9, 4), (9, 7)], limit=6)
    {'limit': 6, 'rows': 3, 'end': 2, 'answer': 1}
    """
    beyond = [(n, prompt) for n, prompt in lengths if n > limit]
    lost = sum(prompt > limit for _, prompt in beyond)
    return {"limit": limit, "rows": len(lengths), "end": len(beyond), "answer": lost}


def telling_limits(lengths, context_length):
    """Powers of two that cut some rows but not all: limits worth a look."""
    tokens = [n for n, _ in lengths]
    powers = [2**k for k in range(3, 13)]
    return [n for n in powers if min(tokens) < n < max(tokens) and n < context_length]


def histogram(tokens, limit=None):
    """Lines of text: how many rows have how many tokens, with the limit drawn in.

    >>> for line in histogram([2, 3, 3, 5], limit=4):
    ...     print(line)
    2 to 2  #################### 1
    3 to 3  ######################################## 2
    4 to 4   0
    --------- limit: 4 tokens ---------
    5 to 5  #################### 1
    """
    low, high = min(tokens), max(tokens)
    step = (high - low) // BINS + 1
    ends = sorted({*range(low + step - 1, high + step, step), *([limit] if limit else [])})
    counts, start = [], min(low, limit or low)
    for end in ends:
        counts.append((start, end, sum(start <= n <= end for n in tokens)))
        start = end + 1
    longest = max(n for _, _, n in counts)
    digits = len(str(ends[-1]))
    for start, end, n in counts:
        bar = "#" * -(-WIDTH * n // longest)
        yield f"{start:>{digits}} to {end:>{digits}}  {bar} {n:,}"
        if end == limit:
            yield f"--------- limit: {limit} tokens ---------"


def counted_by_role(dataset, style, loss_on, limit=None):
    """How many counted targets are template, instruction, input, answer or end-of-text."""
    roles, tokenizer = Counter(), load_tokenizer()
    rows = zip(dataset.data, dataset.lengths, dataset.prompt_lengths, strict=True)
    for entry, n, first in rows:
        if loss_on == "all":  # the first token is no target: nothing stands before it
            row = [*token_roles(entry, tokenizer, style)[1:], "end"]
        else:  # the last token of the prompt has the answer's first as its target
            row = [None] * (first - 1) + ["answer"] * (n - max(first, 1)) + ["end"]
        roles.update(role for role in row[: limit or len(row)] if role)
    return dict(roles)


def several_answers(entries):
    """Groups of entries that ask the same and answer differently."""
    groups = defaultdict(list)
    for entry in entries:
        groups[normalised_prompt(entry)].append(entry)
    return [group for group in groups.values() if len({entry["output"] for entry in group}) > 1]


def find_alike(datasets, within=True):
    """The `Alike` of the prompts: nearly the same words in training and beside it."""
    held_out = [*datasets["test"].data, *datasets["validation"].data]
    entries = [*held_out, *datasets["train"].data]
    texts = [f"{entry['instruction']} {entry['input']}" for entry in entries]
    within = within and len(texts) <= MANY
    pairs = find_near_duplicates(texts, ALIKE, None if within else len(held_out))
    named = [(i, j, (entries[i], entries[j], similarity)) for i, j, similarity in pairs]
    return Alike(
        across=[pair for i, j, pair in named if i < len(held_out) <= j],
        within=[pair for i, _, pair in named if i >= len(held_out)] if within else None,
    )


def tell_likeness(datasets):
    """Lines that say what a held-out score may owe to memory, and where answers contradict."""
    n_held_out = len(datasets["test"]) + len(datasets["validation"])
    n = len({id(held_out) for held_out, _, _ in find_alike(datasets, within=False).across})
    if n:
        yield f"{n} of {n_held_out} held-out prompts are nearly the same as one in training"
    n = len(several_answers(datasets["train"].data))
    if n:
        yield f"{n} training prompts are asked more than once, with different answers"
