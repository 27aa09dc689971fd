"""Data out of nothing: a tuned model asked for what its users ask, and old rows gone over again.

The one idea (Magpie): a model that was tuned on conversations has also learned what comes where a
user speaks; give it the start of the template, and it writes an instruction. `complete` must then
continue the prompt as it is (`raw`): a server that wraps it into its template once more is asked
something else. The one idea (Reflection-Tuning): a model finds fault with a row, and writes a
better one; where its reply can't be read, the row stays what it was, and says so.
Knows nothing of servers or files: it is given a `complete` (`ch07.completion`).

Sources: Xu et al. 2024, "Magpie"; Li et al. 2023, "Reflection-Tuning"; both as in Raschka's
05_dataset-generation. There `seed` and `temperature` stand where Ollama doesn't look, and a reply
that can't be read leaves the first letter of the old answer as the new one.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from ch07.completion import CompletionError, TooLong
from instruction_dataset import BOOK_STYLE

# Llama 3's template up to where a user speaks, and from there to where the assistant does.
LLAMA_3 = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
)


def queries_of(style=BOOK_STYLE):
    r"""(pre-query, post-query) of a prompt style: what stands before an instruction, and after it.

    >>> queries_of()[1]
    '\n\n### Response:\n'
    """
    before, after = style.no_input.split("{instruction}")
    return before, after


def input_query_of(style=BOOK_STYLE):
    r"""What stands between an instruction and its input; None in a style that begins otherwise.

    >>> input_query_of()
    '\n\n### Input:\n'
    """
    before, rest = style.with_input.split("{instruction}")
    between, after = rest.split("{input}")
    return between if (before, after) == queries_of(style) else None


@dataclass
class Generated:
    """Rows {instruction, input, output}, and what became of all that was written."""

    rows: list = field(default_factory=list)
    counts: Counter = field(default_factory=Counter)  # by what `magpie_try` says
    error: str | None = None  # why it stopped, if the server did


def magpie_try(
    complete,
    pre_query,
    post_query="",
    is_new=lambda instruction: True,
    stop="\n",
    input_query=None,
    **options,
):
    """({instruction, input, output}, what became of it).

    It is kept, empty, cut, old or unanswered; or too long, which leaves no room for an answer.
    The instruction is the first line that isn't empty; half of one, and one that `is_new` says is
    none, is not answered. With an `input_query` it goes on to where the answer would begin, so that
    an input can follow: Magpie itself knows none. Without a `post_query` there is no answer.
    """
    written = complete(pre_query, stop=[post_query.rstrip() if input_query else stop], **options)
    head, _, given = written.text.partition(input_query or "\0")
    instruction = next(filter(None, map(str.strip, head.splitlines())), "")
    row = {"instruction": instruction, "input": given.strip(), "output": ""}
    if not instruction or written.finish_reason == "length":
        return row, "cut" if instruction else "empty"
    if not is_new(instruction):
        return row, "old"
    if not post_query:
        return row, "kept"
    between = input_query + row["input"] if row["input"] else ""
    try:
        answer = complete(pre_query + instruction + between + post_query, **options)
    except TooLong:
        return row, "too long"
    row["output"] = answer.text.strip() if answer.finish_reason == "stop" else ""
    return row, "kept" if row["output"] else "unanswered"


def magpie_generate(
    complete,
    pre_query,
    n,
    stop="\n",
    post_query="",
    is_new=lambda instruction: True,
    tries=None,
    seed=123,
    **options,
):
    """`Generated` with `n` rows, fewer if `tries` (ten for each row) didn't bring so many.

    An instruction that is there already (letter case and white space apart) is counted and left
    out, as those are that `magpie_try` doesn't keep. Try i is asked with `seed` + i: the same seed,
    the same rows. `options` are `complete`'s; the defaults are those of Magpie's own scripts. A
    server that fails ends it: what was kept until then stays, and `error` says why.
    """
    options = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 2048, **options}
    found, seen = Generated(), set()

    def not_seen(instruction):
        key = " ".join(instruction.casefold().split())
        new = key not in seen and is_new(instruction)
        seen.add(key)
        return new

    try:
        for number in range(10 * n if tries is None else tries):
            if len(found.rows) == n:
                break
            how = {"stop": stop, "seed": seed + number, **options}
            row, what = magpie_try(complete, pre_query, post_query, not_seen, **how)
            found.counts[what] += 1
            found.rows += [row] * (what == "kept")
    except CompletionError as error:
        found.error = str(error)
    return found


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
    instruction, output = (block(reply.text, name) for name in ("New Instruction", "New Answer"))
    return _reflected(row, reply, instruction=instruction, output=output)


def reflect_response(complete, row, **options):
    """The row with a better answer and "reflected": True; as it was, with False, where none came.

    `complete` is told of the critic in its system message; one that knows none wants `system=None`.
    """
    reply = complete(_filled(ABOUT_RESPONSE, row), **{**OPTIONS, **options})
    return _reflected(row, reply, output=block(reply.text, "Better Answer"))


def block(reply, name):
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
