"""A data file in numbers, before it is trained on: lengths, what counts, which rows are alike.

The one idea: what a limit destroys, what the loss counts and what a held-out score is worth can be
known beforehand, in seconds. Functions return numbers and lines of text; nothing is printed.
"""

from collections import Counter, defaultdict

from ch07.data.near_duplicates import find_near_duplicates
from ch07.data.prompt_styles import token_roles
from ch07.data.splits import normalised_prompt
from ch07.data.token_boundaries import boundary_merge_rows, seam_merges
from ch07.data.tokenizer import load_tokenizer

SIMILARITY_THRESHOLD = 0.9  # cosine: the threshold of the book's find-near-duplicates.py
MANY = 20_000  # training rows that are compared with each other; beyond that it takes too long
MAX_COMPARED_ROWS = (
    100_000  # rows of which the held-out ones are compared with all others; likewise
)
LOOKED_AT = 200
EXAMPLES = 3  # rows with a merge that are searched for different ones
BINS = 12
WIDTH = 40  # of the histogram: lines, and columns of the longest bar


def truncation_costs(lengths, limit):
    """{"limit", "rows", "end", "answer"}: how many rows lose their end, or their whole answer.

    `lengths` has (tokens, those of the prompt) for each row.

    >>> limit_costs([(5, 3), (9, 6), (9, 7)], limit=6)  # a prompt of 6 still predicts one token
    {'limit': 6, 'rows': 3, 'end': 2, 'answer': 1}
    """
    beyond = [(n, prompt) for n, prompt in lengths if n > limit]
    lost = sum(prompt > limit for _, prompt in beyond)
    return {"limit": limit, "rows": len(lengths), "end": len(beyond), "answer": lost}


def informative_limits(lengths, context_length):
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


def counted_targets_by_role(dataset, style, loss_on, limit=None):
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


def at_the_seams(datasets, style, file):
    """(entries whose tokens would merge if prompt and answer were tokenized at once, figures).

    In the order of the `DataFile`; the figures are a dict with some examples, each another merge.
    """
    found = set()
    for dataset in datasets.values():
        rows = boundary_merge_rows(dataset.data, load_tokenizer(), style)
        found.update(id(dataset.data[i]) for i in rows)
    entries = [entry for entry in file.entries if id(entry) in found]
    examples, places = {}, file.by_entry
    for merge in seam_merges(entries[:LOOKED_AT], load_tokenizer(), style):
        place = places[id(entries[merge.row])]
        examples.setdefault(str(merge), {"row": place, "tokens": str(merge)})
    return entries, {
        "rows": len(entries),
        "of": sum(map(len, datasets.values())),
        "template_end": style.no_input[-1:],
        "examples": list(examples.values())[:EXAMPLES],
    }


def conflicting_answers(entries):
    """Groups of entries that ask the same and answer differently."""
    groups = defaultdict(list)
    for entry in entries:
        groups[normalised_prompt(entry)].append(entry)
    return [group for group in groups.values() if len({entry["output"] for entry in group}) > 1]


def near_duplicates_across_splits(datasets):
    """(held-out entry, training entry, similarity): prompts nearly the same, one for each.

    None if there are too many rows to look at in a minute.
    """
    if sum(map(len, datasets.values())) > MAX_COMPARED_ROWS:
        return None
    held_out = [*datasets["test"].data, *datasets["validation"].data]
    return _alike([*held_out, *datasets["train"].data], first=len(held_out))


def near_duplicates_within_splits(datasets):
    """Likewise for training entries; None if there are too many to look at in seconds."""
    entries = datasets["train"].data
    return _alike(entries) if len(entries) <= MANY else None


def _alike(entries, first=None):
    texts = [f"{entry['instruction']} {entry['input']}" for entry in entries]
    pairs = find_near_duplicates(texts, SIMILARITY_THRESHOLD, first, one_each=True)
    return [(entries[i], entries[j], similarity) for i, j, similarity in pairs]
