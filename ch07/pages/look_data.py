"""What the page `look` shows of a run: its answers, its prompt, its tokenizer, its weights.

The one idea: a small model's weights are put into the page, which then computes everything itself,
for any prompt. A large model's would make a page of hundreds of megabytes, so what the page would
compute is computed here instead, for some of the held-out questions.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ch07.data.byte_pair_vocabulary import ModelTokenizer, bytes_by_character, vocabulary_of
from ch07.data.chat_dataset import encode_chat_prompt
from ch07.data.chat_forms import full_prompt, is_chat
from ch07.data.tokenizer import end_token_id, merges_of, vocabulary_files
from ch07.evaluation.metrics import exact_match
from ch07.models.adapters import base_model
from ch07.models.architectures import BaseModel
from ch07.models.saved_run import Run
from ch07.pages.look_readings import readings_block
from ch07.pages.look_weights import BITS, size_in_page, weights_block
from ch07.pages.one_file import one_file_page
from ch07.pages.style_pieces import style_pieces
from ch07.runs import run_folder
from ch07.utils.atomic_files import read_json
from ch07.utils.console import count
from ch07.utils.errors import InputError, OptionError, RunFolderError
from instruction_dataset import Entry, check_fields, is_valid_unicode

ANSWERS = 20  # that are computed for a model that doesn't fit into the page
MEGABYTE = 10**6
# Attention weights that the page keeps, in all layers and heads: 128 MB as float32.
MAX_ATTENTION_WEIGHTS = 32 * 10**6


@dataclass(frozen=True)
class LookOptions:
    """What the page holds, and how large it may be."""

    answers: int | None = None  # held-out answers; None: all, or `ANSWERS` that are computed
    max_megabytes: float = 64.0
    bits: int = max(BITS)  # per weight
    answers_only: bool = False  # leave the weights out, even if they fit


def look_page(run: Run, options: LookOptions, report: Callable[[str], None]) -> str:
    """The page of a run as one HTML text; `report` gets a line on what was left out, and why.

    RunFolderError or OptionError if there is nothing to show, or if it doesn't fit.
    """
    if run_folder.has_prefix(run.config):
        raise RunFolderError(
            f"{run.folder} was trained with --method prefix, and look can't show a prefix: choose "
            "a run with --method full or lora"
        )
    model = base_model(run.model)
    entries = read_answers(run)
    size = size_in_page(model, options.bits) / MEGABYTE
    computed = options.answers_only or size > options.max_megabytes
    if computed and not options.answers_only:
        report(
            f"the model's weights would take {size:,.0f} MB of the page, which may have "
            f"{options.max_megabytes:,.0f} (--max-size): the page shows computed answers, and no "
            "prompt can be edited"
        )
    chosen = choose_answers(entries, options.answers or (ANSWERS if computed else None))
    if len(chosen) < len(entries):
        report(f"{len(chosen)} of {count(len(entries), 'held-out answer')} (--answers)")
    blocks: dict[str, object] = {"look": facts_block(run, model, chosen, len(entries), computed)}
    if computed:
        if not chosen:
            raise RunFolderError(f"{run.folder} has no held-out answers that a page could show")
        blocks["readings"] = readings_block(run, model, chosen, report)
    else:
        blocks["merges"] = merges_text(run)
        blocks["model"] = weights_block(model, options.bits)
    return _checked_size(one_file_page("look", blocks, workers="blob:"), options)


def _checked_size(page: str, options: LookOptions) -> str:
    size = len(page.encode()) / MEGABYTE
    if size > options.max_megabytes:
        raise OptionError(
            f"the page would have {size:,.1f} MB, but may have {options.max_megabytes:,.1f}: give "
            "a smaller number with --answers, or a larger one with --max-size"
        )
    return page


def read_answers(run: Run) -> list[Entry]:
    """The held-out entries with the run's answers, if there are any.

    RunFolderError if the file can't be used.
    """
    path = run.folder / run_folder.RESPONSES
    if not path.is_file():
        return []
    try:
        entries = read_json(path)
        if not isinstance(entries, list):
            raise InputError("it is not a list of answers")
        for number, entry in enumerate(entries, start=1):
            _check_answer(number, entry)
        return entries
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path} can't be read: {error}") from None


def _check_answer(number: int, entry: Any) -> None:
    """ValueError unless it is an entry, with its turns before if it has some, and an answer."""
    check_fields(number, entry)
    history = entry.get("history", [])
    if not isinstance(history, list):
        raise InputError(f"entry {number}: 'history' is not a list")
    for turn in history:
        check_fields(number, turn)
    for name, text in (
        ("model_response", entry.get("model_response")),
        ("system", entry.get("system", "")),
    ):
        if not isinstance(text, str) or not is_valid_unicode(text):
            raise InputError(f"entry {number} has no valid text under {name!r}")


def is_right(entry: Entry) -> bool:
    """Whether a run's answer is the right one, as its scores count it."""
    return exact_match(entry["model_response"], entry["output"]) == 1.0


def choose_answers(entries: Sequence[Entry], n: int | None) -> list[Entry]:
    """At most n entries in their order: the first wrong answers are up to half of them."""
    if n is None or n >= len(entries):
        return list(entries)
    wrong = [i for i, entry in enumerate(entries) if not is_right(entry)]
    chosen = set(wrong[: n // 2])
    for i in range(len(entries)):
        if len(chosen) < n:
            chosen.add(i)
    return [entries[i] for i in sorted(chosen)]


def facts_block(
    run: Run, model: BaseModel, entries: Sequence[Entry], n_held_out: int, computed: bool
) -> dict[str, Any]:
    """The block "look": the run in numbers, its prompt style, its tokenizer, its answers."""
    config = model.config
    n_heads = config.n_layers * config.n_heads
    limit = min(config.context_length, math.isqrt(2 * MAX_ATTENTION_WEIGHTS // n_heads))
    return {
        "name": run.folder.resolve().name,
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "layers": config.n_layers,
        "heads": config.n_heads,
        "limit": limit,
        "isComputed": computed,
        "isTextRun": bool(run.config["options"].get("text")),
        "isTrainedOnAnswers": run.config["options"].get("loss_on", "all") != "all",
        "style": style_pieces(run.style),
        "tokenizer": tokenizer_facts(run),
        "held_out": n_held_out,
        "questions": [_question(run, entry) for entry in entries],
    }


def tokenizer_facts(run: Run) -> dict[str, Any]:
    """What `tokenizer.js` needs besides the merges: of GPT-2's own, only the end and its mark."""
    tokenizer = run.tokenizer
    facts: dict[str, Any] = {
        "end": end_token_id(tokenizer),
        "marks": {mark: tokenizer.encode_single_token(mark) for mark in _marks(tokenizer)},
        "vocabulary": None,
    }
    vocabulary = vocabulary_of(tokenizer)
    if isinstance(tokenizer, ModelTokenizer) and vocabulary is not None:
        letters = {byte: letter for letter, byte in bytes_by_character().items()}
        facts["vocabulary"] = {
            "tokens": list(vocabulary.tokens),
            "marks": dict(vocabulary.marks),
            "end": facts["end"],
            "words": vocabulary.words,
            "missing": [letters[byte] for byte in tokenizer.missing_bytes],
        }
    return facts


def _marks(tokenizer: Any) -> list[str]:
    return sorted(tokenizer.special_tokens_set, key=tokenizer.encode_single_token)


def merges_text(run: Run) -> str:
    """GPT-2's merges, one a line; empty for a vocabulary of the model's own, which has tokens."""
    if vocabulary_of(run.tokenizer) is not None:
        return ""
    return "\n".join(merges_of(vocabulary_files()))


def _question(run: Run, entry: Entry) -> dict[str, Any]:
    """A held-out entry as the page has it; what comes before a conversation's last turn as ids."""
    question: dict[str, Any] = {
        "instruction": entry["instruction"],
        "input": entry.get("input") or "",
        "output": entry["output"],
        "answer": entry["model_response"],
        "isRight": is_right(entry),
        "family": _text_or_none(entry, "family"),
    }
    if is_chat(entry):
        question["prompt"] = full_prompt(entry, run.style)
        question["ids"] = encode_chat_prompt(entry, run.tokenizer, run.style)
    return question


def _text_or_none(entry: Mapping[str, Any], key: str) -> str | None:
    value = entry.get(key)
    return value if isinstance(value, str) else None
