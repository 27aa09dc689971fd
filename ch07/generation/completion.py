"""One interface for whatever writes text: a script, a run on disk, a server.

    complete(prompt, **options) -> Completion(text, finish_reason)

The one idea: who wants text from a model is given a plain function, and can't tell what stands
behind it; so everything can be tried, and tested, with a list of answers. The options, what they
may be, and what a stop string does stand here once. Knows nothing of files, models or networks:
`ch07.generation.http_backend` asks a server, `ch07.generation.backends` a run.
"""

import math
import re
from dataclasses import dataclass

from ch07.data.tokenizer import load_tokenizer
from ch07.utils.validation import has_lone_surrogate

REASONS = ("stop", "length")


class CompletionError(RuntimeError):
    """No text could be had; the message says why, and what to do."""


class Refused(CompletionError):
    """The server has answered, but not this prompt: asking once more would not help."""


class TooLong(ValueError):
    """The prompt has more tokens than the model reads; the message has both numbers."""


@dataclass(frozen=True)
class Completion:
    """What was written, and why it ends: "stop" (by itself, or at a stop string) or "length".

    Half a character (a lone surrogate, as a server may send one) becomes U+FFFD, as everywhere.
    """

    text: str
    finish_reason: str = "stop"

    def __post_init__(self):
        if self.finish_reason not in REASONS:
            raise ValueError(f"finish_reason is {self.finish_reason!r}: neither stop nor length")
        object.__setattr__(self, "text", re.sub("[\ud800-\udfff]", "\ufffd", self.text))


@dataclass(frozen=True)
class Options:
    """What every `complete` can be told; ValueError for what no generator could do."""

    max_new_tokens: int = 256
    temperature: float = 0.0  # 0: always the likeliest token
    top_p: float | None = None
    stop: tuple = ()  # the text ends before the first of these
    seed: int | None = None
    system: str | None = None  # a message that stands before the prompt, where there are messages

    def __post_init__(self):
        if type(self.max_new_tokens) is not int or not 1 <= self.max_new_tokens <= 10**6:
            raise ValueError(f"max_new_tokens is {self.max_new_tokens!r}, but must be 1 to 10**6")
        if not 0 <= self.temperature < math.inf:
            raise ValueError(f"temperature is {self.temperature}, but must be 0 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, but must be above 0 and at most 1")
        if isinstance(self.stop, str) or not all(isinstance(s, str) and s for s in self.stop):
            raise ValueError(f"stop is {self.stop!r}, but must be a list of texts, none of them ''")
        object.__setattr__(self, "stop", tuple(self.stop))
        if self.seed is not None and (type(self.seed) is not int or not 0 <= self.seed < 2**31):
            raise ValueError(f"seed is {self.seed!r}, but must be between 0 and 2**31 - 1")
        if self.system is not None:
            check_prompt(self.system, "the system message")


def check_prompt(prompt, name="the prompt"):
    """ValueError unless it is text that can be sent."""
    if not isinstance(prompt, str) or not prompt:
        raise ValueError(f"{name} must be text, and not empty")
    if has_lone_surrogate(prompt):
        raise ValueError(f"{name} holds half a character (a lone surrogate)")


def finished_completion(text, reason, stop):
    r"""A `Completion` of what comes before the first stop string, wherever one stands.

    >>> ended("one\n2. two", "length", ["\n2.", "two"])
    Completion(text='one', finish_reason='stop')
    """
    places = [place for place in (text.find(word) for word in stop) if place >= 0]
    return Completion(text[: min(places)]) if places else Completion(text, reason)


def scripted(answers, first=0):
    """`complete` from a list, consumed in order from number `first` on, or from a function.

    An answer is text, a `Completion`, or an exception to be raised; the function is given the
    prompt. Limits hold as at a server: `max_new_tokens` of GPT-2's tokens, then the stop strings.
    CompletionError when the list is at its end.

    >>> complete = scripted(["Paris. And more", "Rome"])
    >>> complete("The capital of France is", stop=["."])
    Completion(text='Paris', finish_reason='stop')
    >>> complete("That of Italy is", max_new_tokens=10).text
    'Rome'
    """
    given = iter([]) if callable(answers) else iter(list(answers)[first:])

    def complete(prompt, **options):
        asked = Options(**options)
        check_prompt(prompt)
        if callable(answers):
            answer = answers(prompt)
        else:
            answer = next(given, CompletionError("the script is at its end: no answer is left"))
        if isinstance(answer, Exception):
            raise answer
        answer = Completion(answer) if isinstance(answer, str) else answer
        text = cut_completion(answer.text, asked.max_new_tokens)
        return finished_completion(
            text, answer.finish_reason if text == answer.text else "length", asked.stop
        )

    return complete


def cut_completion(text, max_new_tokens):
    """The text up to so many of GPT-2's tokens.

    >>> cut("one two three", 2)
    'one two'
    """
    if len(text.encode()) <= max_new_tokens:  # a token has a byte at least
        return text
    tokenizer = load_tokenizer()
    token_ids = tokenizer.encode_ordinary(text)
    return (
        text if len(token_ids) <= max_new_tokens else tokenizer.decode(token_ids[:max_new_tokens])
    )
