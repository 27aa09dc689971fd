"""Data out of nothing: a tuned model asked for what its users ask, and old rows gone over again.

The one idea (Magpie): a model that was tuned on conversations has also learned what comes where a
user speaks; give it the start of the template, and it writes an instruction. `complete` must then
continue the prompt as it is (`raw`): a server that wraps it into its template once more is asked
something else. The one idea (Reflection-Tuning): a model finds fault with a row, and writes a
better one; where its reply can't be read, the row stays what it was, and says so.
Knows nothing of servers or files: it is given a `complete` (`ch07.generation.completion`).

Sources: Xu et al. 2024, "Magpie"; Li et al. 2023, "Reflection-Tuning"; both as in Raschka's
05_dataset-generation. There `seed` and `temperature` stand where Ollama doesn't look, and a reply
that can't be read leaves the first letter of the old answer as the new one.
"""

from collections import Counter
from dataclasses import dataclass, field

from ch07.generation.completion import CompletionError, PromptTooLong
from instruction_dataset import BOOK_STYLE

# Llama 3's template up to where a user speaks, and from there to where the assistant does.
LLAMA_3 = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
)


def magpie_queries(style=BOOK_STYLE):
    r"""(pre-query, post-query) of a prompt style: what stands before an instruction, and after it.

    >>> queries_of()[1]
    '\n\n### Response:\n'
    """
    before, after = style.no_input.split("{instruction}")
    return before, after


def input_query(style=BOOK_STYLE):
    r"""What stands between an instruction and its input; None in a style that begins otherwise.

    >>> input_query_of()
    '\n\n### Input:\n'
    """
    before, rest = style.with_input.split("{instruction}")
    between, after = rest.split("{input}")
    return between if (before, after) == magpie_queries(style) else None


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
    except PromptTooLong:
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
