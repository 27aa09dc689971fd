"""Reflection-Tuning: a model criticizes a row and writes its instruction or response anew.

The one idea: the model first says what is wrong with a row, then writes a better version in a fixed
format. If its reply can't be parsed, the row stays unchanged and is marked as not reflected. Knows
nothing of servers or files: it takes a `complete` (`ch07.generation.completion`).

Source: Li et al. 2023, "Reflection-Tuning" (reflect_instruction_postprocess.py and
reflect_response_postprocess.py), as in Raschka's 05_dataset-generation; there a reply that can't be
parsed replaces the old answer by its first letter. Where the original takes a new instruction with
the old answer, or the reverse, and asks once more if it finds neither, here a row is replaced as a
whole or not at all, and asked for once. The wording of the prompts is this project's own.
"""

import re
from collections.abc import Callable
from typing import Any

from ch07.generation.completion import Completion

Row = dict[str, Any]

CRITIC = "You find fault with exercises and their answers, in a few plain words, and improve them."
INSTRUCTION_PROMPT = """\
The instruction:
{instruction}

The answer that was given to it:
{output}

First say what is wrong with the instruction: is it vague, too easy, or without interest? Then write
a better one, and a full answer to it, in this form:

[New Instruction] the better instruction [End]
[New Answer] the answer to it [End]"""
RESPONSE_PROMPT = """\
The instruction:
{instruction}{input}

The answer that was given to it:
{output}

First say what is wrong with the answer: is it incomplete, unclear, or not true? Then write a better
answer to the same instruction, in this form:

[Better Answer] the better answer [End]"""
DEFAULT_OPTIONS = {"system": CRITIC, "temperature": 0.0, "seed": 123, "max_new_tokens": 2048}
BLOCKS = {  # what the prompts have in each block: a reply that repeats it has no block of its own
    "New Instruction": "the better instruction",
    "New Answer": "the answer to it",
    "Better Answer": "the better answer",
}
NO_ANSWER = "n/a"


def reflect_instruction(complete: Callable[..., Completion], row: Row, **options: Any) -> Row:
    """The row with a new instruction and answer and "reflected": True; else unchanged, with False.

    Only rows without an input are sent, since the old input would not fit a new instruction.
    """
    if (row.get("input") or "").strip():
        return {**row, "reflected": False}
    reply = complete(_fill(INSTRUCTION_PROMPT, row), **{**DEFAULT_OPTIONS, **options})
    instruction = bracketed_block(reply.text, "New Instruction")
    output = bracketed_block(reply.text, "New Answer")
    return _reflected_row(row, reply, instruction=instruction, output=output)


def reflect_response(complete: Callable[..., Completion], row: Row, **options: Any) -> Row:
    """The row with a better answer and "reflected": True; else unchanged, with False.

    The critic's role is sent as the system message; pass `system=None` to a `complete` without one.
    """
    reply = complete(_fill(RESPONSE_PROMPT, row), **{**DEFAULT_OPTIONS, **options})
    return _reflected_row(row, reply, output=bracketed_block(reply.text, "Better Answer"))


def bracketed_block(reply: str, name: str) -> str | None:
    r"""The text between [name] and [End] in a reply, or after "name:"; None if there is none.

    Ignores case and takes the first of several. A block that [name] begins ends at [End] or at the
    next header in brackets; if neither follows, and after "name:", any header ends it, also one
    with a list number or marks of Markdown. A list number left over at its end is cut. N/A, or the
    words of the prompt repeated, count as none.

    >>> bracketed_block("[New Answer] Endless joy [End] [New Answer] no [End]", "New Answer")
    'Endless joy'
    >>> bracketed_block("2. **New answer:** Red\n\n3. ", "New Answer")
    'Red'
    """
    any_name = "|".join(BLOCKS)
    in_brackets = rf"\[End\]|\[(?:{any_name})\]"
    at_line_start = _line_header(any_name)
    forms = (
        rf"\[{name}\]:?(.*?)(?:{in_brackets})",
        rf"\[{name}\]:?(.*?)(?:{at_line_start}|\Z)",
        rf"{_line_header(name)}(.*?)(?:{in_brackets}|{at_line_start}|\Z)",
    )
    for form in forms:
        block = re.search(form, reply, re.IGNORECASE | re.DOTALL | re.MULTILINE)
        if block:
            text = _without_list_number(block[1].strip()).strip()
            return None if text.casefold() in ("", NO_ANSWER, BLOCKS.get(name)) else text
    return None


def _line_header(names: str) -> str:
    """The pattern of "name:" at the start of a line, as "New Answer:" or "3. **New Answer:**"."""
    blanks = r"[ \t]{0,8}"  # not any number: many could be divided in many ways
    mark = rf"(?:\d{{1,2}}[.)]{blanks})?[*#]{{0,4}}{blanks}"
    return rf"^{blanks}{mark}(?:{names})(?::\*{{0,2}}|\*\*:)"


def _without_list_number(text: str) -> str:
    """The text without a last line such as "3.", which belongs to whatever comes next."""
    before, newline, last_line = text.rpartition("\n")
    return before if newline and re.fullmatch(r"\s*\d+\.", last_line) else text


def _fill(template: str, row: Row) -> str:
    """The template with a row's texts, which may contain braces."""
    input_text = f"\n\nIt works on this:\n{row['input']}" if row.get("input") else ""
    fields = {"instruction": row["instruction"], "output": row["output"], "input": input_text}
    return re.sub(r"\{(\w+)\}", lambda match: fields[match[1]], template)


def _reflected_row(row: Row, reply: Completion, **new_fields: str | None) -> Row:
    """The row with its new fields, if all of them were parsed and the reply was not cut."""
    if reply.finish_reason != "stop" or None in new_fields.values():
        return {**row, "reflected": False}
    return {**row, **new_fields, "reflected": True}
