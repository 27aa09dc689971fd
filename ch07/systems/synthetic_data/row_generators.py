"""One request to a model -> new rows and a record of what was rejected, for three methods.

Self-Instruct shows a few tasks and asks for more, Magpie sends the start of a chat template, and
Reflection-Tuning has an existing row rewritten. For each there is a function of the request's
number k, as `resumable_jsonl` needs it: request k follows from its number alone, so it can be
repeated. As in Stanford Alpaca's `generate_instruction_following_data`, examples are drawn from the
seeds only, and every new row must differ enough from all seeds and all rows (`novelty_filter`).
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from ch07.data.chat_forms import refuse_conversations
from ch07.data.entries import read_data
from ch07.data.findings import lost_rows, summarize_findings
from ch07.evaluation.metrics import words
from ch07.generation.completion import (
    Completion,
    CompletionError,
    PromptRejected,
    PromptTooLong,
)
from ch07.systems.synthetic_data.magpie import magpie_row
from ch07.systems.synthetic_data.novelty_filter import MAX_ROUGE_L, NoveltyPool
from ch07.systems.synthetic_data.reflection import reflect_instruction, reflect_response
from ch07.systems.synthetic_data.resumable_jsonl import (
    MakeRequest,
    Request,
    ResumableJsonl,
    Row,
)
from ch07.systems.synthetic_data.self_instruct import (
    MAX_LOGGED_CHARACTERS,
    post_process_response,
    stop_strings,
    tasks_prompt,
)
from ch07.utils.errors import DataError

SEED_TASKS = Path(__file__).with_name("seed_tasks.jsonl")
MAX_CONSECUTIVE_REFUSALS = 3  # after these the server, not the prompt, is at fault
# Reasons for rejecting a row, as they are written to the log.
TOO_SIMILAR = "too near to another"
TOO_LONG = "too long for the model"
REFUSED = "refused by the server"
MAGPIE_REASONS = {  # by the outcome of `magpie_row`
    "empty": "empty",
    "cut": "cut off",
    "unanswered": "no answer",
    "too long": TOO_LONG,
}
REFLECTIONS = {"response": reflect_response, "instruction": reflect_instruction}


def load_seeds(
    path: str | Path = SEED_TASKS,
    n_examples: int = 3,
    log: Callable[[str], None] = lambda text: None,
    skip_bad_rows: bool = False,
) -> tuple[list[Row], str]:
    """(seeds, sha256 of the file): entries with an "id"; DataError if they are too few.

    `log(text)` is called with what is worth knowing about the file.
    """
    file = read_data(path, skip_bad_rows)
    refuse_conversations(file.entries, file.places, file.path, "self-instruct")
    for line in summarize_findings(lost_rows(file.findings)):
        log(f"seeds: {line}")
    if len(file.entries) < n_examples:
        raise DataError(f"{path}: {len(file.entries)} tasks, but a prompt needs {n_examples}")
    seeds = []
    for entry, place in zip(file.entries, file.places, strict=True):
        seeds.append({**entry, "id": str(entry.get("id", place))})
    return seeds, file.sha256


def check_novelty(pool: NoveltyPool, instruction: str) -> tuple[bool, dict[str, Any]]:
    """(whether it is new, {"nearest", "score"} of its nearest neighbour in the pool)."""
    index, score = pool.nearest(instruction)
    neighbour = {} if index is None else {"nearest": pool.texts[index], "score": score}
    return score <= MAX_ROUGE_L, neighbour


class SamplingSettings(Protocol):
    """What the settings of all methods have in common."""

    @property
    def max_new_tokens(self) -> int: ...
    @property
    def temperature(self) -> float: ...
    @property
    def top_p(self) -> float: ...
    @property
    def seed(self) -> int: ...


def request_options(settings: SamplingSettings, k: int) -> dict[str, Any]:
    """The options of `complete` for request number k; each request has a seed of its own."""
    return {
        "max_new_tokens": settings.max_new_tokens,
        "temperature": settings.temperature,
        "top_p": settings.top_p,
        "seed": (settings.seed + k) % 2**31,
    }


def refused_request(k: int, instruction: str, error: Exception, answers: int = 0) -> Request:
    """The record of a request that the server refused; `answers` came before it refused."""
    return {
        "request": k,
        "accepted": 0,
        "answers": answers,
        "refused": str(error),
        "rejected": [{"instruction": instruction, "reason": REFUSED}],
    }


def stop_if_all_refused(
    file: ResumableJsonl, make_request: MakeRequest, k: int
) -> tuple[list[Row], Request]:
    """Request number k; CompletionError if it is refused, and so were several before it, or all."""
    latest = file.requests[-MAX_CONSECUTIVE_REFUSALS:]
    rows, request = make_request(k)
    if "refused" in request and all("refused" in earlier for earlier in latest):
        raise CompletionError(request["refused"])
    return rows, request


class RecordingComplete:
    """A `complete` that records its replies: a resumed script skips those already used."""

    def __init__(self, complete: Callable[..., Completion]) -> None:
        self.complete = complete
        self.replies: list[Completion] = []

    def __call__(self, prompt: str, **options: Any) -> Completion:
        reply = self.complete(prompt, **options)
        self.replies.append(reply)
        return reply


# --- Self-Instruct ------------------------------------------------------------------------------
@dataclass(frozen=True)
class SelfInstructSettings:
    """What determines a file, apart from its length; a resumed run must have the same settings."""

    backend: str  # its name, to record where rows come from
    seeds_sha256: str
    seed: int = 123
    n_examples: int = 3  # tasks shown in the prompt
    n_total: int = 20  # tasks after a full answer, the examples included
    strict: bool = True  # which parser; False: the original's
    unicode: bool = True  # accept words and first letters of any script
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 3072


def generate_tasks(
    k: int,
    *,
    complete: Callable[..., Completion],
    seeds: Sequence[Row],
    pool: NoveltyPool,
    settings: SelfInstructSettings,
) -> tuple[list[Row], Request]:
    """Request number k: (new rows, record of the request). New instructions join the pool."""
    examples = random.Random(f"{settings.seed}/{k}").sample(seeds, settings.n_examples)
    prompt = tasks_prompt(examples, settings.n_total)
    stop = stop_strings(settings.n_total, settings.strict)
    ids = [task["id"] for task in examples]
    try:
        completion = complete(prompt, stop=stop, **request_options(settings, k))
    except PromptRejected as error:
        return [], {**refused_request(k, "", error), "seeds": ids}
    parsed, rejected = post_process_response(
        len(examples), completion, settings.strict, unicode=settings.unicode
    )
    rows: list[Row] = []
    rejections: list[dict[str, Any]] = [asdict(task) for task in rejected]
    for row in parsed:
        new, neighbour = check_novelty(pool, row["instruction"])
        if not new:
            rejections.append(
                {"instruction": row["instruction"], "reason": TOO_SIMILAR, **neighbour}
            )
            continue
        pool.add(row["instruction"])
        rows.append({**row, "backend": settings.backend, "request": k, "seeds": ids, **neighbour})
    return rows, {
        "request": k,
        "seeds": ids,
        "finish_reason": completion.finish_reason,
        "accepted": len(rows),
        "rejected": rejections,
    }


# --- Magpie -------------------------------------------------------------------------------------
@dataclass(frozen=True)
class MagpieSettings:
    """What determines a file made by Magpie, as in `SelfInstructSettings`."""

    backend: str
    pre_query: str
    post_query: str
    input_query: str | None = None
    seed: int = 123
    temperature: float = 1.0
    top_p: float = 1.0
    max_new_tokens: int = 2048


def generate_magpie_row(
    k: int,
    *,
    complete: Callable[..., Completion],
    pool: NoveltyPool,
    settings: MagpieSettings,
) -> tuple[list[Row], Request]:
    """Request number k: ([a row] or [], record of the request). The instruction joins the pool."""
    recording = RecordingComplete(complete)
    neighbour: dict[str, Any] = {}
    reasons = dict(MAGPIE_REASONS)

    def is_new(instruction: str) -> bool:
        if not words(instruction):  # without words there is nothing to compare
            reasons["old"] = "no words"
            return False
        new, found = check_novelty(pool, instruction)
        neighbour.update(found)
        reasons["old"] = TOO_SIMILAR
        return new

    try:
        row, outcome = magpie_row(
            recording,
            settings.pre_query,
            settings.post_query,
            is_new=is_new,
            input_query=settings.input_query,
            **request_options(settings, k),
        )
    except PromptRejected as error:
        return [], refused_request(k, "", error, len(recording.replies))
    accepted = outcome == "kept"
    record = {"request": k, "accepted": int(accepted), "answers": len(recording.replies)}
    if accepted:
        pool.add(row["instruction"])
        new_row = {**row, "backend": settings.backend, "request": k, **neighbour}
        return [new_row], {**record, "rejected": []}
    rejection = {
        "instruction": row["instruction"][:MAX_LOGGED_CHARACTERS],
        "reason": reasons[outcome],
    }
    if outcome == "old":
        rejection |= neighbour
    return [], {**record, "rejected": [rejection]}


# --- Reflection ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class ReflectionSettings:
    """What determines a file of reflected rows, as in `SelfInstructSettings`."""

    backend: str
    data_sha256: str
    n_rows: int
    what: str = "response"  # what is rewritten; or "instruction", together with its answer
    seed: int = 123
    temperature: float = 0.0
    top_p: float = 1.0
    max_new_tokens: int = 2048


def generate_reflected_row(
    k: int,
    *,
    complete: Callable[..., Completion],
    rows: Sequence[Row],
    settings: ReflectionSettings,
    system: str | None,
) -> tuple[list[Row], Request]:
    """Request number k: ([row k, rewritten if possible], record of the request).

    Replaced fields are kept under "before". A row whose prompt is too long, or refused, stays
    unchanged.
    """
    row = rows[k]
    reflect = REFLECTIONS[settings.what]
    recording = RecordingComplete(complete)
    record: Request = {"request": k, "accepted": 1, "answers": 0, "rejected": []}
    try:
        new_row = reflect(recording, row, system=system, **request_options(settings, k))
        reason = _why_not_reflected(recording.replies)
    except PromptTooLong:
        new_row = {**row, "reflected": False}
        reason = TOO_LONG
    except PromptRejected as error:
        new_row = {**row, "reflected": False}
        reason = REFUSED
        record["refused"] = str(error)
    record["answers"] = len(recording.replies)
    if not new_row["reflected"]:
        record["rejected"] = [{"instruction": row["instruction"], "reason": reason}]
    new_row = {"instruction": "", **new_row, "backend": settings.backend, "request": k}
    before = {name: row[name] for name in row if new_row[name] != row[name]}
    if before:
        if "before" in row:
            before["before"] = row["before"]
        new_row["before"] = before
    return [new_row], record


def _why_not_reflected(replies: Sequence[Completion]) -> str:
    if not replies:
        return "it has an input"
    return "cut off" if replies[-1].finish_reason == "length" else "the reply can't be read"
