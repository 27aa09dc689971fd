"""One interface for everything that generates text: a script, a run on disk, a server.

    complete(prompt, **options) -> Completion(text, finish_reason)

Code that needs text from a model takes such a function (`Complete`) and doesn't know what is behind
it, so that everything can be tried and tested with a list of answers. This module defines the
options, their ranges, and what a stop string does. It knows nothing of files, models or networks:
`ch07.generation.http_backend` asks a server, `ch07.generation.backends` a run.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ch07.config import ANSWER_TOKENS
from ch07.data.tokenizer import load_tokenizer
from ch07.generation.thoughts import drop_thoughts
from ch07.utils.errors import InputError, UserError
from ch07.utils.validation import has_lone_surrogate

FINISH_REASONS = ("stop", "length")
MAX_NEW_TOKENS = 10**6  # the largest max_new_tokens that is accepted
MAX_SEED = 2**31 - 1


class CompletionError(UserError, RuntimeError):
    """No text could be generated; the message says why, and what to do."""


class PromptRejected(CompletionError):
    """The server works, but refuses this prompt: asking again would not help."""


class SchemaUnsupported(CompletionError):
    """Replies can't be bound to a JSON schema here: ask without one, in words alone."""


class PromptTooLong(UserError, ValueError):
    """The prompt has more tokens than the model reads; the message has both numbers."""


@dataclass(frozen=True)
class Completion:
    """What was written, and why it ends: "stop" (by itself, or at a stop string) or "length".

    Half a character (a lone surrogate, which a server can send) is replaced by U+FFFD, as decoders
    do. Thoughts before the answer are dropped.
    """

    text: str
    finish_reason: str = "stop"

    def __post_init__(self) -> None:
        if self.finish_reason not in FINISH_REASONS:
            raise InputError(f"finish_reason is {self.finish_reason!r}, but must be stop or length")
        answer = drop_thoughts(self.text)
        object.__setattr__(self, "text", re.sub("[\ud800-\udfff]", "\ufffd", answer))


@dataclass(frozen=True)
class CompletionOptions:
    """The options of every `complete`; ValueError for values that no generator could use."""

    max_new_tokens: int = ANSWER_TOKENS
    temperature: float = 0.0  # 0: always the likeliest token
    top_p: float | None = None
    stop: Sequence[str] = ()  # the text ends before the first of these
    seed: int | None = None
    system: str | None = None  # a message before the prompt, where there are messages
    schema: Mapping[str, Any] | None = None  # the JSON schema of the reply, where servers take one

    def __post_init__(self) -> None:
        if type(self.max_new_tokens) is not int or not 1 <= self.max_new_tokens <= MAX_NEW_TOKENS:
            raise InputError(f"max_new_tokens is {self.max_new_tokens!r}, but must be 1 to 10**6")
        if not 0 <= self.temperature < math.inf:
            raise InputError(f"temperature is {self.temperature}, but must be 0 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}, but must be above 0 and at most 1")
        if isinstance(self.stop, str) or not all(isinstance(s, str) and s for s in self.stop):
            raise InputError(f"stop is {self.stop!r}, but must be a list of texts, none of them ''")
        object.__setattr__(self, "stop", tuple(self.stop))
        if self.seed is not None and (type(self.seed) is not int or not 0 <= self.seed <= MAX_SEED):
            raise InputError(f"seed is {self.seed!r}, but must be between 0 and 2**31 - 1")
        if self.system is not None:
            check_prompt(self.system, "the system message")
        if self.schema is not None and not isinstance(self.schema, Mapping):
            raise InputError(f"schema is {self.schema!r}, but must be a JSON schema: a dict")


class Complete(Protocol):
    """Continues or answers a prompt; `options` are the fields of `CompletionOptions`.

    ValueError for a prompt or an option that can't be used, `PromptTooLong` for a prompt beyond the
    model's context, `SchemaUnsupported` for a schema where there can be none, CompletionError if no
    text could be generated.
    """

    def __call__(self, prompt: str, **options: Any) -> Completion: ...


def check_prompt(prompt: str, name: str = "the prompt") -> None:
    """ValueError unless it is text that can be sent; `name` is its name in the message."""
    if not isinstance(prompt, str) or not prompt:
        raise InputError(f"{name} must be text that is not empty")
    if has_lone_surrogate(prompt):
        raise InputError(f"{name} contains half a character (a lone surrogate)")


def refuse_schema(options: CompletionOptions) -> None:
    """SchemaUnsupported if there is a schema: for whatever writes free text only."""
    if options.schema is not None:
        raise SchemaUnsupported("the reply can't be bound to a JSON schema: ask without one")


def finished_completion(text: str, finish_reason: str, stop: Sequence[str]) -> Completion:
    r"""A `Completion` that ends before the first stop string, if there is one in the text.

    >>> finished_completion("one\n2. two", "length", ["\n2.", "two"])
    Completion(text='one', finish_reason='stop')
    """
    text = drop_thoughts(text)  # a stop string in a thought doesn't end the answer
    positions = [text.find(stop_string) for stop_string in stop]
    found = [position for position in positions if position >= 0]
    return Completion(text[: min(found)]) if found else Completion(text, finish_reason)


ScriptedAnswer = str | Completion | Exception


def scripted(
    answers: Iterable[ScriptedAnswer] | Callable[[str], ScriptedAnswer], first: int = 0
) -> Complete:
    """A `complete` that takes its answers from a list, in order, or from a function of the prompt.

    An answer is a text, a `Completion`, or an exception to raise. Limits work as on a server: first
    `max_new_tokens` (of GPT-2's tokens), then the stop strings. Answers before number `first` are
    skipped; CompletionError when the list is used up, `SchemaUnsupported` for a schema.

    >>> complete = scripted(["Paris. And more", "Rome"])
    >>> complete("The capital of France is", stop=["."])
    Completion(text='Paris', finish_reason='stop')
    >>> complete("That of Italy is", max_new_tokens=10).text
    'Rome'
    """
    next_answer = answers if callable(answers) else _answers_in_order(list(answers)[first:])

    def complete(prompt: str, **options: Any) -> Completion:
        limits = CompletionOptions(**options)
        check_prompt(prompt)
        refuse_schema(limits)
        answer = next_answer(prompt)
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, str):
            answer = Completion(answer)
        text = truncate_text(answer.text, limits.max_new_tokens)
        finish_reason = answer.finish_reason if text == answer.text else "length"
        return finished_completion(text, finish_reason, limits.stop)

    return complete


def _answers_in_order(answers: Sequence[ScriptedAnswer]) -> Callable[[str], ScriptedAnswer]:
    """A function that returns one answer after the other, whatever the prompt."""
    remaining = iter(answers)

    def next_answer(prompt: str) -> ScriptedAnswer:
        for answer in remaining:
            return answer
        return CompletionError("the script has no more answers: add some to it")

    return next_answer


def truncate_text(text: str, max_new_tokens: int) -> str:
    """The text, cut after so many of GPT-2's tokens.

    >>> truncate_text("one two three", 2)
    'one two'
    """
    if len(text.encode()) <= max_new_tokens:  # a token has at least one byte
        return text
    tokenizer = load_tokenizer()
    token_ids = tokenizer.encode_ordinary(text)
    if len(token_ids) <= max_new_tokens:
        return text
    return tokenizer.decode(token_ids[:max_new_tokens])
