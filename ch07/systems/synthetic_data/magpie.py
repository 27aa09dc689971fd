"""Magpie: a chat model writes instructions when it is given only the start of its template.

The one idea: a model that was tuned on conversations has also learned what users write. Given the
template up to the place where a user's text begins, it continues with an instruction. `complete`
must therefore send the prompt as it is (`raw`): a server that wraps it in the template again asks
the model something else. Knows nothing of servers or files: it takes a `complete`
(`ch07.generation.completion`).

Source: Xu et al. 2024, "Magpie" (gen_ins.py and gen_res.py), as in Raschka's 05_dataset-generation,
where `seed` and `temperature` are put where Ollama ignores them. As there, the answer is sampled as
the instruction is; Magpie's own scripts decode answers greedily, and end an instruction also at the
word "assistant".
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ch07.generation.completion import Completion, CompletionError, PromptTooLong
from instruction_dataset import BOOK_STYLE, PromptStyle

# Llama 3's template up to the user's text, and from its end up to the assistant's text.
LLAMA_3 = (
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n",
    "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
)
MAX_TRIES_PER_ROW = 10


def magpie_queries(style: PromptStyle = BOOK_STYLE) -> tuple[str, str]:
    r"""(pre-query, post-query) of a prompt style: the text before and after the instruction.

    >>> magpie_queries()[1]
    '\n\n### Response:\n'
    """
    before, after = style.no_input.split("{instruction}")
    return before, after


def input_query(style: PromptStyle = BOOK_STYLE) -> str | None:
    r"""The text between instruction and input; None if prompts with an input begin differently.

    >>> input_query()
    '\n\n### Input:\n'
    """
    before, rest = style.with_input.split("{instruction}")
    between, after = rest.split("{input}")
    return between if (before, after) == magpie_queries(style) else None


@dataclass
class MagpieResult:
    """Generated rows {instruction, input, output}, and the outcomes of all tries."""

    rows: list[dict[str, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)  # of the outcomes of `magpie_row`
    error: str | None = None  # why generation stopped early, if the server failed


def magpie_row(
    complete: Callable[..., Completion],
    pre_query: str,
    post_query: str = "",
    *,
    is_new: Callable[[str], bool] = lambda instruction: True,
    stop: str = "\n",
    input_query: str | None = None,
    **options: Any,
) -> tuple[dict[str, str], str]:
    """Generate one row {instruction, input, output}; returns it with its outcome.

    The outcome is "kept", "empty", "cut", "old", "unanswered" or "too long" (no room is left for an
    answer). The instruction is the first line that is not empty; one that was cut at the length
    limit, or that `is_new` rejects, is not answered (Magpie's scripts answer all). With an
    `input_query` the model goes on to where the answer would begin, so that an input can follow;
    Magpie itself has no inputs. Without a `post_query` no answer is generated.
    """
    query_stop = post_query.rstrip() if input_query else stop
    query = complete(pre_query, stop=[query_stop], **options)
    text, _, input_text = query.text.partition(input_query or "\0")
    instruction = _first_line(text)
    row = {"instruction": instruction, "input": input_text.strip(), "output": ""}
    if not instruction:
        return row, "empty"
    if query.finish_reason == "length":
        return row, "cut"
    if not is_new(instruction):
        return row, "old"
    if not post_query:
        return row, "kept"
    prompt = pre_query + instruction
    if input_query and row["input"]:
        prompt += input_query + row["input"]
    try:
        answer = complete(prompt + post_query, **options)
    except PromptTooLong:
        return row, "too long"
    if answer.finish_reason == "stop":
        row["output"] = answer.text.strip()
    return row, "kept" if row["output"] else "unanswered"


def _first_line(text: str) -> str:
    r"""The first line that is not empty, stripped; only "\n" ends a line, as in the original."""
    for line in text.split("\n"):
        if line.strip():
            return line.strip()
    return ""


def magpie_generate(
    complete: Callable[..., Completion],
    pre_query: str,
    n: int,
    *,
    stop: str = "\n",
    post_query: str = "",
    is_new: Callable[[str], bool] = lambda instruction: True,
    max_tries: int | None = None,
    seed: int = 123,
    **options: Any,
) -> MagpieResult:
    """A `MagpieResult` with `n` rows, or fewer if `max_tries` (ten per row) are used up.

    Duplicate instructions (ignoring case and white space) are counted and dropped, like all rows
    whose outcome in `magpie_row` is not "kept". Try i uses `seed` + i, so the same seed gives the
    same rows. `options` are those of `complete`, with gen_ins.py's temperature and top-p as
    defaults. If the server fails, the rows so far are returned, and `error` holds its message.
    """
    options = {"temperature": 1.0, "top_p": 1.0, "max_new_tokens": 2048, **options}
    result = MagpieResult()
    seen: set[str] = set()

    def not_seen(instruction: str) -> bool:
        key = " ".join(instruction.casefold().split())
        new = key not in seen and is_new(instruction)
        seen.add(key)
        return new

    if max_tries is None:
        max_tries = MAX_TRIES_PER_ROW * n
    try:
        for number in range(max_tries):
            if len(result.rows) == n:
                break
            try_options = {"stop": stop, "seed": seed + number, **options}
            row, outcome = magpie_row(
                complete, pre_query, post_query, is_new=not_seen, **try_options
            )
            result.counts[outcome] += 1
            if outcome == "kept":
                result.rows.append(row)
    except CompletionError as error:
        result.error = str(error)
    return result
