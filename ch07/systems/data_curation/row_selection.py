"""Row selection: which answers to filter out, and which rows to keep when only a few are wanted.

The one idea: choose rows that differ. Rows are grouped by family; the groups take turns, and each
contributes the row that is least similar to all rows chosen so far (farthest-first traversal of
TF-IDF vectors). Two baselines stand beside it: the longest answers, and random rows.
Knows nothing of files, tokens or models.

Sources: LIMA (Zhou et al. 2023, arXiv 2305.11206, section 2), which fine-tuned on 1,000 rows chosen
by hand and published no code, so that only its rules can be followed; "Long is more" (Zhao et al.
2024, arXiv 2402.04833) for the longest answers; `02_dataset-utilities` of Raschka's
LLMs-from-scratch for near duplicates.
"""

import json
import random
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ch07.data.chat_forms import prompt_text
from ch07.data.near_duplicates import by_column, find_near_duplicates, normalised, tfidf
from ch07.systems.data_curation.lima_filters import filter_reasons
from ch07.utils.errors import InputError

Row = dict[str, Any]

MAX_SIMILARITY = 0.9  # cosine: two rows that are more similar are not both chosen
SIMILARITY_DECIMALS = 9  # further decimals are rounding errors: such similarities count as equal


def select_random(rows: Sequence[Row], k: int, seed: int = 123) -> list[Row]:
    """k random rows; the choice depends on the rows and the seed, not on the rows' order."""
    _check_count(k, len(rows))
    return _shuffled(rows, seed)[:k]


def select_longest(rows: Sequence[Row], k: int) -> list[Row]:
    """The k rows with the longest answers, in characters, whatever the rows' order."""
    _check_count(k, len(rows))
    return sorted(rows, key=lambda row: (-len(row["output"]), _sort_key(row)))[:k]


def select_diverse(
    rows: Sequence[Row],
    k: int,
    group_key: str | None = None,
    per_group: int | None = None,
    *,
    min_len: int = 0,
    max_len: int | None = None,
    banned_patterns: dict[str, str] | Iterable[str] = (),
    seed: int = 123,
    max_similarity: float = MAX_SIMILARITY,
) -> list[Row]:
    """k rows that differ, in the order of choice: filtered, then chosen group by group in turns.

    `group_key` names the field that groups rows (None: a single group; a row without the field
    belongs to group ""); `per_group` limits how many rows a group contributes. Group sizes differ
    by at most 1, unless a group runs out of rows. No two prompts are more similar than
    `max_similarity`. The result depends on the rows and the seed, not on their order. ValueError if
    fewer than k rows can be chosen.
    """
    if group_key is not None and rows and not any(group_key in row for row in rows):
        raise InputError(f"no row has the key {group_key!r} to group by")
    _check_count(k)
    candidates = [row for row in rows if not filter_reasons(row, min_len, max_len, banned_patterns)]
    candidates = _shuffled(candidates, seed)
    groups = ["" if group_key is None else str(row.get(group_key, "")) for row in candidates]
    texts = [prompt_text(row) for row in candidates]
    chosen = farthest_first_by_group(texts, groups, k, per_group, max_similarity)
    if len(chosen) < k:
        group_limit = "" if per_group is None else f"at most {per_group:,} per group, "
        raise InputError(
            f"{k:,} rows requested, but only {len(chosen):,} can be chosen: {len(candidates):,} of "
            f"{len(rows):,} pass the filters; limits: {group_limit}"
            f"similarity of two rows at most {max_similarity:g}"
        )
    return [candidates[i] for i in chosen]


def farthest_first_by_group(
    texts: list[str],
    groups: list[str],
    k: int,
    per_group: int | None = None,
    max_similarity: float = MAX_SIMILARITY,
) -> list[int]:
    """Indices of at most k texts: groups take turns, each adds its text farthest from all chosen.

    Gives the same result as comparing all pairs, but stores only each text's similarity to its
    nearest chosen text, so that a choice only touches the texts that share a character n-gram
    with it. Ties go to the first text.
    """
    vectors = tfidf([normalised(text) for text in texts])
    texts_with_column = by_column(vectors, np.ones(len(vectors.columns), dtype=bool))
    nearest = np.zeros(len(texts))  # cosine similarity of each text to its nearest chosen text
    members: dict[str, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    candidates = {group: np.array(indices) for group, indices in members.items()}
    capacity = dict.fromkeys(candidates, len(texts) if per_group is None else per_group)
    chosen: list[int] = []
    while candidates and len(chosen) < k:
        for group, indices in list(candidates.items()):
            if len(chosen) == k:
                break
            if not len(indices) or not capacity[group]:
                del candidates[group]
                continue
            position = nearest[indices].argmin()
            if nearest[indices[position]] > max_similarity:
                del candidates[group]
                continue
            chosen.append(int(indices[position]))
            candidates[group] = np.delete(indices, position)
            capacity[group] -= 1
            similarity = np.zeros(len(texts))
            for column, value in zip(*vectors.row(chosen[-1]), strict=True):
                others, other_values = texts_with_column(column)  # each text at most once
                similarity[others] += value * other_values
            nearest = np.maximum(nearest, similarity.round(SIMILARITY_DECIMALS))
    return chosen


# --- near duplicates ----------------------------------------------------------------------------
def drop_near_duplicates(rows: Iterable[Row], key: str, threshold: float = 0.9) -> list[Row]:
    """The rows whose `key` is not a near duplicate of an earlier row's; empty values are kept.

    Repeated until nothing more is found: removing rows changes the TF-IDF weights, so that others
    may become more similar. A second call therefore changes nothing. ValueError if no row has the
    key, or if a value is not text.
    """
    rows = list(rows)
    if rows and not any(key in row for row in rows):
        found = ", ".join(map(repr, rows[0])) or "none"
        raise InputError(f"no row has the key {key!r}; the first row's keys: {found}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(key) or "", str):
            raise InputError(f"row {number}: {key!r} must be text, but is {row[key]!r}")
    while True:
        # `one_each` gives one pair for each i < j: reversed, one for each row with an earlier one.
        texts = [row.get(key) or "" for row in reversed(rows)]
        pairs = find_near_duplicates(texts, threshold, one_each=True)
        duplicates = {len(rows) - 1 - i for i, _, _ in pairs}
        if not duplicates:
            return rows
        rows = [row for i, row in enumerate(rows) if i not in duplicates]


def _check_count(k: int, n_rows: int | None = None) -> None:
    if type(k) is not int or k < 1:
        raise InputError(f"the number of rows to choose is {k!r}, but must be an int of at least 1")
    if n_rows is not None and k > n_rows:
        raise InputError(f"{k:,} rows requested, but there are only {n_rows:,}")


def _shuffled(rows: Sequence[Row], seed: int) -> list[Row]:
    """The rows in an order that depends on the rows and the seed, not on their current order."""
    rows = sorted(rows, key=_sort_key)
    random.Random(seed).shuffle(rows)
    return rows


def _sort_key(row: Row) -> str:
    return json.dumps(row, sort_keys=True, default=str)
