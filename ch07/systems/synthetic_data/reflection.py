"""Reflection-Tuning: a model criticises a row and writes its instruction or response anew."""

import re

# --- reflection ---------------------------------------------------------------------------------
CRITIC = "You find fault with exercises and their answers, in a few plain words, and improve them."
ABOUT_INSTRUCTION = """\
The instruction:
{instruction}

The answer that was given to it:
{output}

First say what is wrong with the instruction: is it vague, too easy, or without interest? Then write
a better one, and a full answer to it, in this form:

[New Instruction] the better instruction [End]
[New Answer] the answer to it [End]"""
ABOUT_RESPONSE = """\
The instruction:
{instruction}{input}

The answer that was given to it:
{output}

First say what is wrong with the answer: is it incomplete, unclear, or not true? Then write a better
answer to the same instruction, in this form:

[Better Answer] the better answer [End]"""
OPTIONS = {"system": CRITIC, "temperature": 0.0, "seed": 123, "max_new_tokens": 2048}


def reflect_instruction(complete, row, **options):
    """The row with another instruction and answer, "reflected": True; else as it was, with False.

    For rows without an input alone, since what is new would not fit it; others are not sent.
    """
    if (row.get("input") or "").strip():
        return {**row, "reflected": False}
    prompt = _filled(ABOUT_INSTRUCTION, row)
    reply = complete(prompt, **{**OPTIONS, **options})
    instruction, output = (
        bracketed_block(reply.text, name) for name in ("New Instruction", "New Answer")
    )
    return _reflected(row, reply, instruction=instruction, output=output)


def reflect_response(complete, row, **options):
    """The row with a better answer and "reflected": True; as it was, with False, where none came.

    `complete` is told of the critic in its system message; one that knows none wants `system=None`.
    """
    reply = complete(_filled(ABOUT_RESPONSE, row), **{**OPTIONS, **options})
    return _reflected(row, reply, output=bracketed_block(reply.text, "Better Answer"))


def bracketed_block(reply, name):
    r"""What a reply has between [name] and [End], or after "name:"; None where there is nothing.

    Letter case apart. Of several the first. Without an [End] it goes on to the next [...] or "...:"
    of this form, or to the reply's end. A number of a list that was left over is cut off.

    >>> block("[New Answer] Endless joy [End] [New Answer] no [End]", "New Answer")
    'Endless joy'
    >>> block("new answer: Red\n\n3. ", "New Answer")
    'Red'
    """
    others = r"\[End\]|\[(?:New Instruction|New Answer|Better Answer)\]"
    others += r"|^(?:New Instruction|New Answer|Better Answer):|\Z"
    how = re.IGNORECASE | re.DOTALL | re.MULTILINE
    for start in (rf"\[{name}\]:?", rf"^{name}:"):
        found = re.search(rf"{start}(.*?)(?:{others})", reply, how)
        if found:
            *before, last = found[1].strip().rsplit("\n", 1)
            left_over = before and re.fullmatch(r"\s*\d+\.", last)
            return (before[0] if left_over else found[1]).strip() or None
    return None


def _filled(template, row):
    """The template with a row's texts, whatever braces they hold."""
    given = f"\n\nIt works on this:\n{row['input']}" if row.get("input") else ""
    fields = {"instruction": row["instruction"], "output": row["output"], "input": given}
    return re.sub(r"\{(\w+)\}", lambda place: fields[place[1]], template)


def _reflected(row, reply, **new):
    """The row with what is new in it, if all of it came and was not cut at a limit."""
    whole = reply.finish_reason == "stop" and None not in new.values()
    return {**row, **(new if whole else {}), "reflected": whole}
