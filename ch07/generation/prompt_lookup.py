"""Greedy answers that repeat their prompt, several tokens per call: the same answer, fewer calls.

The one idea: to check k guessed tokens, a model needs one call, as for a single token, because all
k are read at once. An answer that corrects a sentence or sorts a list repeats many words of its
prompt, so the text itself supplies the guess: where the last two tokens occurred before, the tokens
that followed them may follow again. The call also says what the model would have written at each
place. The guess is kept as far as it agrees with that, so the answer is always the one of ordinary
greedy decoding:

    so far    Correct: he go home. Answer: he goes
    guess                                           home .
    model                                           home .  <end>     three tokens from one call

A call with a guess takes longer, on some processors much longer, and a guess can be wrong. So the
time of both kinds of calls is measured, and guessing ends where it doesn't pay.

Learned from Leviathan et al. 2023, "Fast Inference from Transformers via Speculative Decoding", and
from Saxena 2023, "Prompt Lookup Decoding", which takes the guesses from the prompt.
"""

import time
from collections.abc import Callable, Sequence

import torch

from ch07.generation.decoding import (
    GREEDY,
    Continuation,
    Sampling,
    choose_tokens,
    continue_prompts,
    new_continuations,
)
from ch07.models.adapters import LanguageModel
from ch07.utils.evaluation_mode import evaluation_mode
from collate import END_OF_TEXT
from gpt_model import KVCache

MATCHED = 2  # tokens that must agree with an earlier place
LONGEST_GUESS = 4  # tokens
TRIED_CALLS = 3  # of each kind, before one is preferred


class TokenIndex:
    """A text that grows, and where each pair of tokens was followed by what.

    >>> index = TokenIndex([5, 6, 7, 8, 5, 6])
    >>> index.guess(longest=2)
    [7, 8]
    """

    def __init__(self, token_ids: Sequence[int]) -> None:
        self.token_ids: list[int] = []
        self._next: dict[tuple[int, ...], int] = {}  # last tokens -> the position that follows
        for token_id in token_ids:
            self.append(token_id)

    def append(self, token_id: int) -> None:
        """Add a token; what follows the tokens before it is known from now on."""
        self._next[self._last_tokens()] = len(self.token_ids)
        self.token_ids.append(token_id)

    def guess(self, longest: int) -> list[int]:
        """What followed the last tokens when they occurred before, or an empty list."""
        start = self._next.get(self._last_tokens())
        return [] if start is None else self.token_ids[start : start + longest]

    def _last_tokens(self) -> tuple[int, ...]:
        return tuple(self.token_ids[-MATCHED:])


class Pace:
    """Seconds and new tokens of the calls with a guess, and of those without."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._started = clock()
        self._calls = {True: 0, False: 0}
        self._seconds = {True: 0.0, False: 0.0}
        self._tokens = {True: 0, False: 0}

    def start(self) -> None:
        """A call begins."""
        self._started = self._clock()

    def stop(self, guessed: bool, n_tokens: int) -> None:
        """The call has ended, and brought so many tokens."""
        self._calls[guessed] += 1
        self._seconds[guessed] += self._clock() - self._started
        self._tokens[guessed] += n_tokens

    def guessing_pays(self) -> bool:
        """Whether guesses bring more tokens a second; True while there were too few calls."""
        if min(self._calls.values()) < TRIED_CALLS:
            return True
        # tokens / seconds with a guess >= tokens / seconds without, and no division by zero
        return self._tokens[True] * self._seconds[False] >= (
            self._tokens[False] * self._seconds[True]
        )


def continue_prompt(
    model: LanguageModel,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    sampling: Sampling = GREEDY,
    end_id: int = END_OF_TEXT,
    generator: torch.Generator | None = None,
    on_token: Callable[[int], bool | None] | None = None,
) -> Continuation:
    """The `Continuation` of one prompt: with guesses if it is greedy, else token by token.

    Arguments as in `continue_with_lookup`, and those of sampling as in `continue_prompts`.
    """
    if sampling.is_greedy:
        return continue_with_lookup(model, prompt, max_new_tokens, end_id=end_id, on_token=on_token)
    (row,) = continue_prompts(
        model,
        [prompt],
        max_new_tokens,
        sampling=sampling,
        end_id=end_id,
        generator=generator,
        on_token=None if on_token is None else lambda _, token_id: on_token(token_id),
    )
    return row


@torch.inference_mode()
def continue_with_lookup(
    model: LanguageModel,
    prompt: Sequence[int],
    max_new_tokens: int,
    *,
    end_id: int = END_OF_TEXT,
    longest_guess: int = LONGEST_GUESS,
    on_token: Callable[[int], bool | None] | None = None,
) -> Continuation:
    """The greedy `Continuation` of one prompt, as from `continue_prompts`.

    `on_token` is called with each new token, as soon as it is chosen; if it returns True, the
    continuation stops there. ValueError for a prompt that is empty or longer than the context.
    """
    (row,) = new_continuations([prompt], max_new_tokens, model.config.context_length)
    cache = model.new_cache(len(prompt) + row.space)
    index = TokenIndex(prompt)
    pace = Pace()
    unread = list(prompt)
    with evaluation_mode(model):
        while not row.stopped:
            # The last token of the answer is never read, so a guess leaves room for one more.
            room = row.space - len(row.token_ids) - 1
            guess = index.guess(min(longest_guess, room)) if pace.guessing_pays() else []
            pace.start()
            chosen = _choose_after_each(model, unread, guess, cache)
            n_right = count_equal(guess, chosen)
            if row.token_ids:  # the first call reads the prompt, too
                pace.stop(bool(guess), n_right + 1)
            for token_id in chosen[: n_right + 1]:
                row.append(token_id, end_id, max_new_tokens, on_token)
                index.append(token_id)
                if row.stopped:
                    break
            cache.length -= len(guess) - n_right  # wrong guesses are overwritten by the next call
            unread = chosen[n_right : n_right + 1]
    return row


def _choose_after_each(
    model: LanguageModel, unread: list[int], guess: list[int], cache: KVCache
) -> list[int]:
    """The likeliest token after all of `unread`, and after each token of the guess."""
    device = next(model.parameters()).device
    token_ids = torch.tensor([unread + guess], device=device)  # (1, T)
    last_columns = slice(len(unread) - 1, None)
    logits = model(token_ids, wanted=(0, last_columns), cache=cache)  # (1 + guessed, V)
    return choose_tokens(logits).tolist()


def count_equal(guess: Sequence[int], chosen: Sequence[int]) -> int:
    """How many tokens of a guess are right, from the first.

    >>> count_equal([7, 8, 9], [7, 8, 5, 4])
    2
    """
    for i, token_id in enumerate(guess):
        if token_id != chosen[i]:
            return i
    return len(guess)
