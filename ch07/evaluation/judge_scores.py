"""A judge's scale, and the score in its reply.

The one idea: a reply is read by the first of these forms that occurs in it. Where a form occurs
twice with different scores, the reply has none: no score is better than an invented one.

    form                                             example (scale 0 to 100)           score
    the "score" of a JSON object                     {"feedback": "3/5", "score": 85}   85
    an overall statement                             Style score: 60. Final score: 75   75
    a statement: score, rating, grade and a number   Score: 85. It names 3/5 rivers.    85
    a number at the start of a line, then no words   85 - it names 2 of 3 rivers        85
    a fraction of 100, or of 5, 10 or 20             I'd give it a 7/10                 70
    the only number: it is the whole reply           On a scale of 0-100: 85            85
                     or is said as a judgement       GPT-4 would say 85                 85

A judge may answer the question instead of grading: "The answer is 14" has no score. A reply that is
nothing but "14" has one, since nothing tells the two apart.

A number is one that stands alone, from 0 to 999: no year, no list number with text before it, no
part of a word, nothing negative. A statement or line with a range ("80-90", "4 or 5"), or with a
fraction of another number ("3/4"), has no score, and a score must be on the scale.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ch07.generation.thoughts import drop_thoughts


@dataclass(frozen=True)
class Scale:
    """A scale of scores: the lowest, the highest, and how the judge is asked to use it."""

    name: str
    low: int
    high: int
    task: str
    has_feedback: bool = False  # in JSON: a judge that gives its reasons first judges better

    @property
    def question(self) -> str:
        """What the judge is asked for, where its reply is free text."""
        return f"{self.task}Reply with the number alone."

    @property
    def json_question(self) -> str:
        """What the judge is asked for, where its reply follows `schema`."""
        score = f'"score", a whole number from {self.low} to {self.high}.'
        if not self.has_feedback:
            return f"{self.task}Reply with a JSON object that has one key: {score}"
        return (
            f"{self.task}Reply with a JSON object that has two keys, in this order: "
            f'"feedback", a sentence or two on what is right and what is wrong, and {score}'
        )

    @property
    def schema(self) -> dict[str, Any]:
        """The JSON schema of a reply.

        Without the ends of the scale, which not every server allows in a schema; a score beyond
        them is none.
        """
        properties = {"feedback": {"type": "string"}} if self.has_feedback else {}
        properties["score"] = {"type": "integer"}
        return {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        }


HUNDRED = Scale(
    name="0-100",
    low=0,
    high=100,
    task="How good is the answer? Give a whole number from 0 to 100; 100 means that it could "
    "not be better. ",
)
RUBRIC = Scale(
    name="1-5",
    low=1,
    high=5,
    task="Rate the answer:\n"
    "1: it is empty, or has nothing to do with the task\n"
    "2: it takes up the task, but what it says is wrong\n"
    "3: part of it is right\n"
    "4: it is right, with a small flaw in form or detail\n"
    "5: it is right, and as good as the reference\n",
    has_feedback=True,
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
    r"|(?:19|20)\d\d"  # "the score for 2024 is 85"
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
# What stands before the only number of a reply, and makes it a judgement.
JUDGED = re.compile(
    r"(?:"
    r"\b(?:would|i) say|['\u2019]d say"
    r"|\bi(?: would|['\u2019]d| will|['\u2019]ll)?(?: only)? (?:give|award|assign|go with)(?: it)?"
    r"|\b(?:gives?|award|assign) (?:it|(?:the|this) (?:answer|response|reply)(?= an? ))"
    r"|\bdeserves"
    r"|\b(?:verdict|assessment|evaluation|judge?ment|marks?|points)(?: is|[:\uff1a])"
    r")(?: ?(?:an?|about|around|only|just|maybe|perhaps|roughly)\b){0,3}"
    rf"[\s:=\"'\u2018-\u201d\uff1a(\[{DASHES}]{{0,8}}\Z",
    re.IGNORECASE,
)
MAX_BEFORE = 80  # characters before a number that are searched for such words
PUNCTUATION = re.compile(r"[\W_]*")
UNIT = re.compile(r"[\W_]*(?:(?:points?|marks?|stars?)[\W_]*)?", re.IGNORECASE)
CHINESE_POINTS = re.compile(r" ?分(?![钟之])")  # no minutes, no fraction
LATER_SCORES = re.compile(r'"score"\s*:[^,{}]*')
# Also of an object that was cut off; its numbers are no scores.
FEEDBACK = re.compile(r'"feedback"\s*:\s*"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)

# At the end of an object that was cut off: digits may be missing.
CUT_NUMBER = re.compile(r"(?<!\d)\d{1,3}\Z", re.ASCII)


def parse_score(reply: str, scale: Scale = HUNDRED) -> float | None:
    """The score in a judge's reply, or None if there is none or more than one.

    The forms that are read are in the module's docstring. What a reasoning model thought before its
    reply doesn't count.

    >>> [parse_score(text) for text in ("85", "**Score:** 85.", "I'd give it a 7/10", "1985", "?")]
    [85.0, 85.0, 70.0, None, None]
    """
    text = re.sub(r"[*_`]", "", _without_feedback(drop_thoughts(reply), scale))
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
    return _only_number(_without_scale(text, scale), scale)


def _without_contradictions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs; a key that is there twice with different values has None."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        found[key] = value if found.get(key, value) == value else None
    return found


SCORES_DECODER = json.JSONDecoder(object_pairs_hook=_without_contradictions)


def _without_feedback(reply: str, scale: Scale) -> str:
    """The reply without a judge's feedback; of a JSON object, its scores alone.

    What surrounds an object isn't read if that has a "score", but for the "score" of another object
    after it; if it has none, it must be the whole reply, in a fence or not.
    """
    start = reply.find("{")
    if start < 0:
        return reply
    try:
        found, end = SCORES_DECODER.raw_decode(reply, start)
    except (ValueError, RecursionError):  # no object, one that was cut off, or one nested too deep
        return _without_cut_number(FEEDBACK.sub("", reply), scale)
    if "score" in found:
        return "\n".join([_scores_of(found), *LATER_SCORES.findall(reply, end)])
    around = reply[:start] + reply[end:]
    is_whole = around.strip("`[] \n").lower() in ("", "json")
    return _scores_of(found) if is_whole else FEEDBACK.sub("", reply)


def _without_cut_number(text: str, scale: Scale) -> str:
    """The text without a last number that another digit would leave on the scale, as 8 in 85."""
    match = CUT_NUMBER.search(text)
    if match is None:
        return text
    return text[: match.start()] if 0 < 10 * int(match.group()) <= scale.high else text


def _scores_of(found: dict[str, Any]) -> str:
    """An object as lines of text: its "score", or else all values that are numbers."""
    if "score" in found:
        found = {"score": found["score"]}
    lines = []
    for key, value in found.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number or (isinstance(value, str) and re.fullmatch(VALUE + "%?", value, FLAGS)):
            lines.append(f"{key.replace('_', ' ')}: {value}")
    return "\n".join(lines)


def _only_number(text: str, scale: Scale) -> float | None:
    """The only number of a text, if it is the whole text or is said as a judgement."""
    matches = list(VALUES.finditer(text))
    score = _agreed((_score(match, scale) for match in matches), scale)
    if score is None:
        return None
    first = matches[0]  # if there are more, they are the same
    return score if _is_whole(text, first) or _is_judgement(text, first) else None


def _is_whole(text: str, number: re.Match[str]) -> bool:
    """Whether nothing but signs and a unit stand around a number."""
    start, end = number.span()
    return bool(PUNCTUATION.fullmatch(text, 0, start) and UNIT.fullmatch(text, end))


def _is_judgement(text: str, number: re.Match[str]) -> bool:
    """Whether the words before a number, or the unit after it, make it a judgement."""
    start, end = number.span()
    before = text[max(0, start - MAX_BEFORE) : start]
    return bool(JUDGED.search(before) or CHINESE_POINTS.match(text, end))


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
    lead = r"(?:\bon (?:a|the) scale (?:of|from) )?"
    both_ends = rf"{lead}\b{scale.low} ?(?:[{DASHES}]|to) ?{scale.high}\b"
    top = rf"(?<!\d )out of {scale.high}\b"
    return re.sub(f"{both_ends}|{top}", " ", text, flags=FLAGS)
