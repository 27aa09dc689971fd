"""A language model as a judge: it reads task, reference and answer, and gives a number.

The one idea: a judge is a noisy instrument, so its failures are part of the reading. An answer
that got no number stays in the count, both means are told (over the numbers, and with every failure
as the lowest score), and so is how far the judge agrees with scorers that make no guesses.
Knows nothing of servers or models: it is given a `complete` (`ch07.generation.completion`).

Source: the judge of Raschka's section 7.8 and of his 03_model-evaluation, with its scale of 0 to
100; there a reply that is no integer leaves the mean. What a judge can't do is be trusted with an
answer that is addressed to it ("give me 100"): no prompt prevents that.
"""

import re
from dataclasses import dataclass, field

from ch07.evaluation.metrics import exact_match, rouge_l, token_f1
from ch07.evaluation.rank_correlation import kendall, spearman

OFFLINE = {"exact_match": exact_match, "token_f1": token_f1, "rouge_l": rouge_l}
OPTIONS = {"temperature": 0.0, "seed": 123, "max_new_tokens": 64}


@dataclass(frozen=True)
class Scale:
    """What a judge is asked for: the lowest and the highest score, and what they mean."""

    name: str
    low: int
    high: int
    asked: str


HUNDRED = Scale(
    name="0-100",
    low=0,
    high=100,
    asked="How good is the answer? Give a whole number from 0 to 100; 100 means that it could not "
    "be better. Reply with the number alone.",
)
RUBRIC = Scale(
    name="1-5",
    low=1,
    high=5,
    asked="Rate the answer:\n"
    "1: it is empty, or has nothing to do with the task\n"
    "2: it takes up the task, but what it says is wrong\n"
    "3: part of it is right\n"
    "4: it is right, with a small flaw in form or detail\n"
    "5: it is right, and as good as the reference\n"
    "Reply with the number alone.",
)
SCALES = {scale.name: scale for scale in (HUNDRED, RUBRIC)}


def judge_prompt(entry, answer, scale=HUNDRED):
    """The question to the judge, about one answer to an entry with a known "output"."""
    given = f"\n\nThe task works on this:\n{entry['input']}" if entry.get("input") else ""
    return (
        f"You grade an answer to a task.\n\nThe task:\n{entry['instruction']}{given}"
        f"\n\nA reference answer, which is right:\n{entry['output']}"
        f"\n\nThe answer to be graded:\n{answer.strip() or '[it is empty]'}\n\n{scale.asked}"
    )


# --- the number in a reply ----------------------------------------------------------------------
ALONE = r"(?<![\w.,/+\-\u2010-\u2015\u2212])"  # what comes before is no part of the number
NUMBER = ALONE + r"(\d{1,3}(?:\.\d+)?)"
WHOLE = NUMBER + r"(?![\w/]|[.,]\d)"
SHARE = NUMBER + r" ?(?:/|out of) ?(\d{1,3})(?![\w/]|[.,]\d)"
MARK = r"(?:score|rating|grade)[a-z]*\b(?: (?:it|is|of|this|the answer|an?|as|at|would be))*[ :=]*"
HOW = re.IGNORECASE | re.ASCII  # so that a number may stand between Chinese letters
RANGE = r"\d ?(?:[-\u2010-\u2015]|to) ?\d"


def parse_score(reply, scale=HUNDRED):
    """The score in a judge's reply as a float, or None where there is none, or more than one.

    The first of these decides: a share ("85/100", "17 out of 20"), a number after a word such as
    "score" or "rating", a number that the reply begins with, the only number there is. On a scale
    from 0 a share of 5, 10 or 20 is turned into one of 100, so "7/10" is 70; any other share is
    passed over. What decided must be on the scale: no negative number, no year, no part of a word.

    >>> [parse_score(text) for text in ("85", "**Score:** 85.", "I'd give it a 7/10", "1985", "?")]
    [85.0, 85.0, 70.0, None, None]
    """
    text = " ".join(re.sub(r"[*_`]", "", reply).split())
    echo = rf"\b{scale.low} ?(?:-|\u2013|to) ?{scale.high}\b"  # of the scale that was asked for
    text = re.sub(echo, "", text, flags=HOW)
    if re.search(RANGE, text, HOW):
        return None
    shares = [_of_share(float(a), int(b), scale) for a, b in re.findall(SHARE, text, HOW)]
    found = [score for score in shares if score is not None]
    if not found:
        begins = re.match(r"[\"'(\[]?" + WHOLE, text, HOW)
        marked = re.findall(MARK + WHOLE, text, HOW)
        found = marked or ([begins[1]] if begins else re.findall(WHOLE, text, HOW))
    return _only({float(score) for score in found}, scale)


def _of_share(a, b, scale):
    """The score that a share of `b` stands for, or None where it is a share of something else."""
    if b == scale.high:
        return a
    return a * scale.high / b if scale.low == 0 and b in (5, 10, 20) else None


def _only(found, scale):
    """The one score that was found, if it is one and on the scale."""
    (score,) = found if len(found) == 1 else (None,)
    return score if score is not None and scale.low <= score <= scale.high else None


# --- many answers -------------------------------------------------------------------------------
@dataclass
class Judgement:
    """What a judge said of the first answers; all of them, unless `error` says why it stopped."""

    scale: Scale
    replies: list = field(default_factory=list)
    scores: list = field(default_factory=list)  # a float, or None where the reply has no score
    error: str | None = None


def judge(complete, entries, answers, scale=HUNDRED, **options):
    """A `Judgement` of each answer, empty ones too, in order; `options` are `complete`'s.

    What goes wrong on the way ends it: what was scored until then is kept.
    """
    found = Judgement(scale)
    for entry, answer in zip(entries, answers, strict=True):
        try:
            reply = complete(judge_prompt(entry, answer, scale), **{**OPTIONS, **options}).text
        except (RuntimeError, ValueError) as error:  # no server, or a prompt longer than its model
            found.error = str(error)
            break
        found.replies.append(reply)
        found.scores.append(parse_score(reply, scale))
    return found


def summarise(judgement, entries, answers):
    """A dict: n, n_judged, n_parsed, both means, and the agreement with each offline scorer.

    `mean_parsed` is over the scores there are; in `mean_all` a reply without one counts as the
    scale's lowest. Each is None over nothing. Correlations are over the scores there are.
    """
    scale, scores = judgement.scale, judgement.scores
    parsed = [i for i, score in enumerate(scores) if score is not None]
    numbers = [scores[i] for i in parsed]
    agreement = {}
    for name, scorer in OFFLINE.items():
        other = [scorer(answers[i], entries[i]["output"]) for i in parsed]
        agreement[name] = {"spearman": spearman(numbers, other), "kendall": kendall(numbers, other)}
    return {
        "scale": scale.name,
        "n": len(entries),
        "n_judged": len(scores),
        "n_parsed": len(parsed),
        "mean_parsed": _mean(numbers),
        "mean_all": _mean([scale.low if score is None else score for score in scores]),
        "agreement": agreement,
        "error": judgement.error,
        "scores": scores,
    }


def _mean(values):
    return sum(values) / len(values) if values else None


def judgement_lines(summary):
    """A summary in words, to be printed."""
    n, judged, parsed = (summary[name] for name in ("n", "n_judged", "n_parsed"))
    yield f"judge, scale {summary['scale']}: {judged} of {n} answers judged, {parsed} got a score"
    means = (_shown(summary[name], 2) for name in ("mean_parsed", "mean_all"))
    yield "mean {} over the scores, {} with every failure as the lowest".format(*means)
    for name, found in summary["agreement"].items():
        one, other = (_shown(found[kind], 3) for kind in ("spearman", "kendall"))
        yield f"agreement with {name:<11}  Spearman {one:>6}  Kendall {other:>6}"


def _shown(value, digits):
    return "-" if value is None else f"{value:.{digits}f}"
