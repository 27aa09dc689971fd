"""LLM-as-a-judge: a language model reads task, reference and answer, and gives a score.

The one idea: a judge is a noisy instrument, so its failures are part of the result. An answer
without a score stays in the count, and two means are reported: over the scores, and with every
failure counted as the lowest score. The report also has the judge's rank correlation with
deterministic metrics. Knows nothing of servers or models: it takes a `complete`
(`ch07.generation.completion`).

Source: the judge of Raschka's section 7.8 and of his 03_model-evaluation, with its scale of 0 to
100; there a reply that is not an integer is left out of the mean. No judge can be trusted with an
answer that is addressed to it ("give me 100"): no prompt prevents that.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ch07.evaluation.metrics import exact_match, rouge_l, token_f1
from ch07.evaluation.rank_correlation import kendall, spearman
from ch07.generation.completion import Completion
from ch07.generation.thoughts import drop_thoughts
from ch07.utils.errors import UserError

METRICS = {"exact_match": exact_match, "token_f1": token_f1, "rouge_l": rouge_l}
# A model that reasons thinks before it writes the number; others end after it.
DEFAULT_OPTIONS = {"temperature": 0.0, "seed": 123, "max_new_tokens": 1024}


@dataclass(frozen=True)
class Scale:
    """A scale of scores: the lowest, the highest, and how the judge is asked to use it."""

    name: str
    low: int
    high: int
    question: str


HUNDRED = Scale(
    name="0-100",
    low=0,
    high=100,
    question="How good is the answer? Give a whole number from 0 to 100; 100 means that it could "
    "not be better. Reply with the number alone.",
)
RUBRIC = Scale(
    name="1-5",
    low=1,
    high=5,
    question="Rate the answer:\n"
    "1: it is empty, or has nothing to do with the task\n"
    "2: it takes up the task, but what it says is wrong\n"
    "3: part of it is right\n"
    "4: it is right, with a small flaw in form or detail\n"
    "5: it is right, and as good as the reference\n"
    "Reply with the number alone.",
)
SCALES = {scale.name: scale for scale in (HUNDRED, RUBRIC)}


def judge_prompt(entry: dict[str, Any], answer: str, scale: Scale = HUNDRED) -> str:
    """The prompt for the judge, about one answer to an entry with a reference "output"."""
    input_text = f"\n\nThe task works on this:\n{entry['input']}" if entry.get("input") else ""
    return (
        f"You grade an answer to a task.{_said_before(entry)}"
        f"\n\nThe task:\n{entry['instruction']}{input_text}"
        f"\n\nA reference answer, which is right:\n{entry['output']}"
        f"\n\nThe answer to be graded:\n{answer.strip() or '[it is empty]'}\n\n{scale.question}"
    )


def _said_before(entry: dict[str, Any]) -> str:
    """The conversation that the task continues, if it continues one."""
    lines = [f"System: {entry['system']}"] if entry.get("system") else []
    for turn in entry.get("history", ()):
        lines += [f"User: {turn['instruction']}", f"Assistant: {turn['output']}"]
    return "\n\nWhat was said before:\n" + "\n".join(lines) if lines else ""


# --- the number in a reply ----------------------------------------------------------------------
NUMBER_START = r"(?<![\w.,/+\-\u2010-\u2015\u2212])"  # nothing before belongs to the number
NUMBER_END = r"(?![\w/]|[.,]\d)"
NUMBER = NUMBER_START + r"(\d{1,3}(?:\.\d+)?)"
WHOLE_NUMBER = NUMBER + NUMBER_END
FRACTION = NUMBER + r" ?(?:/|out of) ?(\d{1,3})" + NUMBER_END
# A whole run of letters with such a word in it. The match begins where the run begins: from each
# "score" in "scorescorescore..." the search would go through the rest of the run again.
SCORE_WORD = (
    r"(?<![a-z])(?=[a-z]*?(?:score|rating|grade))[a-z]+\b"
    r"(?: (?:it|is|of|this|the answer|an?|as|at|would be))*[ :=]*"
)
REGEX_FLAGS = re.IGNORECASE | re.ASCII  # ASCII: a number may stand between Chinese characters
NUMBER_RANGE = r"\d ?(?:[-\u2010-\u2015]|to) ?\d"


def parse_score(reply: str, scale: Scale = HUNDRED) -> float | None:
    """The score in a judge's reply, or None if there is none or more than one.

    The first match decides: a fraction ("85/100", "17 out of 20"), a number after a word such as
    "score" or "rating", a number at the start of the reply, the only number in it. On a scale from
    0, a fraction of 5, 10 or 20 is converted, so "7/10" is 70; other fractions are ignored. The
    score must be on the scale: no negative number, no year, no part of a word. What a reasoning
    model thought before its reply doesn't count.

    >>> [parse_score(text) for text in ("85", "**Score:** 85.", "I'd give it a 7/10", "1985", "?")]
    [85.0, 85.0, 70.0, None, None]
    """
    text = " ".join(re.sub(r"[*_`]", "", drop_thoughts(reply)).split())
    scale_range = rf"\b{scale.low} ?(?:-|\u2013|to) ?{scale.high}\b"  # the judge may repeat it
    text = re.sub(scale_range, "", text, flags=REGEX_FLAGS)
    if re.search(NUMBER_RANGE, text, REGEX_FLAGS):
        return None
    scores = {float(score) for score in _candidate_scores(text, scale)}
    if len(scores) != 1:
        return None
    (score,) = scores
    return score if scale.low <= score <= scale.high else None


def _candidate_scores(text: str, scale: Scale) -> Sequence[float | str]:
    """All numbers of the first kind that occurs in the text, in the order of `parse_score`."""
    scores = []
    for numerator, denominator in re.findall(FRACTION, text, REGEX_FLAGS):
        score = _score_of_fraction(float(numerator), int(denominator), scale)
        if score is not None:
            scores.append(score)
    if scores:
        return scores
    after_score_word = re.findall(SCORE_WORD + WHOLE_NUMBER, text, REGEX_FLAGS)
    if after_score_word:
        return after_score_word
    at_start = re.match(r"[\"'(\[]?" + WHOLE_NUMBER, text, REGEX_FLAGS)
    if at_start:
        return [at_start[1]]
    return re.findall(WHOLE_NUMBER, text, REGEX_FLAGS)


def _score_of_fraction(numerator: float, denominator: int, scale: Scale) -> float | None:
    """The score that a fraction stands for, or None if it does not refer to the scale."""
    if denominator == scale.high:
        return numerator
    if scale.low == 0 and denominator in (5, 10, 20):
        return numerator * scale.high / denominator
    return None


# --- many answers -------------------------------------------------------------------------------
@dataclass
class Judgement:
    """The judge's replies and scores, one per answer, in order; fewer if an `error` ended it."""

    scale: Scale
    replies: list[str] = field(default_factory=list)
    scores: list[float | None] = field(default_factory=list)  # None: the reply has no score
    n_cut: int = 0  # replies without a score that reached the limit of tokens
    error: str | None = None


def judge(
    complete: Callable[..., Completion],
    entries: Iterable[dict[str, Any]],
    answers: Iterable[str],
    scale: Scale = HUNDRED,
    **options: Any,
) -> Judgement:
    """The `Judgement` of all answers, empty ones included; `options` are those of `complete`.

    An error of the server ends the judging; the scores so far are kept.
    """
    judgement = Judgement(scale)
    for entry, answer in zip(entries, answers, strict=True):
        try:
            completion = complete(
                judge_prompt(entry, answer, scale), **{**DEFAULT_OPTIONS, **options}
            )
        except UserError as error:  # no server, or too long a prompt
            judgement.error = str(error)
            break
        score = parse_score(completion.text, scale)
        if score is None and completion.finish_reason == "length":
            judgement.n_cut += 1
        judgement.replies.append(completion.text)
        judgement.scores.append(score)
    return judgement


def summarise(
    judgement: Judgement, entries: Sequence[dict[str, Any]], answers: Sequence[str]
) -> dict[str, Any]:
    """A dict: n, n_judged, n_parsed, both means, and the rank correlation with each metric.

    `mean_parsed` is the mean of the scores; `mean_all` also counts each reply without a score as
    the lowest score. A mean is None if there is nothing to average. Correlations use the scores.
    """
    scale = judgement.scale
    scores = judgement.scores
    parsed = [i for i, score in enumerate(scores) if score is not None]
    numbers = [score for score in scores if score is not None]
    agreement = {}
    for name, metric in METRICS.items():
        values = [metric(answers[i], entries[i]["output"]) for i in parsed]
        agreement[name] = {
            "spearman": spearman(numbers, values),
            "kendall": kendall(numbers, values),
        }
    return {
        "scale": scale.name,
        "n": len(entries),
        "n_judged": len(scores),
        "n_parsed": len(parsed),
        "n_cut": judgement.n_cut,
        "mean_parsed": _mean(numbers),
        "mean_all": _mean([scale.low if score is None else score for score in scores]),
        "agreement": agreement,
        "error": judgement.error,
        "scores": scores,
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def judgement_lines(summary: dict[str, Any]) -> Iterator[str]:
    """The lines of a summary, to be printed."""
    yield (
        f"judge, scale {summary['scale']}: {summary['n_judged']} of {summary['n']} answers judged, "
        f"{summary['n_parsed']} scored"
    )
    if summary["n_cut"]:
        yield f"replies that reached the limit of tokens without a score: {summary['n_cut']}"
    mean_parsed = _format(summary["mean_parsed"], 2)
    mean_all = _format(summary["mean_all"], 2)
    yield f"mean score {mean_parsed}; {mean_all} if every failure counts as the lowest score"
    for name, correlations in summary["agreement"].items():
        spearman_text = _format(correlations["spearman"], 3)
        kendall_text = _format(correlations["kendall"], 3)
        yield f"correlation with {name:<11}  Spearman {spearman_text:>6}  Kendall {kendall_text:>6}"


def _format(value: float | None, decimals: int) -> str:
    return "-" if value is None else f"{value:.{decimals}f}"
