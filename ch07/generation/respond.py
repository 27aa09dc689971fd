"""Entries -> answers in words: the only place where prompts and generation meet.

The one idea: the prompt is made by the function that made it in training, and the answer is what
follows it, cut out by token ids; no text is searched, replaced or deleted.
"""

from dataclasses import dataclass

from ch07.generation.decoding import Sampling, continue_prompts
from ch07.models.resource_estimate import answers_at_once
from instruction_dataset import BOOK_STYLE, encode_prompt


@dataclass(frozen=True)
class Answer:
    """One answer: its text, and why it stopped ("end", "length" or "context")."""

    text: str
    stopped: str


def respond(
    model,
    tokenizer,
    entries,
    style=BOOK_STYLE,
    max_new_tokens=256,
    sampling=Sampling(),
    generator=None,
):
    """An `Answer` for each entry (its "output", if any, is not looked at).

    Entries are answered in order of prompt length, as many at a time as fit well into memory, and
    returned in their own order; with greedy choice the grouping changes nothing.
    """
    prompts = [encode_prompt(entry, tokenizer, style) for entry in entries]
    _check_lengths(prompts, model.config.context_length)
    answers = [None] * len(entries)
    order = sorted(range(len(entries)), key=lambda i: len(prompts[i]))
    size = answers_at_once(model.config, max(map(len, prompts), default=0) + max_new_tokens)
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        done = continue_prompts(
            model,
            [prompts[i] for i in rows],
            max_new_tokens,
            sampling=sampling,
            generator=generator,
        )
        for i, row in zip(rows, done, strict=True):
            answers[i] = Answer(tokenizer.decode(row.token_ids), row.stopped)
    return answers


def _check_lengths(prompts, context):
    """Refuse a prompt that the model can't read before any other is answered."""
    for number, prompt in enumerate(prompts, start=1):
        if len(prompt) > context:
            raise ValueError(
                f"entry {number} has a prompt of {len(prompt)} tokens, "
                f"but this model reads at most {context}"
            )
