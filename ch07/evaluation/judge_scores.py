"""A judge's scale, and the score in its reply.

The one idea: a reply is read by the first of these forms that occurs in it. Where a form occurs
twice with different scores, the reply has none: no score is better than an invented one.

    form                                             example (scale 0 to 100)           score
    an overall statement                             Style score: 60. Final score: 75   75
    a statement: score, rating, grade and a number   Score: 85. It names 3/5 rivers.    85
    a number at the start of a line, then no words   85 - it names 2 of 3 rivers        85
    a fraction of 100, or of 5, 10 or 20             I'd give it a 7/10                 70
    the only number                                  GPT-4 would say 85                 85

A number is one that stands alone, from 0 to 999: no year, no list number with text before it, no
part of a word, nothing negative. A statement or line with a range ("80-90", "4 or 5"), or with a
fraction of another number ("3/4"), has no score, and a score must be on the scale.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from ch07.generation.thoughts import drop_thoughts


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

# --- numbers --------------------------------------------------------------------------------------
DASHES = r"\-\u2010-\u2015\u2212"
FLAGS = re.IGNORECASE | re.ASCII  # ASCII: a number may stand between Chinese characters
NUMBER_START = rf"(?<![\w.,/+{DASHES}])"  # nothing before belongs to the number
NUMBER_END = r"(?![\w/]|[.,]\d)"
NUMBER = NUMBER_START + r"(?P<number>\d{1,3}(?:\.\d+)?)"
VALUE = (
    NUMBER
    + r"(?: ?(?:/|out of|of) ?(?P<denominator>\d{1,3}))?"
    + NUMBER_END
    + rf"(?P<range> ?(?:[{DASHES}]|to\b|or\b) ?\d)?"
)
VALUES = re.compile(VALUE, FLAGS)

# --- forms ----------------------------------------------------------------------------------------
FILLERS = (
    "it|its|is|of|this|that|the|answer|response|reply|an?|as|at|to|for|with|would|should|be|i|give"
)
STATEMENTS = re.compile(
    r"(?:\b(?P<overall>overall|final|total)[ _])?"
    r"(?:(?<![a-z])(?:scores?|scored|ratings?|rated?|grades?|graded)(?![a-z])|[得评打]分|分数)"
    r"(?: (?:[a-h]|\d{1,2})(?=[:)]))?"  # a label: "Score A: 80"
    rf"(?: (?:{FILLERS})\b){{0,8}}"
    r"(?: ?[(\[][^()\[\]\n]{0,40}[)\]])?"  # an aside: "Score (out of 100): 85"
    rf"[\s:=\"'\u2018-\u201d\u2192\uff1a>为是{DASHES}]{{0,8}}" + VALUE,
    FLAGS,
)
LINE_STARTS = re.compile(
    rf"^[ \t\"'(\[]*{VALUE}[ \t]*(?:%|points?\b|分)?[\"')\]]*(?:[ \t]*$|[ \t]*[.,:;!{DASHES}])",
    FLAGS | re.MULTILINE,
)


def parse_score(reply: str, scale: Scale = HUNDRED) -> float | None:
    """The score in a judge's reply, or None if there is none or more than one.

    The forms that are read are in the module's docstring. What a reasoning model thought before its
    reply doesn't count.

    >>> [parse_score(text) for text in ("85", "**Score:** 85.", "I'd give it a 7/10", "1985", "?")]
    [85.0, 85.0, 70.0, None, None]
    """
    text = re.sub(r"[*_`]", "", drop_thoughts(reply))
    text = "\n".join(" ".join(line.split()) for line in text.split("\n"))
    statements = list(STATEMENTS.finditer(text))
    overall = [match for match in statements if match["overall"]]
    for matches in (overall, statements, list(LINE_STARTS.finditer(text))):
        if matches:
            return _agreed((_score(match, scale) for match in matches), scale)
    fractions = [_score(match, scale) for match in VALUES.finditer(text) if match["denominator"]]
    known = [score for score in fractions if score is not None]
    if known:
        return _agreed(known, scale)
    without_scale = _without_scale(text, scale)
    return _agreed((_score(match, scale) for match in VALUES.finditer(without_scale)), scale)


def _score(match: re.Match[str], scale: Scale) -> float | None:
    """The score that a number stands for; None for a range, or a fraction of another scale."""
    if match["range"]:
        return None
    number = float(match["number"])
    if match["denominator"] is None:
        return number
    denominator = int(match["denominator"])
    if denominator == scale.high:
        return number
    if scale.low == 0 and denominator in (5, 10, 20):
        return number * scale.high / denominator
    return None


def _agreed(scores: Iterable[float | None], scale: Scale) -> float | None:
    """The one score that all are, if it is on the scale."""
    different = set(scores)
    if len(different) != 1:
        return None
    (score,) = different
    return score if score is not None and scale.low <= score <= scale.high else None


def _without_scale(text: str, scale: Scale) -> str:
    """The text without the scale, which a judge may repeat: "on a scale of 1-5"."""
    both_ends = rf"\b{scale.low} ?(?:[{DASHES}]|to) ?{scale.high}\b"
    top = rf"(?<!\d )out of {scale.high}\b"
    return re.sub(f"{both_ends}|{top}", " ", text, flags=FLAGS)
