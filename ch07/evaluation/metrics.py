"""Answers against references: exact match, token F1, ROUGE-L, each with its uncertainty.

The one idea: a share measured on n answers is an estimate, so it never goes without n and a 95 %
interval. Knows nothing of models: it sees text only.
"""

import math
import re
from collections import Counter, defaultdict

Z95 = 1.959964  # normal quantile of a two-sided 95 % interval
_WORD = r"[\u3040-\u30ff\u3400-\u9fff]|[^\W_\u3040-\u30ff\u3400-\u9fff]+"


def words(text, unicode=True):
    """Lower-case runs of letters and digits; each Chinese or Japanese character by itself.

    Without `unicode` only a to z and 0 to 9, as the package rouge-score and the papers that use it
    have it: a text in another script has no words at all.

    >>> words("B4 the 猫!"), words("B4 the 猫!", unicode=False)
    (['b4', 'the', '猫'], ['b4', 'the'])
    """
    pattern = _WORD if unicode else "[a-z0-9]+"
    return re.findall(pattern, text.lower())


def exact_match(answer, reference):
    """1.0 if both are the same text, outer white space apart; else 0.0."""
    return float(answer.strip() == reference.strip())


def token_f1(answer, reference):
    """Harmonic mean of precision and recall over words, order ignored.

    As in SQuAD (Rajpurkar et al. 2016, section 6.1), but articles count.

    >>> round(token_f1("the red cat", "the cat"), 3)
    0.8
    """
    a, b = words(answer), words(reference)
    if not a and not b:  # an answer of signs alone
        return exact_match(answer, reference)
    return f1_of(sum((Counter(a) & Counter(b)).values()), len(a), len(b))


def rouge_l(answer, reference):
    """F1 over the longest common subsequence of words (Lin 2004, section 3.1).

    Words are found by Unicode letter, so that Chinese or accented text counts too.

    >>> round(rouge_l("police killed the gunman", "the gunman killed police"), 3)
    0.5
    """
    a, b = words(answer), words(reference)
    if not a and not b:
        return exact_match(answer, reference)
    return f1_of(lcs_length(a, b), len(a), len(b))


def lcs_length(a, b):
    """How many items the longest common subsequence of two lists has.

    One bit for each place of `a`, and one addition for each item of `b` that moves all of them
    (Allison and Dix 1986; the form of Hyyro 2004): a zero bit stands where the length grows.

    >>> lcs_length("police killed the gunman".split(), "the gunman killed police".split())
    2
    """
    places = {}
    for i, item in enumerate(a):
        places[item] = places.get(item, 0) | 1 << i
    row = everywhere = (1 << len(a)) - 1
    for item in b:
        here = row & places.get(item, 0)
        row = (row + here | row - here) & everywhere
    return len(a) - row.bit_count()


def f1_of(common, n_a, n_b):
    """Harmonic mean of the share of `n_a` and that of `n_b` items that are common to both."""
    if common == 0:
        return 0.0
    precision, recall = common / n_a, common / n_b
    return 2 * precision * recall / (precision + recall)


def wilson_interval(successes, n):
    """95 % interval of a share of n yes-or-no outcomes (Wilson 1927).

    >>> [round(x, 3) for x in wilson_interval(98, 100)]
    [0.93, 0.994]
    """
    p, z2 = successes / n, Z95**2
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return [max(0.0, centre - half), min(1.0, centre + half)]


def mean_interval(values):
    """95 % interval of a mean of values between 0 and 1: normal approximation, so too narrow
    where few values differ; [0, 1] for a single value.
    """
    if len(values) < 2:
        return [0.0, 1.0]
    n, mean = len(values), sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (n - 1)
    half = Z95 * math.sqrt(variance / n)
    return [max(0.0, mean - half), min(1.0, mean + half)]


def score_answers(entries, answers, stopped):
    """Scores as a dict: n and how many answers are empty, each rate with its interval, then the
    same per family.

    `stopped[i]` says whether answer i ended by itself (end-of-text) rather than at a limit.
    """
    if not entries:
        raise ValueError("nothing to score: no entry is held out")
    scores = _scores(entries, answers, stopped)
    rows = defaultdict(list)
    for i, entry in enumerate(entries):
        if "family" in entry:
            rows[entry["family"]].append(i)
    scores["families"] = {
        family: _scores(
            *([column[i] for i in rows[family]] for column in (entries, answers, stopped))
        )
        for family in sorted(rows)
    }
    return scores


def _scores(entries, answers, stopped):
    pairs = [(answer, entry["output"]) for entry, answer in zip(entries, answers, strict=True)]
    exact = [exact_match(*pair) for pair in pairs]
    n, stops = len(pairs), [float(s) for s in stopped]
    result = {"n": n, "empty": sum(not answer.strip() for answer, _ in pairs)}
    for name, values in (("exact_match", exact), ("stopped", stops)):
        result[name] = sum(values) / n
        result[f"{name}_interval"] = wilson_interval(sum(values), n)
    for name, function in (("token_f1", token_f1), ("rouge_l", rouge_l)):
        values = [function(*pair) for pair in pairs]
        result[name] = sum(values) / n
        result[f"{name}_interval"] = mean_interval(values)
    return result
