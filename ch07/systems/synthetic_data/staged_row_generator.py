"""One request of Self-Instruct's own pipeline -> new rows and a record of what was rejected.

A request asks for a list of instructions, then twice for each instruction: whether it is a
classification, and for instances. As in `row_generators`, request k follows from its number and the
requests before it. Two of the eight instructions shown in the prompt are machine-generated once
there are any (Self-Instruct, Wang et al. 2023, section 2.2). Each of an instruction's instances,
five at most, becomes a row. An instruction that passes the filters counts from then on, in the
novelty test and in prompts, whether or not it gets instances.

The original runs each stage over all instructions before the next one begins, and asks for five
things at a time; here one instruction goes through all stages, so a file can end at any row. Its
presence penalties are omitted, since not every server supports them.
"""

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ch07.generation.completion import Completion, PromptRejected, PromptTooLong
from ch07.systems.synthetic_data import self_instruct_stages as stages
from ch07.systems.synthetic_data.novelty_filter import NoveltyPool
from ch07.systems.synthetic_data.resumable_jsonl import Request, Row
from ch07.systems.synthetic_data.row_generators import (
    REFUSED,
    TOO_LONG,
    TOO_SIMILAR,
    RecordingComplete,
    check_novelty,
    refused_request,
    request_options,
)
from ch07.systems.synthetic_data.self_instruct import SELF_INSTRUCT_BLACKLIST, rejection_reason

MAX_MACHINE_INSTRUCTIONS = 2  # of the instructions shown in a prompt
GREEDY = {"temperature": 0.0, "top_p": 1.0}  # stages 2 and 3 do not sample
MAX_CLASSIFICATION_TOKENS = 3
MAX_INSTANCES_TOKENS = 350
MAX_LABELLED_INSTANCES_TOKENS = 300


@dataclass(frozen=True)
class StagesSettings:
    """What determines a file made in stages, as in `row_generators.SelfInstructSettings`."""

    backend: str
    seeds_sha256: str
    seed: int = 123
    n_examples: int = 8
    original: bool = False  # stop and spell instructions as the original does
    unicode: bool = True  # accept words and first letters of any script; the original doesn't
    temperature: float = 0.7
    top_p: float = 0.5
    max_new_tokens: int = 1024


def generate_tasks_in_stages(
    k: int,
    *,
    complete: Callable[..., Completion],
    seeds: Sequence[Row],
    pool: NoveltyPool,
    requests: Sequence[Request],
    settings: StagesSettings,
) -> tuple[list[Row], Request]:
    """Request number k: (new rows, record of the request); `requests` are those made before it.

    New instructions join the pool, which already has those of the seeds and of `requests`.
    """
    generator = random.Random(f"{settings.seed}/{k}")
    examples = _examples(generator, seeds, machine_instructions(requests), settings.n_examples)
    recording = RecordingComplete(complete)
    options = request_options(settings, k)
    stop = stages.instructions_stop(settings.original)
    try:
        answer = recording(stages.instructions_prompt(examples), stop=stop, **options)
    except PromptRejected as error:
        return [], refused_request(k, "", error)
    new_rows: list[Row] = []
    new_instructions: list[str] = []
    rejections: list[dict[str, Any]] = []
    for instruction in stages.parse_instructions(answer, settings.original):
        reason, neighbour = _check_instruction(instruction, pool, settings)
        instances: list[dict[str, Any]] = []
        if reason is None:
            pool.add(instruction)
            new_instructions.append(instruction)
            ask = partial(recording, **{**options, **GREEDY})
            instances, reason = _instances(ask, instruction, generator)
        if not instances:
            rejections.append({"instruction": instruction, "reason": reason, **neighbour})
            continue
        origin = {"backend": settings.backend, "request": k, **neighbour}
        new_rows += [{"instruction": instruction, **instance, **origin} for instance in instances]
    return new_rows, {
        "request": k,
        "new_instructions": new_instructions,
        "accepted": len(new_rows),
        "answers": len(recording.replies),
        "rejected": rejections,
    }


def machine_instructions(requests: Iterable[Request]) -> list[str]:
    """The instructions that have joined the pool in these requests, in order."""
    return [
        instruction
        for request in requests
        for instruction in request.get("new_instructions", [])  # none if it was refused
    ]


def _examples(
    generator: random.Random, seeds: Sequence[Row], machine: Sequence[str], n: int
) -> list[str]:
    """Instructions for the prompt: some machine-generated, the rest from the seeds, shuffled."""
    n_machine = min(MAX_MACHINE_INSTRUCTIONS, len(machine), n - 1)
    chosen = generator.sample(machine, n_machine)
    chosen += generator.sample([seed["instruction"] for seed in seeds], n - n_machine)
    return generator.sample(chosen, n)


def _check_instruction(
    instruction: str, pool: NoveltyPool, settings: StagesSettings
) -> tuple[str | None, dict[str, Any]]:
    """(why it is rejected or None, its nearest neighbour in the pool).

    The filters see it in lower case but for its first letter, as in the original, so they decide
    alike however it is spelled here.
    """
    spelled = instruction.capitalize()
    reason = rejection_reason(spelled, SELF_INSTRUCT_BLACKLIST, settings.unicode)
    if reason is not None:
        return reason, {}
    new, neighbour = check_novelty(pool, instruction)
    return (None if new else TOO_SIMILAR), neighbour


def _instances(
    complete: Callable[..., Completion], instruction: str, generator: random.Random
) -> tuple[list[dict[str, Any]], str | None]:
    """(the instances as {"input", "output", "classification"}, why there are none or None)."""
    try:
        answer = complete(
            stages.classification_prompt(instruction),
            stop=stages.CLASSIFICATION_STOP,
            max_new_tokens=MAX_CLASSIFICATION_TOKENS,
        )
        classification = stages.is_classification(answer)
        max_tokens = MAX_LABELLED_INSTANCES_TOKENS if classification else MAX_INSTANCES_TOKENS
        answer = complete(
            stages.instances_prompt(instruction, classification),
            stop=stages.INSTANCES_STOP,
            max_new_tokens=max_tokens,
        )
    except PromptTooLong:
        return [], TOO_LONG
    except PromptRejected:
        return [], REFUSED
    parse = stages.parse_labelled_instances if classification else stages.parse_instances
    instances = []
    for text, output in stages.draw_instances(parse(answer), generator):
        instances.append({"input": text, "output": output, "classification": classification})
    return instances, None if instances else "no example that can be used"
