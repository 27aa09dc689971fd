"""Few rows instead of many: which answers to leave out, and which rows to keep.

The one idea: choose rows that differ. Rows are put into buckets by their family; the buckets take
turns, and each gives the row that is least like any row chosen so far (greedy max-min distance),
as TF-IDF sees it. Beside it stand the two choices that it must beat: the longest answers, and any.
Knows nothing of files, tokens or models.

Sources: LIMA (Zhou et al. 2023, arXiv 2305.11206, section 2), which fine-tuned on 1,000 rows chosen
by hand and published no code, so that only its rules can be followed; "Long is more" (Zhao et al.
2024, arXiv 2402.04833) for the longest answers; `02_dataset-utilities` of Raschka's
LLMs-from-scratch for near duplicates.
"""

import json
import random
import re

import numpy as np

from ch07.data.near_duplicates import by_column, find_near_duplicates, normalised, tfidf

CAP = 0.9  # cosine: rows more alike than this are not both chosen
DIGITS = 9  # of a similarity; what differs beyond is rounding, and counts as equal

# What LIMA left out of Stack Exchange's answers: those that speak of their author, or of others.
LIMA_PATTERNS = {
    "first person": r"(?<!War )(?<!Part )\bI(?:['\u2019](?:m|ve|d|ll)\b|(?= [a-z]))"
    r"|\b(?i:my|me|myself)\b",
    "other answers": r"(?i)\bas (?:already )?(?:mentioned|noted|stated|pointed out)\b"
    r"|\b(?:other|previous|accepted) answers?\b|\bstack ?(?:exchange|overflow)\b",
}
LIMA_LENGTHS = 1200, 4096  # characters of an answer, both allowed

# What opens twice before it closes is no code; so no text makes the search try again and again.
_CODE = r"```.*?```|`[^`\n]+`|<(?P<tag>pre|code)\b(?:(?!<(?P=tag)\b).)*?</(?P=tag)>"
_TAGS = (
    "a|abbr|b|blockquote|br|center|del|div|em|font|h[1-6]|hr|i|img|kbd|p|s|small|span|strike|strong"
    "|sub|sup|table|tbody|td|th|thead|tr|u"
)  # not ul, ol and li: lists stay
_LINKED = re.compile(
    rf"(?P<code>{_CODE})"
    r"|!\[[^\[\]\n]*\]\([^)\s]*(?:\s+\"[^\"\n]*\")?\)"  # a picture in Markdown
    r"|\[(?P<text>[^\[\]\n]+)\]\([^)\s]*(?:\s+\"[^\"\n]*\")?\)"  # a link: its text stays
    r"| ?<?https?://[^\s<>()\]]*[^\s<>()\].,;:!?'\"]>?"
    rf"|</?(?:{_TAGS})(?:\s+[\w-]+\s*=\s*(?:\"[^\"]*\"|'[^']*'))*\s*/?>",
    re.DOTALL | re.IGNORECASE,
)


def strip_links(text):
    """Links, pictures and HTML tags out of a text; code, lists and the words of a link stay.

    >>> strip_links("See [the docs](https://x.org), run `curl https://x.org` <b>now</b>.")
    'See the docs, run `curl https://x.org` now.'
    """
    return _LINKED.sub(lambda found: found["code"] or found["text"] or "", text)


def without_code(text):
    """The text with its code left out: rules about wording are not about programs."""
    return re.sub(_CODE, "", text, flags=re.DOTALL | re.IGNORECASE)


def reasons_against(row, min_len=0, max_len=None, banned_patterns=()):
    """Why an answer is left out, as a list of names: "short", "long", or a pattern that it has.

    Lengths are characters, and both bounds are allowed. Patterns are regular expressions, a dict
    of names or a list; they are searched outside code. ValueError for one that is none.

    >>> reasons_against({"output": "I think so."}, 5, 100, LIMA_PATTERNS)
    ['first person']
    """
    answer = row["output"]
    if not isinstance(banned_patterns, dict):
        banned_patterns = {pattern: pattern for pattern in banned_patterns}
    reasons = ["short"] * (len(answer) < min_len)
    reasons += ["long"] * (max_len is not None and len(answer) > max_len)
    words = without_code(answer)
    try:
        return reasons + [name for name, p in banned_patterns.items() if re.search(p, words)]
    except re.error as error:
        raise ValueError(f"a banned pattern is no regular expression: {error}") from None


# --- which rows to keep -------------------------------------------------------------------------
def select_random(rows, k, seed=123):
    """Any k rows: the same for the same seed, in whatever order the rows come."""
    return _shuffled(_enough(rows, k), seed)[:k]


def select_longest(rows, k):
    """The k rows with the longest answers, in characters; in whatever order the rows come."""
    return sorted(_enough(rows, k), key=lambda row: (-len(row["output"]), _key(row)))[:k]


def select_diverse(
    rows, k, group_key=None, per_group=None, min_len=0, max_len=None, banned_patterns=(),
    seed=123, cap=CAP,
):  # fmt: skip
    """k rows that differ, in the order of choice: filtered, then in turns from each group.

    `group_key` names the field that groups rows (None: one group; a row without it is in the
    group ""), `per_group` the most that a group may give. The numbers of any two groups differ by
    at most 1, unless one has no more to give. No two prompts are more alike than `cap`. The result
    depends on the rows and the seed, not on their order. ValueError if there are fewer than k.
    """
    if group_key is not None and rows and not any(group_key in row for row in rows):
        raise ValueError(f"no row has the key {group_key!r} to group by")
    filters = min_len, max_len, banned_patterns
    kept = _shuffled([row for row in rows if not reasons_against(row, *filters)], seed)
    groups = [str(row.get(group_key, "")) for row in kept]
    texts = [f"{row['instruction']} {row.get('input') or ''}" for row in kept]
    chosen = farthest_in_turns(texts, groups, _checked(k), per_group, cap)
    if len(chosen) < k:
        limit = "" if per_group is None else f"a group gives at most {per_group:,}, and "
        raise ValueError(
            f"{k:,} rows are asked for, but only {len(chosen):,} can be chosen: of {len(rows):,}, "
            f"{len(kept):,} pass the filters, {limit}no two may be more alike than {cap:g}"
        )
    return [kept[i] for i in chosen]


def farthest_in_turns(texts, groups, k, per_group=None, cap=CAP):
    """Numbers of at most k texts: groups take turns, each gives the text least like all chosen.

    Equal to looking at all pairs, but of each text only its likeness to the nearest chosen one is
    kept, so that a choice costs a look at the texts that share a piece. Of equals, the first is
    chosen.
    """
    vectors = tfidf([normalised(text) for text in texts])
    having = by_column(vectors, np.ones(len(vectors.columns), dtype=bool))
    nearest = np.zeros(len(texts))  # cosine of each text with the nearest that is chosen
    left = {}  # group -> numbers of its texts that can still be chosen
    for i, group in enumerate(groups):
        left.setdefault(group, []).append(i)
    left = {group: np.array(numbers) for group, numbers in left.items()}
    most = dict.fromkeys(left, len(texts) if per_group is None else per_group)
    chosen = []
    while left and len(chosen) < k:
        for group, numbers in list(left.items()):
            if len(chosen) == k:
                break
            at = nearest[numbers].argmin() if len(numbers) and most[group] else None
            if at is None or nearest[numbers[at]] > cap:
                del left[group]
                continue
            chosen.append(int(numbers[at]))
            left[group], most[group] = np.delete(numbers, at), most[group] - 1
            likeness = np.zeros(len(texts))
            for column, value in zip(*vectors.row(chosen[-1]), strict=True):
                others, theirs = having(column)  # each at most once
                likeness[others] += value * theirs
            nearest = np.maximum(nearest, likeness.round(DIGITS))
    return chosen


# --- near duplicates ----------------------------------------------------------------------------
def without_near_duplicates(rows, key, threshold=0.9):
    """The rows whose `key` isn't nearly that of an earlier row; empty values are like no other.

    Repeated until nothing is found: with rows gone, what is left counts as rarer or more common,
    and may be more alike than before. So doing it twice changes nothing. ValueError if no row has
    the key, or if its value is no text.
    """
    rows = list(rows)
    if rows and not any(key in row for row in rows):
        found = ", ".join(map(repr, rows[0])) or "none"
        raise ValueError(f"no row has the key {key!r}; keys of the first: {found}")
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(key) or "", str):
            raise ValueError(f"row {number}: {key!r} must be text, but is {row[key]!r}")
    while True:
        # in reverse order, so that "one pair for each" is one for each that has an earlier one
        texts = [row.get(key) or "" for row in reversed(rows)]
        pairs = find_near_duplicates(texts, threshold, one_each=True)
        later = {len(rows) - 1 - i for i, _, _ in pairs}
        if not later:
            return rows
        rows = [row for i, row in enumerate(rows) if i not in later]


def _enough(rows, k):
    if _checked(k) > len(rows):
        raise ValueError(f"{k:,} rows are asked for, but there are {len(rows):,}")
    return rows


def _checked(k):
    if type(k) is not int or k < 1:
        raise ValueError(f"{k!r} rows are asked for, but it must be a number from 1 on")
    return k


def _shuffled(rows, seed):
    """In an order that follows from the rows and the seed, not from the order that they had."""
    rows = sorted(rows, key=_key)
    random.Random(seed).shuffle(rows)
    return rows


def _key(row):
    return json.dumps(row, sort_keys=True)
