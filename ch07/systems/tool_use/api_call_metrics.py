"""Answers that should be API calls: how many are right, wrong, invented, or no call at all?

The one idea: the right call and the right domain are two questions. Gorilla's "accuracy" is the
second (the call exists, and serves the kind of task that was asked for), so both stand side by
side here, each with its interval. Knows nothing of models or files. Source: the evaluator of
Gorilla, `eval/eval-scripts/ast_eval_*.py` (Patil et al. 2023, arXiv 2305.15334).
"""

from collections import Counter

from ch07.evaluation.metrics import wilson_interval
from ch07.systems.tool_use.api_call_matching import (
    OUTCOMES,
    find_api,
    find_by_substring,
    match_api_call,
    parse_api_call,
)

SHARES = ("identity", "domain", "hallucination", "unparsable")


def score_api_calls(answers, golds, catalogue):
    """Counts of the four outcomes, and shares with 95 % intervals, as a dict.

    `answers` are texts, `golds` the right calls as text. "identity" is the share that is the right
    call, "domain" the share in the right domain, the right call included; "substring_rule" counts
    what the original's rule would have said. ValueError for no answer, and for a gold that is no
    call of the catalogue's.
    """
    if not answers:
        raise ValueError("there is no answer to score")
    calls, wanted = [parse_api_call(text) for text in answers], [_gold(text) for text in golds]
    pairs = list(zip(calls, wanted, strict=True))
    counts = Counter(match_api_call(call, gold, catalogue) for call, gold in pairs)
    scores = {"n": len(pairs), "outcomes": {outcome: counts[outcome] for outcome in OUTCOMES}}
    counts["identity"] = counts["correct"]
    counts["domain"] = _in_the_right_domain(pairs, catalogue, find_api)
    for name in SHARES:
        scores[name] = counts[name] / len(pairs)
        scores[f"{name}_interval"] = wilson_interval(counts[name], len(pairs))
    unknown = sum(call is not None and not find_by_substring(call, catalogue) for call in calls)
    scores["substring_rule"] = {
        "correct": _in_the_right_domain(pairs, catalogue, find_by_substring),
        "hallucination": unknown,
    }
    return scores


def _in_the_right_domain(pairs, catalogue, find):
    """How many calls are, as `find` finds them, in the domain of the right one."""
    found = [
        (find(call, catalogue), find_api(gold, catalogue))
        for call, gold in pairs
        if call is not None
    ]
    return sum(api is not None and api.domain == wanted.domain for api, wanted in found)


def _gold(text):
    call = parse_api_call(text)
    if call is None:
        raise ValueError(f"the right answer {text[:60]!r} is no call")
    return call
