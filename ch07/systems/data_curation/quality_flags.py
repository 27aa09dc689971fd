"""Rows that teach nothing, or something wrong: ten known defects, as far as a rule can see them.

The one idea: a flag is a reason to look at a row, in words that a person can check. What no rule
can see is said in `NOT_BY_RULE`, so that "no flag" is never read as "good".

Source: the README of AlpacaDataCleaned (gururise/AlpacaDataCleaned), which lists ten defects of
the 52,002 rows of Stanford Alpaca. The rules here are our own.
"""

import re

from ch07.systems.data_curation.arithmetic_checks import wrong_arithmetic

FLAGS = {
    "empty_answer": "the answer is empty: the model learns to say nothing",
    "placeholder_answer": "the answer only says that there is none, as N/A does",
    "placeholder_input": "the input says in words that there is none: leave it empty instead",
    "merged_tasks": "another numbered task stands inside the answer: two rows became one",
    "link_as_input": "the input is a link and nothing else, and no model here can open it",
    "link_from_nowhere": "the answer has a link that the prompt doesn't: it may lead nowhere",
    "missing_picture": "the row is about a picture or a file that isn't there",
    "asks_for_picture": "the instruction asks for a picture, but an answer is text",
    "missing_code": "code is asked for or spoken of, and there is none",
    "wrong_arithmetic": "a sum was computed again, and the answer is wrong",
    "control_characters": "invisible control characters, or escapes such as \\n written out",
}
NOT_BY_RULE = {
    "unclear instructions": "whether a person would understand what is wanted",
    "wrong answers": "facts, units, word problems: all but arithmetic that is written out",
    "hallucinations": "an answer that is made up, where no link or picture tells",
    "missing code": "code that is there and doesn't do what was asked",
}

LONGEST_PLACEHOLDER = 60  # characters
LINK = re.compile(r"(?:https?://|www\.)[^\s<>\"')\]]*[^\s<>\"')\].,;:!?]", re.IGNORECASE)
NO_ANSWER = re.compile(
    r"\W*(?:n/a|n\.a\.|not applicable|no[ _-]?(?:output|answer|response|input))\W*"
    r"|<\s*(?:none|empty|nan|na)\s*>",
    re.IGNORECASE,
)
NO_INPUT = re.compile(
    r"\W*(?:no[ _-]?input(?: (?:needed|required|provided|given|necessary))?|n/a|n\.a\."
    r"|not applicable)\W*|<\s*(?:none|empty|blank|null|na)\s*>",
    re.IGNORECASE,
)
# A header of another task at the start of a line: "Instruction:", "18. Input:", "### 4. Output:".
NEXT_TASK = re.compile(
    r"^[ \t]*(?:#+[ \t]*)?(?:(?:\d+\s*[.)]\s*)?Instruction|\d+\s*[.)]\s*(?:Input|Output))s?\s*:",
    re.IGNORECASE | re.MULTILINE,
)
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ufffd]")
ESCAPE = re.compile(r"\\[nrt](?=\\[nrt]|[A-Z\d]|\s|$)")
CODE = re.compile(
    r"```|`[^`\n]+`|\w\([^()]*\)|[{};]\s*$|[=!<>]=|\w\s*=\s*\S|</?\w+[^<>]*>|\bselect\b[^;]{1,300}?\bfrom\b"
    r"|^[ \t]*(?:def|class|import|from|function|public|#include|print|echo|return)\b|=>|->"
    r"|\[[^\]\s]+\][*+?]?|\\[dwsb]",
    re.IGNORECASE | re.MULTILINE,
)
LANGUAGE = (
    r"(?:python|java|javascript|typescript|c\+\+|c#|c|php|ruby|rust|go|r|bash|shell|perl|sql)"
)
ASKS_FOR_CODE = re.compile(
    rf"\b(?:write|create|implement|code|develop|generate|provide|give|show)(?: me)?"
    rf"(?: an?| the| some)?(?: [\w-]+){{0,2}}? (?:{LANGUAGE} (?:\w+ )?(?:function|program|script"
    r"|code|class|snippet|query|statement|command|method)|html (?:page|code|form|document|tag)"
    r"|css (?:rule|code|class)|code snippet|pseudo-?code|regular expression|regex)\b",
    re.IGNORECASE,
)
SPEAKS_OF_CODE = re.compile(
    rf"\b(?:following|given|below|this) (?:{LANGUAGE} )?(?:code|function|script|snippet|query)\b",
    re.IGNORECASE,
)
PICTURES = (
    r"(?:image|picture|photo(?:graph)?|drawing|painting|illustration|graphic|logo|collage|cartoon"
    r"|infographic|sketch|gif)s?"
)
FILES = r"(?:file|document|video|audio|attachment)s?"
SMALL_WORD = r"(?:for|of|about|on|to|from|with|in|that|which|as|and|based|using)\b"
ABOUT_IT = r"(?:caption|title|description|name|slogan|brief|process|class|recogni|edit|file|model)"
ASKS_FOR_PICTURE = re.compile(
    r"(?:please )?(?:(?:can|could) you )?(?:(?:draw|paint|sketch|create|generate|make|design"
    r"|produce|render|take)(?: me| us)?(?: an?| the| some)?"
    rf"(?: (?!{SMALL_WORD})[\w-]+,?){{0,3}}?"
    rf"(?: or| and)? {PICTURES}\b(?! (?:{ABOUT_IT}|in words))"
    r"|(?:draw|paint|sketch)(?: me| us)? (?:an? |the )(?!.*\b(?:conclusion|comparison|parallel"
    r"|inference|distinction|line between|lesson|analogy|connection|words)))",
    re.IGNORECASE,
)
ATTACHED = re.compile(
    rf"\W*(?:{PICTURES}|{FILES})(?: \w+)? (?:attached|here|below)\W*"
    rf"|\W*attached (?:{PICTURES}|{FILES})\W*|<(?:{PICTURES}|{FILES})\b[^>]*>",
    re.IGNORECASE,
)
SPEAKS_OF_PICTURE = re.compile(
    rf"\b(?:following|attached|given|above|below|this) (?:{PICTURES})\b|\b(?:{PICTURES}) below\b",
    re.IGNORECASE,
)


def quality_flags(row):
    """Names of the defects (keys of `FLAGS`) that a rule finds in a row, in the order of `FLAGS`.

    ValueError if "instruction" or "output" isn't text; "input" may be missing or None.

    >>> quality_flags({"instruction": "Name a fruit.", "input": "<noinput>", "output": "N/A"})
    ['placeholder_answer', 'placeholder_input']
    """
    for key in ("instruction", "output", "input"):
        value = row.get(key)
        if not isinstance(value, str) and not (key == "input" and value is None):
            raise ValueError(f"{key!r} must be text, but is {value!r}")
    row = {**row, "input": row.get("input") or ""}
    return [name for name in FLAGS if RULES[name](row)]


def count_flags(rows):
    """{flag: row numbers (from 0)} of all flags that a rule finds in some row."""
    found = {name: [] for name in FLAGS}
    for i, row in enumerate(rows):
        for name in quality_flags(row):
            found[name].append(i)
    return {name: numbers for name, numbers in found.items() if numbers}


# --- the rules ----------------------------------------------------------------------------------
def _is(pattern, text):
    """Whether a text is nothing but a placeholder; a long one never is."""
    return len(text := text.strip()) <= LONGEST_PLACEHOLDER and bool(pattern.fullmatch(text))


def _link_as_input(row):
    return bool(row["input"].strip()) and not LINK.sub("", row["input"]).strip(" \t\n<>.,;")


def _link_from_nowhere(row):
    prompt = row["instruction"] + " " + row["input"]
    return any(link not in prompt for link in LINK.findall(row["output"]))


def _missing_picture(row):
    spoken_of = SPEAKS_OF_PICTURE.search(row["instruction"]) and not row["input"].strip()
    return bool(spoken_of) or _is(ATTACHED, row["input"])


def _missing_code(row):
    asked = ASKS_FOR_CODE.search(row["instruction"]) and not CODE.search(row["output"])
    nothing_else = not row["input"].strip() and not CODE.search(row["instruction"])
    return bool(asked or (nothing_else and SPEAKS_OF_CODE.search(row["instruction"])))


def _control_characters(row):
    texts = [row["instruction"], row["input"], row["output"]]
    escaped = (ESCAPE.search(text) and not CODE.search(text) for text in texts)
    return any(CONTROL.search(text.replace("\r\n", "\n")) for text in texts) or any(escaped)


RULES = {
    "empty_answer": lambda row: not row["output"].strip(),
    "placeholder_answer": lambda row: _is(NO_ANSWER, row["output"]),
    "placeholder_input": lambda row: _is(NO_INPUT, row["input"]),
    "merged_tasks": lambda row: bool(NEXT_TASK.search(row["output"])),
    "link_as_input": _link_as_input,
    "link_from_nowhere": _link_from_nowhere,
    "missing_picture": _missing_picture,
    "asks_for_picture": lambda row: bool(ASKS_FOR_PICTURE.match(row["instruction"].strip())),
    "missing_code": _missing_code,
    "wrong_arithmetic": wrong_arithmetic,
    "control_characters": _control_characters,
}
