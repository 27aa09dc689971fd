"""Rows -> training, validation and test rows, with no prompt in two of them.

The one idea: rows that ask the same (letter case and white space aside) stay together, so a
held-out score never rewards what was memorized. Knows nothing of files, tokens or models.
"""

import math
import random
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from ch07.data.entry_checks import Entry
from ch07.data.field_names import SPLITS
from ch07.utils.errors import InputError
from ch07.utils.unicode_text import fold_case

BOOK_FRACTIONS = (0.85, 0.10, 0.05)  # in the order of SPLITS

T = TypeVar("T")


def normalised_prompt(entry: Entry) -> str:
    """Instruction and input without differences of letter case and white space.

    In a conversation, the system prompt and all turns before it as well.

    >>> normalised_prompt({"instruction": "Name  a COLOUR.", "input": ""})
    'name a colour. |'
    """
    parts = [entry["instruction"], entry.get("input") or ""]
    for turn in entry.get("history", ()):
        parts += [turn["instruction"], turn["output"]]
    if entry.get("system"):
        parts.append(entry["system"])
    return " | ".join(" ".join(fold_case(part).split()) for part in parts).rstrip(" ")


def group_key(entry: Entry) -> str:
    """Equal for entries that must be in one split: those whose first question is the same.

    Two conversations that begin alike have turns in common, and so have a conversation and a single
    question that it begins with.
    """
    first = entry["history"][0] if entry.get("history") else entry
    return normalised_prompt({"instruction": first["instruction"], "input": first.get("input")})


# --- no prompt in two splits ----------------------------------------------------------------------
def split_entries(
    entries: Sequence[Entry], fractions: Sequence[float] = BOOK_FRACTIONS, seed: int = 123
) -> dict[str, list[Entry]]:
    """The entries of "train", "test" and "validation", as `split_rows` chooses them."""
    rows = split_rows(entries, fractions, seed)
    return {name: [entries[i] for i in numbers] for name, numbers in rows.items()}


def split_rows(
    entries: Sequence[Entry], fractions: Sequence[float] = BOOK_FRACTIONS, seed: int = 123
) -> dict[str, list[int]]:
    """Row numbers for "train", "test" and "validation": groups of one prompt, shuffled by `seed`.

    If any entry has a "split" field, these fields decide, and entries without one are for training.
    The sizes add up to the number of entries; they differ from the fractions only to keep groups
    whole.
    ValueError for an unknown split, or fractions that do not sum to 1.

    >>> entries = [{"instruction": text} for text in ("Hi", "hi ", "Bye", "Why?")]
    >>> split_rows(entries, (0.5, 0.25, 0.25))
    {'train': [0, 1], 'test': [3], 'validation': [2]}
    """
    if any("split" in entry for entry in entries):
        return _rows_by_split_field(entries)
    return split_groups([group_key(entry) for entry in entries], fractions, seed)


def split_groups(
    keys: Sequence[Hashable], fractions: Sequence[float] = BOOK_FRACTIONS, seed: int = 123
) -> dict[str, list[int]]:
    """Row numbers for each split from a key for each row; rows with the same key stay together.

    The groups are shuffled; each held-out split takes those that still fit into its share, in
    order, and the rest are for training.
    """
    _check_fractions(fractions)
    rows_by_key: dict[Hashable, list[int]] = defaultdict(list)
    for i, key in enumerate(keys):
        rows_by_key[key].append(i)
    groups = list(rows_by_key.values())
    random.Random(seed).shuffle(groups)
    held_out = {}
    for name, fraction in zip(SPLITS[1:], fractions[1:], strict=True):
        taken, groups = _take_groups(groups, int(len(keys) * fraction))
        held_out[name] = [i for group in taken for i in group]
    return {"train": [i for group in groups for i in group], **held_out}


def _take_groups(groups: list[list[int]], n_rows: int) -> tuple[list[list[int]], list[list[int]]]:
    """(groups that fit into `n_rows` rows, in order; all others)."""
    taken = []
    left = []
    for number, group in enumerate(groups):
        if n_rows == 0:
            return taken, left + groups[number:]
        if len(group) <= n_rows:
            taken.append(group)
            n_rows -= len(group)
        else:
            left.append(group)
    return taken, left


def _rows_by_split_field(entries: Sequence[Entry]) -> dict[str, list[int]]:
    names = [entry.get("split", "train") for entry in entries]
    unknown = set(names) - set(SPLITS)
    if unknown:
        raise InputError(f"no split {sorted(unknown)}; choose one of {', '.join(SPLITS)}")
    return {split: [i for i, name in enumerate(names) if name == split] for split in SPLITS}


# --- splits that ignore the prompts ---------------------------------------------------------------
def positional_split(
    entries: Sequence[T], fractions: Sequence[float] = BOOK_FRACTIONS
) -> dict[str, Sequence[T]]:
    """The book's split, without a shuffle: 85 % training, the next 10 % test, the rest validation.

    It can leak; see `overlap`.
    """
    _check_fractions(fractions)
    n_train = int(len(entries) * fractions[0])
    n_test = int(len(entries) * fractions[1])
    return {
        "train": entries[:n_train],
        "test": entries[n_train : n_train + n_test],
        "validation": entries[n_train + n_test :],
    }


def hf_split(
    entries: Sequence[T], test_size: float = 0.1, seed: int = 123
) -> dict[str, Sequence[T]]:
    """The split of Hugging Face `datasets`: `train_test_split(test_size, shuffle=True, seed=seed)`.

    NumPy's generator shuffles the rows; the first ones are for testing, the others for training,
    and none for validation. `test_size` is a share, rounded up, or, if it is an int, a number of
    rows. ValueError if no row is left to train or to test on. It ignores the prompts, so it can
    leak; see `overlap`.
    Source: `datasets`, `arrow_dataset.py`.

    >>> {name: len(rows) for name, rows in hf_split(range(1400)).items()}
    {'train': 1260, 'test': 140, 'validation': 0}
    """
    n = len(entries)
    n_test = math.ceil(test_size * n) if isinstance(test_size, float) else test_size
    if not 0 < n_test < n:
        raise InputError(
            f"a test_size of {test_size} leaves no row to train or to test on, of {n} in all"
        )
    order = np.random.default_rng(seed).permutation(n).tolist()
    test = [entries[i] for i in order[:n_test]]
    train = [entries[i] for i in order[n_test:]]
    return {"train": train, "test": test, "validation": []}


def split_ignoring_prompts(rule: str, n_rows: int, seed: int) -> dict[str, Sequence[int]]:
    """Row numbers by the rule "book" (`positional_split`) or "hf" (`hf_split`)."""
    rows = range(n_rows)
    return positional_split(rows) if rule == "book" else hf_split(rows, seed=seed)


# --- what a split is worth ------------------------------------------------------------------------
def describe_split_field(n_with_split: int, n_rows: int, ignored: bool) -> str:
    """A sentence about a file in which some rows have a "split" field."""
    if ignored:
        return "ignoring the file's `split` field"
    text = "using the file's `split` field"
    if n_with_split < n_rows:
        text += f"; {n_rows - n_with_split:,} rows without one go to training"
    return text


def overlap(splits: Mapping[str, Sequence[Entry]]) -> dict[str, int]:
    """How many entries of each held-out split share their first prompt with a training entry."""
    training_prompts = {group_key(entry) for entry in splits["train"]}
    return {
        name: sum(group_key(entry) in training_prompts for entry in splits[name])
        for name in SPLITS[1:]
    }


def sample_rows(families: Sequence[Hashable], n: int, seed: int = 123) -> list[int]:
    """`n` row numbers, in order: families take turns, each shuffled by `seed`.

    `families` has the family of each row; None is a family too. All rows if there are at most `n`.

    >>> sample_rows("aaaab", 3)
    [2, 3, 4]
    """
    rows_by_family: dict[Hashable, list[int]] = defaultdict(list)
    for i, family in enumerate(families):
        rows_by_family[family].append(i)
    rng = random.Random(seed)
    turns: list[tuple[int, int]] = []
    for rows in rows_by_family.values():
        rng.shuffle(rows)
        turns += enumerate(rows)
    first = sorted(turns, key=lambda turn: turn[0])[:n]  # stable: in a turn, family by family
    return sorted(row for _, row in first)


def _check_fractions(fractions: Sequence[float]) -> None:
    shares = len(fractions) == 3 and all(0 <= fraction <= 1 for fraction in fractions)
    if not shares or not math.isclose(sum(fractions), 1.0, abs_tol=1e-9):
        raise InputError(f"the fractions {fractions} must be three shares that sum to 1")
