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
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ch07.data.near_duplicates import by_column, find_near_duplicates, normalised, tfidf
from ch07.utils.errors import InputError

Row = dict[str, Any]

MAX_SIMILARITY = 0.9  # cosine: two rows that are more similar are not both chosen
SIMILARITY_DECIMALS = 9  # further decimals are rounding errors: such similarities count as equal

# What LIMA left out of Stack Exchange's answers: those that mention their author or other answers.
LIMA_PATTERNS = {
    "first person": r"(?<!War )(?<!Part )\bI(?:['\u2019](?:m|ve|d|ll)\b|(?= [a-z]))"
    r"|\b(?i:my|me|myself)\b",
    "other answers": r"(?i)\bas (?:already )?(?:mentioned|noted|stated|pointed out)\b"
    r"|\b(?:other|previous|accepted) answers?\b|\bstack ?(?:exchange|overflow)\b",
}
LIMA_LENGTHS = 1200, 4096  # characters of an answer: the shortest and the longest allowed

# A delimiter that opens again before it closes is not code. This keeps the search linear.
_CODE = r"```.*?```|`[^`\n]+`|<(?P<tag>pre|code)\b(?:(?!<(?P=tag)\b).)*?</(?P=tag)>"
_HTML_TAGS = (
    "a|abbr|b|blockquote|br|center|del|div|em|font|h[1-6]|hr|i|img|kbd|p|s|small|span|strike|strong"
    "|sub|sup|table|tbody|td|th|thead|tr|u"
)  # not ul, ol and li: lists stay
_CODE_LINK_OR_TAG = re.compile(
    rf"(?P<code>{_CODE})"
    r"|!\[[^\[\]\n]*\]\([^)\s]*(?:\s+\"[^\"\n]*\")?\)"  # a picture in Markdown
    r"|\[(?P<text>[^\[\]\n]+)\]\([^)\s]*(?:\s+\"[^\"\n]*\")?\)"  # a link: its text stays
    r"| ?<?https?://[^\s<>()\]]*[^\s<>()\].,;:!?'\"]>?"
    rf"|</?(?:{_HTML_TAGS})(?:\s+[\w-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*\s*/?>",
    re.DOTALL | re.IGNORECASE,
)


def strip_links(text: str) -> str:
    """Remove links, pictures and HTML tags; code, lists and the text of a link stay.

    >>> strip_links("See [the docs](https://x.org), run `curl https://x.org` <b>now</b>.")
    'See the docs, run `curl https://x.org` now.'
    """
    return _CODE_LINK_OR_TAG.sub(lambda match: match["code"] or match["text"] or "", text)


def without_code(text: str) -> str:
    """Remove code from a text, since rules about wording don't apply to programs."""
    return re.sub(_CODE, "", text, flags=re.DOTALL | re.IGNORECASE)


def filter_reasons(
    row: Row,
    min_len: int = 0,
    max_len: int | None = None,
    banned_patterns: dict[str, str] | Iterable[str] = (),
) -> list[str]:
    """Why an answer is filtered out: "short", "long", or the names of patterns that it matches.

    Lengths are in characters, bounds included. Patterns are regular expressions, as
    {name: pattern} or as a list; they are not searched in code. ValueError for an invalid one.

    >>> filter_reasons({"output": "I think so."}, 5, 100, LIMA_PATTERNS)
    ['first person']
    """
    answer = row["output"]
    if not isinstance(banned_patterns, dict):
        banned_patterns = {pattern: pattern for pattern in banned_patterns}
    reasons = []
    if len(answer) < min_len:
        reasons.append("short")
    if max_len is not None and len(answer) > max_len:
        reasons.append("long")
    prose = without_code(answer)
    try:
        for name, pattern in banned_patterns.items():
            if re.search(pattern, prose):
                reasons.append(name)
    except re.error as error:
        raise InputError(f"a banned pattern is not a regular expression: {error}") from None
    return reasons


# --- which rows to keep -------------------------------------------------------------------------
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
    texts = [f"{row['instruction']} {row.get('input') or ''}" for row in candidates]
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
    return json.dumps(row, sort_keys=True)
