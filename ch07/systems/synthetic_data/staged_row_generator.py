"""One request of Self-Instruct's own pipeline -> rows: one answer for a list, two for each task.

As in `row_generators`, request k follows from its number; of the eight tasks that it shows, two are
the model's own as soon as there are any (Self-Instruct, Wang et al. 2023, section 2.2). A task
has up to five examples, each of which becomes a row. Presence penalties are left out: not every
generator has them.
"""

import random
from dataclasses import dataclass

from ch07.generation.completion import PromptRejected, PromptTooLong
from ch07.systems.synthetic_data import self_instruct_stages as stages
from ch07.systems.synthetic_data.row_generators import (
    REFUSED_SAID,
    TOO_LONG_SAID,
    TOO_NEAR_SAID,
    CountingComplete,
    is_far,
    refused_request,
    request_options,
)
from ch07.systems.synthetic_data.self_instruct import SELF_INSTRUCT_WORDS, reason_against

OWN = 2  # of the tasks that are shown, as many are a model's
SURE = {"temperature": 0.0, "top_p": 1.0}  # stages 2 and 3 are not drawn
KIND_TOKENS = 3
INSTANCE_TOKENS = 350


@dataclass(frozen=True)
class StagesSettings:
    """As `asking.Settings`, of a file that is made in stages."""

    backend: str
    seeds_sha256: str
    seed: int = 123
    n_examples: int = 8
    unicode: bool = True
    temperature: float = 0.7
    top_p: float = 0.5
    max_new_tokens: int = 1024


def generate_tasks_in_stages(k, complete, seeds, pool, rows, settings):
    """(new rows, what came of it) of request number k; `rows` are all that were made before it."""
    shown = _shown(random.Random(f"{settings.seed}/{k}"), seeds, rows, settings.n_examples)
    ask, said, new = CountingComplete(complete), [], []
    try:
        first = ask(
            stages.instructions_prompt(shown), stop=stages.STOPS[0], **request_options(settings, k)
        )
    except PromptRejected as error:
        return [], refused_request(k, "", error)
    for instruction in stages.read_instructions(first):
        reason, near = _against(instruction, pool, settings)
        found, why = ([], reason) if reason else _instances(ask, instruction, k, settings)
        if found:
            pool.add(instruction)
        else:
            said.append({"instruction": instruction, "reason": why, **near})
        about = {"backend": settings.backend, "request": k, **near}
        new += [{"instruction": instruction, **instance, **about} for instance in found]
    about = {"request": k, "accepted": len(new), "answers": len(ask.replies)}
    return new, {**about, "rejected": said}


def _shown(draw, seeds, rows, n):
    """Some of a model's tasks and the rest of people's, in any order."""
    own = list(dict.fromkeys(row["instruction"] for row in rows))
    chosen = draw.sample(own, min(OWN, len(own), n - 1))
    people = draw.sample([seed["instruction"] for seed in seeds], n - len(chosen))
    return draw.sample([*chosen, *people], n)


def _against(instruction, pool, settings):
    """(why it isn't wanted or None, its nearest neighbour)."""
    reason = reason_against(instruction, SELF_INSTRUCT_WORDS, settings.unicode)
    if reason is not None:
        return reason, {}
    new, near = is_far(pool, instruction)
    return (None if new else TOO_NEAR_SAID), near


def _instances(ask, instruction, k, settings):
    """(its examples, as {"input", "output", "classification"}, why there are none)."""
    how = {**request_options(settings, k), **SURE}
    of_kind, of_examples = stages.STOPS[1:]
    try:
        kind = stages.kind_prompt(instruction)
        answer = ask(kind, stop=of_kind, **{**how, "max_new_tokens": KIND_TOKENS})
        labels = stages.is_classification(answer)
        prompt = stages.instances_prompt(instruction, labels)
        answer = ask(prompt, stop=of_examples, **{**how, "max_new_tokens": INSTANCE_TOKENS})
    except PromptTooLong:
        return [], TOO_LONG_SAID
    except PromptRejected:
        return [], REFUSED_SAID
    read = stages.read_labelled_instances if labels else stages.read_instances
    found = [{"input": text, "output": output} for text, output in read(answer)]
    return [{**one, "classification": labels} for one in found], "no example that can be used"
