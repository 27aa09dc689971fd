"""Metrics of answers that should be API calls: how many are right, wrong, made up, or no call?

The one idea: the right call and the right domain are two questions. Gorilla's "accuracy" is the
second (the call exists, and serves the right kind of task), so both are reported here, each with
its interval. Knows nothing of models or files.

Source: the evaluator of Gorilla, `eval/eval-scripts/ast_eval_*.py` (Patil et al. 2023, arXiv
2305.15334). On purpose, every answer has one of four outcomes here, so that their shares add up
to 1. The original counts two, correct and hallucination. An answer that is no call is a
hallucination in its scripts for HuggingFace and TensorFlow Hub, and neither in that for TorchHub.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from ch07.evaluation.metrics import wilson_interval
from ch07.systems.tool_use.api_call_matching import (
    OUTCOMES,
    Api,
    ApiCall,
    find_api,
    find_by_substring,
    match_api_call,
    parse_api_call,
)
from ch07.utils.errors import InputError

SHARES = ("identity", "domain", "hallucination", "unparsable")


def score_api_calls(
    answers: Sequence[str], golds: Sequence[str], catalogue: Sequence[Api]
) -> dict[str, Any]:
    """Counts of the four outcomes, and shares with 95 % intervals, as a dict.

    `answers` are texts, `golds` the right calls as text. "identity" is the share of right calls,
    "domain" the share of calls in the right domain, right calls included. "substring_rule" has the
    counts by the original's rule: its "correct" means the right domain, and an answer without a
    call is in neither count. ValueError if there are no answers, and for a gold call that is
    not in the catalogue.
    """
    if not answers:
        raise InputError("there is no answer to score")
    calls = [parse_api_call(text) for text in answers]
    gold_calls = [_parse_gold(text) for text in golds]
    pairs = list(zip(calls, gold_calls, strict=True))
    counts = Counter(match_api_call(call, gold, catalogue) for call, gold in pairs)
    scores: dict[str, Any] = {
        "n": len(pairs),
        "outcomes": {outcome: counts[outcome] for outcome in OUTCOMES},
    }
    counts["identity"] = counts["correct"]
    counts["domain"] = _count_right_domain(pairs, catalogue, find_api)
    for name in SHARES:
        scores[name] = counts[name] / len(pairs)
        scores[f"{name}_interval"] = wilson_interval(counts[name], len(pairs))
    scores["substring_rule"] = {
        "correct": _count_right_domain(pairs, catalogue, find_by_substring),
        "hallucination": sum(
            call is not None and find_by_substring(call, catalogue) is None for call in calls
        ),
    }
    return scores


def _count_right_domain(
    pairs: Sequence[tuple[ApiCall | None, ApiCall]],
    catalogue: Sequence[Api],
    find: Callable[[ApiCall, Sequence[Api]], Api | None],
) -> int:
    """How many calls `find` assigns to an entry in the domain of the gold call."""
    n = 0
    for call, gold in pairs:
        found = None if call is None else find(call, catalogue)
        expected = find_api(gold, catalogue)
        if found is not None and expected is not None and found.domain == expected.domain:
            n += 1
    return n


def _parse_gold(text: str) -> ApiCall:
    call = parse_api_call(text)
    if call is None:
        raise InputError(f"the right answer {text[:60]!r} is not a call")
    return call
