"""Entries -> training, validation and test entries, with no prompt in two of them.

The one idea: rows that ask the same (letter case and white space apart) move together, so that a
held-out score never counts what was learned by heart. Knows nothing of files, tokens or models.
"""

import math
import random
from collections import defaultdict

import numpy as np

from ch07.data.entries import SPLITS

BOOK_FRACTIONS = (0.85, 0.10, 0.05)  # in the order of SPLITS


def normalised_prompt(entry):
    """Instruction and input with letter case and white space evened out: what makes a prompt.

    >>> normalised_prompt({"instruction": "Name  a COLOUR.", "input": ""})
    'name a colour. |'
    """
    parts = (entry["instruction"], entry.get("input") or "")
    return " | ".join(" ".join(part.casefold().split()) for part in parts).rstrip(" ")


def split_entries(entries, fractions=BOOK_FRACTIONS, seed=123):
    """{"train": ..., "test": ..., "validation": ...}: by group of prompt, shuffled by `seed`.

    Where entries carry a "split" themselves, that is kept (entries without one train). Sizes sum
    to the number of entries, and differ from the fractions only by what keeps groups whole.
    """
    if any("split" in entry for entry in entries):
        return _own_split(entries)
    keys = [normalised_prompt(entry) for entry in entries]
    rows = split_rows(keys, fractions, seed)
    return {name: [entries[i] for i in numbers] for name, numbers in rows.items()}


def split_rows(keys, fractions=BOOK_FRACTIONS, seed=123):
    """Row numbers for each split, from a key for each row: rows of one key stay together.

    The groups are shuffled; each held-out split takes those that fit into its share, in order.
    """
    _check(fractions)
    groups = defaultdict(list)
    for i, key in enumerate(keys):
        groups[key].append(i)
    groups = list(groups.values())
    random.Random(seed).shuffle(groups)
    splits = {}
    for name, fraction in zip(SPLITS[1:], fractions[1:], strict=True):
        taken, groups = _take(groups, int(len(keys) * fraction))
        splits[name] = [i for group in taken for i in group]
    return {"train": [i for group in groups for i in group], **splits}


def _take(groups, room):
    """(groups that fit into so many rows, in order; all others)."""
    taken, left = [], []
    for number, group in enumerate(groups):
        if not room:
            return taken, left + groups[number:]
        fits = len(group) <= room
        (taken if fits else left).append(group)
        room -= fits * len(group)
    return taken, left


def positional_split(entries, fractions=BOOK_FRACTIONS):
    """The book's split: the first 85 % train, the next 10 % test, the rest validate; no shuffle.

    It can leak: see `overlap`.
    """
    _check(fractions)
    a = int(len(entries) * fractions[0])
    b = a + int(len(entries) * fractions[1])
    return {"train": entries[:a], "test": entries[a:b], "validation": entries[b:]}


def hf_split(entries, test_size=0.1, seed=123):
    """The split of Hugging Face `datasets`: `train_test_split(test_size, shuffle=True, seed=seed)`.

    The rows are shuffled by NumPy's generator; the first of them test, all others train, and none
    validate. `test_size` is a share, rounded up, or a number of rows; ValueError if no row is left
    to train on, or to test. It looks at no prompt, so it can leak: see `overlap`.
    Source: `datasets`, `arrow_dataset.py`.

    >>> {name: len(rows) for name, rows in hf_split(range(1400)).items()}
    {'train': 1260, 'test': 140, 'validation': 0}
    """
    n = len(entries)
    n_test = math.ceil(test_size * n) if isinstance(test_size, float) else test_size
    if not 0 < n_test < n:
        raise ValueError(f"a test_size of {test_size} leaves {n} rows none to test or to train on")
    order = np.random.default_rng(seed).permutation(n).tolist()
    test, train = ([entries[i] for i in part] for part in (order[:n_test], order[n_test:]))
    return {"train": train, "test": test, "validation": []}


def split_ignoring_duplicates(rule, entries, seed):
    """`positional_split` ("book") or `hf_split` ("hf"): those that look at no entry."""
    return positional_split(entries) if rule == "book" else hf_split(entries, seed=seed)


def describe_own_split(own, n, ignored):
    """What to tell of `n` rows of which `own` say in which split they are."""
    rest = f", {n - own} rows without one train" if own < n else ""
    return f"the file's own 'split' is {'ignored' if ignored else f'used{rest}'}"


def sample_training_rows(entries, n, seed=123):
    """`n` of the entries, in their order: families take turns, each shuffled by `seed`.

    Entries without a family are one family. All entries if there are no more than `n`.

    >>> [e["family"] for e in few_rows([{"family": f} for f in "aaaab"], 3)]
    ['a', 'a', 'b']
    """
    families = defaultdict(list)
    for i, entry in enumerate(entries):
        families[entry.get("family")].append(i)
    rng, turns = random.Random(seed), []
    for rows in families.values():
        rng.shuffle(rows)
        turns += enumerate(rows)
    first = sorted(turns, key=lambda turn: turn[0])[:n]  # stable: in a turn, family by family
    return [entries[i] for i in sorted(i for _, i in first)]


def overlap(splits):
    """How many entries of each held-out split ask a prompt that training asks too."""
    trained = {normalised_prompt(entry) for entry in splits["train"]}
    return {
        name: sum(normalised_prompt(entry) in trained for entry in splits[name])
        for name in SPLITS[1:]
    }


def _own_split(entries):
    unknown = {entry.get("split", "train") for entry in entries} - set(SPLITS)
    if unknown:
        raise ValueError(f"no split {sorted(unknown)}; choose one of {', '.join(SPLITS)}")
    return {name: [e for e in entries if e.get("split", "train") == name] for name in SPLITS}


def _check(fractions):
    ok = len(fractions) == 3 and all(0 <= f <= 1 for f in fractions)
    if not ok or not math.isclose(sum(fractions), 1.0, abs_tol=1e-9):
        raise ValueError(f"the fractions {fractions} must be three shares that sum to 1")
