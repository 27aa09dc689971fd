"""Entries -> answers as text: the only module where prompts and generation meet.

The prompt comes from the same function as in training. The answer is decoded from the new token ids
alone, so no text has to be searched, replaced or deleted.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tiktoken
import torch

from ch07.config import ANSWER_TOKENS
from ch07.data.chat_dataset import drop_oldest_turns, encode_chat_prompt
from ch07.data.tokenizer import end_token_id
from ch07.generation.decoding import GREEDY, Sampling, continue_prompts
from ch07.generation.prompt_lookup import continue_prompt
from ch07.generation.text_stream import TextStream
from ch07.models.adapters import LanguageModel
from ch07.models.architectures import ModelConfig
from ch07.models.resource_estimate import answers_at_once
from ch07.utils.errors import InputError
from instruction_dataset import BOOK_STYLE, Entry, PromptStyle


@dataclass(frozen=True)
class Answer:
    """One answer: its text, and why it stopped ("end", "length" or "context")."""

    text: str
    stopped: str


def respond(
    model: LanguageModel,
    tokenizer: tiktoken.Encoding,
    entries: Sequence[Entry],
    style: PromptStyle = BOOK_STYLE,
    max_new_tokens: int = ANSWER_TOKENS,
    *,
    sampling: Sampling = GREEDY,
    generator: torch.Generator | None = None,
) -> list[Answer]:
    """An `Answer` for each entry, in the order of the entries; their "output" is ignored.

    Entries are answered in order of prompt length, as many at once as fit well into memory; with
    greedy decoding the grouping changes nothing. ValueError for a prompt longer than the context.
    """
    prompts = [encode_chat_prompt(entry, tokenizer, style) for entry in entries]
    return answer_prompts(
        model, tokenizer, prompts, max_new_tokens, sampling=sampling, generator=generator
    )


def answer_prompts(
    model: LanguageModel,
    tokenizer: tiktoken.Encoding,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int = ANSWER_TOKENS,
    *,
    sampling: Sampling = GREEDY,
    generator: torch.Generator | None = None,
) -> list[Answer]:
    """As `respond`, for prompts that are token ids already."""
    _check_lengths(prompts, model.config.context_length)
    longest = max(map(len, prompts), default=0)
    at_once = answers_at_once(model.config, longest + max_new_tokens)
    shortest_first = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
    end_id = end_token_id(tokenizer)
    answers: dict[int, Answer] = {}  # by the position of the entry
    for start in range(0, len(shortest_first), at_once):
        group = shortest_first[start : start + at_once]
        grouped = [prompts[i] for i in group]
        options = {"sampling": sampling, "end_id": end_id, "generator": generator}
        if len(grouped) == 1:
            continuations = [continue_prompt(model, grouped[0], max_new_tokens, **options)]
        else:
            continuations = continue_prompts(model, grouped, max_new_tokens, **options)
        for i, row in zip(group, continuations, strict=True):
            answers[i] = Answer(tokenizer.decode(row.token_ids), row.stopped)
    return [answers[i] for i in range(len(prompts))]


def respond_streaming(
    model: LanguageModel,
    tokenizer: tiktoken.Encoding,
    entry: Entry,
    style: PromptStyle,
    max_new_tokens: int,
    on_text: Callable[[str], object],
    *,
    sampling: Sampling = GREEDY,
    generator: torch.Generator | None = None,
) -> Answer:
    """The `Answer` to one entry, as from `respond`; `on_text` gets its text piece by piece."""
    prompt = encode_chat_prompt(entry, tokenizer, style)
    _check_lengths([prompt], model.config.context_length)
    stream = TextStream(tokenizer, on_text)
    row = continue_prompt(
        model,
        prompt,
        max_new_tokens,
        sampling=sampling,
        end_id=end_token_id(tokenizer),
        generator=generator,
        on_token=stream.add,
    )
    stream.end()
    return Answer(tokenizer.decode(row.token_ids), row.stopped)


def forget_oldest_turns(
    entry: Entry,
    config: ModelConfig,
    tokenizer: tiktoken.Encoding,
    style: PromptStyle,
    max_new_tokens: int,
) -> tuple[Entry, int]:
    """(the entry with the latest turns that leave room for an answer, how many were forgotten).

    Room is left for `max_new_tokens`, but for no more than half of the context.
    """
    room = min(max_new_tokens, config.context_length // 2)
    return drop_oldest_turns(entry, tokenizer, style, config.context_length - room)


def _check_lengths(prompts: Sequence[Sequence[int]], context: int) -> None:
    """ValueError for a prompt that the model can't read, before any other is answered."""
    for number, prompt in enumerate(prompts, start=1):
        if len(prompt) > context:
            raise InputError(
                f"entry {number} has a prompt of {len(prompt)} tokens, "
                f"but this model reads at most {context}"
            )
