"""Quality flags: the known defects of instruction data that a rule can detect.

The one idea: a flag is a reason to look at a row, in words that a person can check. `NOT_BY_RULE`
lists what no rule can detect, so that "no flag" is never taken to mean "good".

Source: the README of AlpacaDataCleaned (gururise/AlpacaDataCleaned), which lists ten defects of
the 52,002 rows of Stanford Alpaca. The rules are this project's own.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from ch07.data.chat_forms import turns_of
from ch07.systems.data_curation.arithmetic_checks import wrong_arithmetic
from ch07.utils.errors import InputError

FLAGS = {
    "empty_answer": "the answer is empty: the model learns to say nothing",
    "placeholder_answer": "the answer is a placeholder such as N/A",
    "placeholder_input": "the input is a placeholder: leave it empty instead",
    "merged_tasks": "the answer contains another numbered task: two rows became one",
    "link_as_input": "the input is only a link, which the model can't open",
    "link_from_nowhere": "the answer has a link that the prompt lacks: it may be made up",
    "missing_picture": "the row is about a picture or file that it doesn't contain",
    "asks_for_picture": "the instruction asks for a picture, but an answer is text",
    "missing_code": "the row asks for or mentions code, but contains none",
    "wrong_arithmetic": "the arithmetic in the answer is wrong",
    "control_characters": "invisible control characters, or escapes such as \\n written out",
}
NOT_BY_RULE = {
    "unclear instructions": "whether a person would understand what is wanted",
    "wrong answers": "facts, units, word problems: everything but written-out arithmetic",
    "hallucinations": "made-up answers, unless a link or picture gives them away",
    "missing code": "code that is present but doesn't do what was asked",
}

EARLIER = "earlier turns"  # the key under which a rule finds their text, and the system prompt
MAX_PLACEHOLDER_CHARACTERS = 60
LINK = re.compile(r"(?:https?://|www\.)[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]", re.IGNORECASE)
PLACEHOLDER_ANSWER = re.compile(
    r"\W*(?:n/a|n\.a\.|not applicable|no[ _-]?(?:output|answer|response|input))\W*"
    r"|<\s*(?:none|empty|nan|na)\s*>",
    re.IGNORECASE,
)
PLACEHOLDER_INPUT = re.compile(
    r"\W*(?:no[ _-]?input(?: (?:needed|required|provided|given|necessary))?|n/a|n\.a\."
    r"|not applicable)\W*|<\s*(?:none|empty|blank|null|na)\s*>",
    re.IGNORECASE,
)
# The header of another task at the start of a line: "Instruction:", "18. Input:", "### 4. Output:".
NEXT_TASK_HEADER = re.compile(
    r"^[ \t]*(?:#+[ \t]*)?(?:(?:\d+\s*[.)]\s*)?Instruction|\d+\s*[.)]\s*(?:Input|Output))s?\s*:",
    re.IGNORECASE | re.MULTILINE,
)
CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]")
WRITTEN_ESCAPE = re.compile(r"\\[nrt](?=\\[nrt]|[A-Z\d]|\s|$)")
CODE = re.compile(
    r"```|`[^`\n]+`|\w\([^()]*\)|[{};]\s*$|[=!<>]=|\w\s*=\s*\S|</?\w+[^<>]*>|\bselect\b[^;]{1,300}?\bfrom\b"
    r"|^[ \t]*(?:def|class|import|from|function|public|#include|print|echo|return)\b|=>|->"
    r"|\[[^\]\s]+\][*+?]?|\\[dwsb]",
    re.IGNORECASE | re.MULTILINE,
)
PROGRAMMING_LANGUAGES = (
    r"(?:python|java|javascript|typescript|c\+\+|c#|c|php|ruby|rust|go|r|bash|shell|perl|sql)"
)
ASKS_FOR_CODE = re.compile(
    rf"\b(?:write|create|implement|code|develop|generate|provide|give|show)(?: me)?"
    rf"(?: an?| the| some)?(?: [\w-]+){{0,2}}? (?:{PROGRAMMING_LANGUAGES} "
    r"(?:\w+ )?(?:function|program|script|code|class|snippet|query|statement|command|method)"
    r"|html (?:page|code|form|document|tag)"
    r"|css (?:rule|code|class)|code snippet|pseudo-?code|regular expression|regex)\b",
    re.IGNORECASE,
)
MENTIONS_CODE = re.compile(
    rf"\b(?:following|given|below|this) (?:{PROGRAMMING_LANGUAGES} )?"
    r"(?:code|function|script|snippet|query)\b",
    re.IGNORECASE,
)
PICTURES = (
    r"(?:image|picture|photo(?:graph)?|drawing|painting|illustration|graphic|logo|collage|cartoon"
    r"|infographic|sketch|gif)s?"
)
FILES = r"(?:file|document|video|audio|attachment)s?"
PREPOSITION = r"(?:for|of|about|on|to|from|with|in|that|which|as|and|based|using)\b"
PICTURE_METADATA = (
    r"(?:caption|title|description|name|slogan|brief|process|class|recogni|edit|file|model)"
)
ASKS_FOR_PICTURE = re.compile(
    r"(?:please )?(?:(?:can|could) you )?(?:(?:draw|paint|sketch|create|generate|make|design"
    r"|produce|render|take)(?: me| us)?(?: an?| the| some)?"
    rf"(?: (?!{PREPOSITION})[\w-]+,?){{0,3}}?"
    rf"(?: or| and)? {PICTURES}\b(?! (?:{PICTURE_METADATA}|in words))"
    r"|(?:draw|paint|sketch)(?: me| us)? (?:an? |the )(?!.*\b(?:conclusion|comparison|parallel"
    r"|inference|distinction|line between|lesson|analogy|connection|words)))",
    re.IGNORECASE,
)
ATTACHMENT_NOTE = re.compile(
    rf"\W*(?:{PICTURES}|{FILES})(?: \w+)? (?:attached|here|below)\W*"
    rf"|\W*attached (?:{PICTURES}|{FILES})\W*|<(?:{PICTURES}|{FILES})\b[^>]*>",
    re.IGNORECASE,
)
MENTIONS_PICTURE = re.compile(
    rf"\b(?:following|attached|given|above|below|this) (?:{PICTURES})\b|\b(?:{PICTURES}) below\b",
    re.IGNORECASE,
)


def quality_flags(row: dict[str, Any]) -> list[str]:
    """The keys of `FLAGS`, in order, whose rule finds a defect in the row.

    Of a conversation, each turn is looked at; a link or code may stand in an earlier one.
    ValueError if "instruction" or "output" is not text; "input" may be missing or None.

    >>> quality_flags({"instruction": "Name a fruit.", "input": "<noinput>", "output": "N/A"})
    ['placeholder_answer', 'placeholder_input']
    """
    earlier = row.get("system") or ""
    found: set[str] = set()
    for turn in turns_of(row):
        for key in ("instruction", "output", "input"):
            value = turn.get(key)
            if not isinstance(value, str) and not (key == "input" and value is None):
                raise InputError(f"{key!r} must be text, but is {value!r}")
        turn = {**turn, "input": turn.get("input") or "", EARLIER: earlier}
        found.update(name for name in FLAGS if RULES[name](turn))
        earlier = "\n".join([earlier, turn["instruction"], turn["input"], turn["output"]])
    return [name for name in FLAGS if name in found]


def count_flags(rows: Iterable[dict[str, Any]]) -> dict[str, list[int]]:
    """{flag: row numbers (from 0)} for every flag that occurs."""
    found: dict[str, list[int]] = {name: [] for name in FLAGS}
    for i, row in enumerate(rows):
        for name in quality_flags(row):
            found[name].append(i)
    return {name: numbers for name, numbers in found.items() if numbers}


# --- the rules ----------------------------------------------------------------------------------
def _is_placeholder(pattern: re.Pattern[str], text: str) -> bool:
    """Whether a text is nothing but a placeholder; a long one never is."""
    text = text.strip()
    return len(text) <= MAX_PLACEHOLDER_CHARACTERS and pattern.fullmatch(text) is not None


def _link_as_input(row: dict[str, Any]) -> bool:
    return bool(row["input"].strip()) and not LINK.sub("", row["input"]).strip(" \t\n<>.,;")


def _link_from_nowhere(row: dict[str, Any]) -> bool:
    prompt = " ".join([row[EARLIER], row["instruction"], row["input"]])
    return any(link not in prompt for link in LINK.findall(row["output"]))


def _missing_picture(row: dict[str, Any]) -> bool:
    if MENTIONS_PICTURE.search(row["instruction"]) and not row["input"].strip():
        return True
    return _is_placeholder(ATTACHMENT_NOTE, row["input"])


def _missing_code(row: dict[str, Any]) -> bool:
    instruction = row["instruction"]
    if ASKS_FOR_CODE.search(instruction) and not CODE.search(row["output"]):
        return True
    prompt_has_code = row["input"].strip() or CODE.search(f"{row[EARLIER]}\n{instruction}")
    return MENTIONS_CODE.search(instruction) is not None and not prompt_has_code


def _control_characters(row: dict[str, Any]) -> bool:
    for text in (row["instruction"], row["input"], row["output"]):
        if CONTROL_CHARACTER.search(text.replace("\r\n", "\n")):
            return True
        if WRITTEN_ESCAPE.search(text) and not CODE.search(text):
            return True
    return False


RULES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "empty_answer": lambda row: not row["output"].strip(),
    "placeholder_answer": lambda row: _is_placeholder(PLACEHOLDER_ANSWER, row["output"]),
    "placeholder_input": lambda row: _is_placeholder(PLACEHOLDER_INPUT, row["input"]),
    "merged_tasks": lambda row: bool(NEXT_TASK_HEADER.search(row["output"])),
    "link_as_input": _link_as_input,
    "link_from_nowhere": _link_from_nowhere,
    "missing_picture": _missing_picture,
    "asks_for_picture": lambda row: bool(ASKS_FOR_PICTURE.match(row["instruction"].strip())),
    "missing_code": _missing_code,
    "wrong_arithmetic": wrong_arithmetic,
    "control_characters": _control_characters,
}
