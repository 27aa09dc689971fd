"""One request to a generator -> rows, and what was rejected, in three ways.

Self-Instruct shows a few tasks and asks for more, Magpie gives the start of a template and no
question, Reflection has an old row rewritten. Each is a function `ask(k)` here, as
`resumable_jsonl` wants it: request k follows from its number alone, so it can be repeated. As in
Stanford Alpaca, `generate_instruction_following_data`, examples are drawn from the seeds alone, and
every new row must differ enough from all seeds and all rows (`novelty_filter`).
"""

import random
from dataclasses import asdict, dataclass
from pathlib import Path

from ch07.data.entries import lost_rows, read_data, summarize_findings
from ch07.evaluation.metrics import words
from ch07.generation.completion import PromptRejected, PromptTooLong
from ch07.systems.synthetic_data.magpie import magpie_try
from ch07.systems.synthetic_data.novelty_filter import MAX_ROUGE_L
from ch07.systems.synthetic_data.reflection import reflect_instruction, reflect_response
from ch07.systems.synthetic_data.self_instruct import (
    encode_prompt,
    post_process_response,
    stop_strings,
)
from ch07.utils.errors import DataError

SEED_TASKS = Path(__file__).with_name("seed_tasks.jsonl")
TOO_NEAR_SAID = "too near to another"
TOO_LONG_SAID = "too long for the model"
REFUSED_SAID = "refused by the server"
REASONS = {  # what `magpie_try` says, in words
    "empty": "empty",
    "cut": "cut off",
    "unanswered": "no answer",
    "too long": TOO_LONG_SAID,
}
REFLECTIONS = {"response": reflect_response, "instruction": reflect_instruction}


def load_seeds(path=SEED_TASKS, n_examples=3, note=lambda text: None):
    """(seeds, sha256 of the file): entries with an "id"; DataError if they can't make a prompt.

    `note(text)` hears what was seen in the file.
    """
    file = read_data(path)
    for line in summarize_findings(lost_rows(file.findings)):
        note(f"seeds: {line}")
    if len(file.entries) < n_examples:
        raise DataError(f"{path}: {len(file.entries)} tasks, but a prompt shows {n_examples}")
    ids = [
        str(entry.get("id", place)) for entry, place in zip(file.entries, file.places, strict=True)
    ]
    return [{**e, "id": i} for e, i in zip(file.entries, ids, strict=True)], file.sha256


def is_far(pool, instruction):
    """(whether it is new, {"nearest", "score"} of its nearest neighbour in the pool)."""
    nearest, score = pool.nearest(instruction)
    near = {} if nearest is None else {"nearest": pool.texts[nearest], "score": score}
    return score <= MAX_ROUGE_L, near


def request_options(settings, k):
    """How request number k is to be written."""
    return {
        "max_new_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": (settings.seed + k) % 2**31,
    }


def refused_request(k, instruction, error, answers=0):
    """The result of a request that the server refused: its reason is REFUSED_SAID."""
    said = {"instruction": instruction, "reason": REFUSED_SAID}
    about = {"request": k, "accepted": 0, "answers": answers, "refused": str(error)}
    return {**about, "rejected": [said]}


class CountingComplete:
    """A `complete` that keeps its replies: a script goes on after as many as were used."""

    def __init__(self, complete):
        self.complete, self.replies = complete, []

    def __call__(self, prompt, **how):
        self.replies.append(self.complete(prompt, **how))
        return self.replies[-1]


# --- Self-Instruct ------------------------------------------------------------------------------
@dataclass(frozen=True)
class SelfInstructSettings:
    """What makes a file, but for its length: a run that goes on must have the same."""

    backend: str  # as it was named, for the rows' provenance
    seeds_sha256: str
    seed: int = 123
    n_examples: int = 3
    n_total: int = 20
    strict: bool = True  # the parser; False: the original's
    unicode: bool = True  # words and first letters of any script
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 3072


def generate_tasks(k, complete, seeds, pool, settings):
    """(new rows, what came of it) of request number k; the rows are in the pool then."""
    chosen = random.Random(f"{settings.seed}/{k}").sample(seeds, settings.n_examples)
    stop = stop_strings(settings.n_total, settings.strict)
    prompt = encode_prompt(chosen, settings.n_total)
    ids = [task["id"] for task in chosen]
    try:
        completion = complete(prompt, stop=stop, **request_options(settings, k))
    except PromptRejected as error:
        return [], {**refused_request(k, "", error), "seeds": ids}
    found, rejected = post_process_response(
        len(chosen), completion, settings.strict, unicode=settings.unicode
    )
    rows, said = [], [asdict(one) for one in rejected]
    for row in found:
        new, near = is_far(pool, row["instruction"])
        if not new:
            said.append({"instruction": row["instruction"], "reason": TOO_NEAR_SAID, **near})
            continue
        pool.add(row["instruction"])
        rows.append({**row, "backend": settings.backend, "request": k, "seeds": ids, **near})
    reason = completion.finish_reason
    about = {"request": k, "seeds": ids, "finish_reason": reason, "accepted": len(rows)}
    return rows, {**about, "rejected": said}


# --- Magpie -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class MagpieSettings:
    """As `SelfInstructSettings`, of a file that Magpie makes."""

    backend: str
    pre_query: str
    post_query: str
    input_query: str | None = None
    seed: int = 123
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 2048


def generate_magpie_row(k, complete, pool, settings):
    """(a row or none, what came of it) of try number k; the row is in the pool then."""
    near, why, ask = {}, {**REASONS}, CountingComplete(complete)

    def is_new(instruction):
        if not words(instruction):  # nothing is near or far
            why["old"] = "no words"
            return False
        new, found = is_far(pool, instruction)
        near.update(found)
        why["old"] = TOO_NEAR_SAID
        return new

    queries = settings.pre_query, settings.post_query
    how = {**request_options(settings, k), "input_query": settings.input_query}
    try:
        row, what = magpie_try(ask, *queries, is_new, **how)
    except PromptRejected as error:
        return [], refused_request(k, "", error, len(ask.replies))
    about = {"request": k, "accepted": int(what == "kept"), "answers": len(ask.replies)}
    if what != "kept":
        said = {"instruction": row["instruction"][:200], "reason": why[what]}
        return [], {**about, "rejected": [said | (near if what == "old" else {})]}
    pool.add(row["instruction"])
    return [row | {"backend": settings.backend, "request": k, **near}], {**about, "rejected": []}


# --- Reflection ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class ReflectionSettings:
    """As `SelfInstructSettings`, of a file whose rows are gone over again."""

    backend: str
    data_sha256: str
    n_rows: int
    what: str = "response"  # or "instruction", with a new answer
    seed: int = 123
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 2048


def generate_reflected_row(k, complete, rows, settings, system):
    """([row number k as it is now], what came of it); what was replaced is kept as "before".

    A row that can't be asked about, too long for the model or refused, stays as it was.
    """
    row, ask, about = rows[k], CountingComplete(complete), {}
    try:
        now = REFLECTIONS[settings.what](ask, row, system=system, **request_options(settings, k))
        cut = ask.replies and ask.replies[-1].finish_reason == "length"
        reason = "cut off" if cut else "the reply can't be read"
        reason = reason if ask.replies else "it has an input"
    except (PromptTooLong, PromptRejected) as error:
        now, reason = {**row, "reflected": False}, TOO_LONG_SAID
        about = (
            refused_request(k, row["instruction"], error)
            if isinstance(error, PromptRejected)
            else {}
        )
    now = {"instruction": "", **now, "backend": settings.backend, "request": k}
    before = {name: row[name] for name in row if now[name] != row[name]}
    if before:
        now["before"] = before | ({"before": row["before"]} if "before" in row else {})
    said = [] if now["reflected"] else [{"instruction": row["instruction"], "reason": reason}]
    done = {"request": k, "accepted": 1, "answers": len(ask.replies), "rejected": said}
    return [now], {**done, **about, "accepted": 1}
