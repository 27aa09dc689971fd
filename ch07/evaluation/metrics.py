"""Metrics of answers against references: exact match, token F1 and ROUGE-L, with intervals.

The one idea: a share measured on n answers is an estimate, so it is always reported with n and a
95 % interval. Knows nothing of models: it only sees text.
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence
from typing import Any

import regex

from ch07.utils.errors import InputError
from ch07.utils.unicode_text import compose, fold_case

Z95 = 1.959964  # normal quantile of a two-sided 95 % interval
# Of a word: letters, digits, the marks that belong to a letter (as the vowels of Hindi do), and the
# invisible joiners between letters. Python's own `re` doesn't know marks.
_CHINESE_OR_JAPANESE = r"[\u3040-\u30ff\u3400-\u9fff]"
_OTHERS = r"[\p{L}\p{N}\p{M}\u200c\u200d--\u3040-\u30ff\u3400-\u9fff]"
# Signs that make another word of it: the minus of a number, and the ends of "C++" and "C#".
_MINUS = rf"(?<!{_OTHERS}|{_CHINESE_OR_JAPANESE})[-\u2212](?=\p{{N}})"
_SIGNS = rf"(?:\+\+|#)(?!{_OTHERS})"
_WORD = regex.compile(
    rf"{_CHINESE_OR_JAPANESE}\p{{M}}*|(?:{_MINUS})?{_OTHERS}+(?:{_SIGNS})?", regex.VERSION1
)
_ASCII_WORD = re.compile("[a-z0-9]+")


def words(text: str, unicode: bool = True) -> list[str]:
    """Runs of letters and digits without letter case; each Chinese or Japanese character is a word.

    A letter keeps its marks, and may be encoded in any way. A number keeps its minus, and the names
    "C++" and "C#" keep their signs. Without `unicode` only a to z and
    0 to 9 count, as in the package rouge-score and the papers that use it: a text in another script
    has no words at all.

    >>> words("B4 the 猫!"), words("B4 the 猫!", unicode=False)
    (['b4', 'the', '猫'], ['b4', 'the'])
    >>> words("C++ is not C#; 5-3 is not -3."), words("C++ and -3", unicode=False)
    (['c++', 'is', 'not', 'c#', '5', '3', 'is', 'not', '-3'], ['c', 'and', '3'])
    """
    if not unicode:
        return _ASCII_WORD.findall(text.lower())
    return [word.replace("\u2212", "-") for word in _WORD.findall(fold_case(text))]


def exact_match(answer: str, reference: str) -> float:
    """1.0 if both texts are equal, ignoring white space at their ends; else 0.0.

    Accented letters may be encoded in any way.
    """
    return float(compose(answer.strip()) == compose(reference.strip()))


def token_f1(answer: str, reference: str) -> float:
    """Harmonic mean of precision and recall over words, ignoring their order.

    As in SQuAD (Rajpurkar et al. 2016, section 6.1), but articles count.

    >>> round(token_f1("the red cat", "the cat"), 3)
    0.8
    """
    a = words(answer)
    b = words(reference)
    if not a and not b:  # both consist of punctuation
        return exact_match(answer, reference)
    return f1_from_counts(sum((Counter(a) & Counter(b)).values()), len(a), len(b))


def rouge_l(answer: str, reference: str) -> float:
    """F1 over the longest common subsequence of words (Lin 2004, section 3.1).

    Words may be of any script, so that Chinese or accented text counts, too.

    >>> round(rouge_l("police killed the gunman", "the gunman killed police"), 3)
    0.5
    """
    a = words(answer)
    b = words(reference)
    if not a and not b:
        return exact_match(answer, reference)
    return f1_from_counts(lcs_length(a, b), len(a), len(b))


def lcs_length(a: Sequence[Hashable], b: Sequence[Hashable]) -> int:
    """The length of the longest common subsequence of two sequences.

    Bit-parallel: one bit per position in `a`, and one addition per item of `b` that updates all of
    them (Allison and Dix 1986; in the form of Hyyro 2004). A zero bit marks where the length grows.

    >>> lcs_length("police killed the gunman".split(), "the gunman killed police".split())
    2
    """
    positions: dict[Hashable, int] = {}  # item -> bitmask of its positions in `a`
    for i, item in enumerate(a):
        positions[item] = positions.get(item, 0) | 1 << i
    all_bits = (1 << len(a)) - 1
    mask = all_bits
    for item in b:
        matches = mask & positions.get(item, 0)
        mask = (mask + matches | mask - matches) & all_bits
    return len(a) - mask.bit_count()


def f1_from_counts(common: int, n_a: int, n_b: int) -> float:
    """F1 of two collections of `n_a` and `n_b` items, of which `common` occur in both."""
    if common == 0:
        return 0.0
    precision = common / n_a
    recall = common / n_b
    return 2 * precision * recall / (precision + recall)


def wilson_interval(successes: float, n: int) -> list[float]:
    """95 % interval of a share of n yes-or-no outcomes (Wilson 1927).

    >>> [round(x, 3) for x in wilson_interval(98, 100)]
    [0.93, 0.994]
    """
    p = successes / n
    z2 = Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half_width = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return [max(0.0, centre - half_width), min(1.0, centre + half_width)]


def mean_interval(values: Sequence[float]) -> list[float]:
    """95 % interval of a mean of values between 0 and 1; [0, 1] for a single value.

    A normal approximation, so the interval is too narrow if few values differ.
    """
    if len(values) < 2:
        return [0.0, 1.0]
    n = len(values)
    mean = sum(values) / n
    variance = sum((value - mean) ** 2 for value in values) / (n - 1)
    half_width = Z95 * math.sqrt(variance / n)
    return [max(0.0, mean - half_width), min(1.0, mean + half_width)]


def score_answers(
    entries: Sequence[dict[str, Any]], answers: Sequence[str], stopped: Sequence[bool]
) -> dict[str, Any]:
    """Scores as a dict: n, the number of empty answers, rates with intervals; also by family.

    `stopped[i]` says whether answer i ended with an end-of-text token rather than at a limit.
    """
    if not entries:
        raise InputError("nothing to score: there are no held-out entries")
    scores = _scores(entries, answers, stopped)
    indices: dict[str, list[int]] = defaultdict(list)
    for i, entry in enumerate(entries):
        if "family" in entry:
            indices[entry["family"]].append(i)
    scores["families"] = {}
    for family in sorted(indices):
        scores["families"][family] = _scores(
            [entries[i] for i in indices[family]],
            [answers[i] for i in indices[family]],
            [stopped[i] for i in indices[family]],
        )
    return scores


def _scores(
    entries: Sequence[dict[str, Any]], answers: Sequence[str], stopped: Sequence[bool]
) -> dict[str, Any]:
    pairs = [(answer, entry["output"]) for entry, answer in zip(entries, answers, strict=True)]
    n = len(pairs)
    result: dict[str, Any] = {"n": n, "empty": sum(not answer.strip() for answer in answers)}
    exact = [exact_match(*pair) for pair in pairs]
    for name, values in (("exact_match", exact), ("stopped", [float(end) for end in stopped])):
        result[name] = sum(values) / n
        result[f"{name}_interval"] = wilson_interval(sum(values), n)
    for name, metric in (("token_f1", token_f1), ("rouge_l", rouge_l)):
        values = [metric(*pair) for pair in pairs]
        result[name] = sum(values) / n
        result[f"{name}_interval"] = mean_interval(values)
    return result
