"""A run's answers to its held-out entries, before and after training.

The one idea: an answer depends on its own entry alone, so each rank answers a share of the entries,
and together they have the same answers as a single process.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tiktoken

from ch07.config import ANSWER_TOKENS
from ch07.data.field_names import FIELDS
from ch07.evaluation.metrics import score_answers
from ch07.generation.respond import Answer, respond
from ch07.models.adapters import LanguageModel
from ch07.runs import run_folder
from ch07.utils.atomic_files import write_json
from ch07.utils.distributed import all_gather_list, get_world_size, items_of_rank
from instruction_dataset import Entry, PromptStyle

# Entries per rank between two exchanges of answers: a rank that finishes early waits for the
# others, half an hour at most.
ENTRIES_PER_ROUND = 500
STORED_KEYS = ("system", "history", *FIELDS, "family")  # of an entry, beside its answer
SAMPLE_SIZE = 5  # held-out entries whose answers are printed, before and after training
SAMPLE_MAX_NEW_TOKENS = 32  # of each of these answers


def answer_entries(
    model: LanguageModel,
    tokenizer: tiktoken.Encoding,
    style: PromptStyle,
    entries: Sequence[Entry],
    max_new_tokens: int = ANSWER_TOKENS,
) -> list[Answer]:
    """The answer to each entry; all ranks share the work, and each gets all answers."""
    n_ranks = get_world_size()
    round_size = ENTRIES_PER_ROUND * n_ranks if n_ranks > 1 else max(1, len(entries))
    answers: list[Any] = []
    for i in range(0, len(entries), round_size):
        share = items_of_rank(entries[i : i + round_size])
        own_answers: list[Any] = respond(model, tokenizer, share, style, max_new_tokens)
        answers += all_gather_list(own_answers)
    return answers


def sample_indices(entries: Sequence[dict[str, Any]]) -> list[int]:
    """Indices of a few entries: the first of each family, or the first ones without families."""
    first_of_family: dict[Any, int] = {}
    for i, entry in enumerate(entries):
        first_of_family.setdefault(entry.get("family", i), i)
    return list(first_of_family.values())[:SAMPLE_SIZE]


def save_answers(
    folder: Path, entries: Sequence[dict[str, Any]], answers: Sequence[Answer], seconds: float
) -> dict[str, Any]:
    """Write responses.json and scores.json; returns the scores. `seconds` is the training time."""
    texts = [answer.text for answer in answers]
    stopped = [answer.stopped == "end" for answer in answers]
    responses = [
        {key: entry[key] for key in STORED_KEYS if key in entry}
        | {"model_response": answer.text, "stopped": answer.stopped}
        for entry, answer in zip(entries, answers, strict=True)
    ]
    write_json(folder / run_folder.RESPONSES, responses)
    scores = score_answers(entries, texts, stopped)
    scores["train_seconds"] = round(seconds, 1)
    write_json(folder / run_folder.SCORES, scores)
    return scores
