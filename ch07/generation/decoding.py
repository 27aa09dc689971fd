"""Prompts as token ids -> new token ids: greedy or sampled, with a KV cache, in batches.

Prompts of different lengths are padded on the left, so that all rows end, and grow, in the same
column. The model is told how much padding each row has, so a row's answer is the same as if it were
alone. What all prompts begin with, such as the sentences of a template, is read once for all. Text
and prompt templates are handled elsewhere (`ch07.generation.respond`).

Axes: B rows that still grow, T tokens, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from ch07.data.shared_tokens import count_shared_tokens
from ch07.models.adapters import LanguageModel
from ch07.utils.errors import InputError
from ch07.utils.evaluation_mode import evaluation_mode
from collate import END_OF_TEXT
from gpt_model import KVCache

# Below this temperature the likeliest token is practically certain; dividing by less overflows.
MIN_TEMPERATURE = 1e-6


@dataclass
class Continuation:
    """What the model wrote after one prompt, and why it stopped there."""

    space: int  # the number of new tokens that the limits allow
    token_ids: list[int] = field(default_factory=list)  # new ones only, without end-of-text
    # "end" (end-of-text), "length" (max_new_tokens), "context" (it is full) or "caller" (`on_token`
    # asked for it)
    stopped: str = ""

    def append(
        self,
        token_id: int,
        end_id: int,
        max_new_tokens: int,
        on_token: Callable[[int], bool | None] | None = None,
    ) -> None:
        """Add the next token, report it, and note whether the continuation ends with it."""
        if token_id == end_id:
            self.stopped = "end"
            return
        self.token_ids.append(token_id)
        self.stop_if_full(max_new_tokens)
        if on_token is not None and on_token(token_id):
            self.stopped = "caller"

    def stop_if_full(self, max_new_tokens: int) -> None:
        """If there is no space for another token, note which limit was reached."""
        if len(self.token_ids) >= self.space:
            self.stopped = "length" if self.space == max_new_tokens else "context"


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; by default greedily. ValueError for impossible values."""

    temperature: float = 0.0  # 0: the likeliest token; 1: the model's distribution; less: sharper
    top_k: int | None = None  # only the k likeliest tokens (Fan et al. 2018)
    top_p: float | None = None  # only the fewest tokens that hold this share (Holtzman et al. 2020)

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise InputError(f"temperature is {self.temperature}, but can't be below 0 (0: greedy)")
        if self.top_k is not None and (type(self.top_k) is not int or self.top_k < 1):
            raise InputError(f"top_k is {self.top_k!r}, but must be an int, 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}, but must be above 0 and at most 1")

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always chosen."""
        return self.temperature < MIN_TEMPERATURE


GREEDY = Sampling()


def generate(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    **options: Any,
) -> list[list[int]]:
    """New token ids for each prompt; `options` are those of `continue_prompts`."""
    rows = continue_prompts(model, prompts, max_new_tokens, **options)
    return [row.token_ids for row in rows]


@torch.inference_mode()
def continue_prompts(
    model: LanguageModel,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    sampling: Sampling = GREEDY,
    end_id: int = END_OF_TEXT,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
    on_token: Callable[[int, int], bool | None] | None = None,
) -> list[Continuation]:
    """A `Continuation` for each prompt (token ids, of any lengths).

    A row stops at end-of-text, after `max_new_tokens`, or when the context is full; the beginning
    of a prompt is never dropped. Without the cache all tokens are read again for each new one,
    which is slow and gives the same result. `on_token` is called with the number of a prompt and
    each of its new tokens, as soon as it is chosen; if it returns True, the row stops there.
    ValueError for a prompt that is empty or longer than the context.
    """
    rows = new_continuations(prompts, max_new_tokens, model.config.context_length)
    active = [i for i, row in enumerate(rows) if not row.stopped]  # the prompt of each batch row
    if not active:
        return rows
    device = next(model.parameters()).device
    cache = None
    with evaluation_mode(model):
        unread = [list(prompts[i]) for i in active]
        if use_cache:
            cache = model.new_cache(max(map(len, unread)) + max(row.space for row in rows))
            unread = _read_beginning(model, unread, cache)
        ids, padding = left_padded(unread, device)  # (B, T), (B,)
        next_input = ids
        while active:
            logits = model(next_input, wanted=(slice(None), -1), cache=cache, left_padding=padding)
            new_ids = choose_tokens(logits, sampling, generator)  # (B, V) -> (B,)
            _append_tokens(rows, active, new_ids.tolist(), end_id, max_new_tokens, on_token)
            still_active = [b for b, i in enumerate(active) if not rows[i].stopped]
            if len(still_active) < len(active):  # rows that have ended leave the batch
                active = [active[b] for b in still_active]
                kept = torch.tensor(still_active, dtype=torch.long, device=device)
                ids = ids[kept]
                new_ids = new_ids[kept]
                padding = padding[kept]
                if cache is not None:
                    cache.keep(kept)
            ids = torch.cat([ids, new_ids[:, None]], dim=1)  # (B, T) -> (B, T + 1)
            next_input = ids if cache is None else new_ids[:, None]
    return rows


def _append_tokens(
    rows: Sequence[Continuation],
    active: Sequence[int],
    token_ids: Sequence[int],
    end_id: int,
    max_new_tokens: int,
    on_token: Callable[[int, int], bool | None] | None,
) -> None:
    """Add the next token to each active row, and report it unless it is end-of-text."""
    for i, token_id in zip(active, token_ids, strict=True):
        report = None if on_token is None else partial(on_token, i)
        rows[i].append(token_id, end_id, max_new_tokens, report)


def choose_tokens(
    logits: torch.Tensor,
    sampling: Sampling = GREEDY,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """The next token of each row: logits (B, V) -> ids (B,).

    >>> choose_tokens(torch.tensor([[0.0, 2.0, 1.0]]))
    tensor([1])
    """
    logits = logits.float()  # also for argmax, which takes five times as long in bfloat16
    if sampling.is_greedy:
        return logits.argmax(dim=-1)
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature
    if sampling.top_k is not None:
        k = min(sampling.top_k, logits.shape[-1])
        kth = logits.topk(k).values[:, -1:]  # (B, 1)
        above = logits > kth
        tied = logits == kth
        places_left = k - above.sum(dim=-1, keepdim=True)
        kept = above | tied & (tied.cumsum(dim=-1) <= places_left)  # the first ones, as in argmax
        logits = logits.masked_fill(~kept, -torch.inf)
    if sampling.top_p is not None:
        probs, order = logits.softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
        # A token is excluded if those before it hold top_p already; the likeliest always stays.
        excluded = probs.cumsum(dim=-1) - probs >= sampling.top_p
        logits = logits.masked_fill(excluded.scatter(-1, order, excluded), -torch.inf)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


def _read_beginning(
    model: LanguageModel, prompts: list[list[int]], cache: KVCache
) -> list[list[int]]:
    """Put what all prompts begin with into an empty cache; returns the rests of the prompts."""
    n_shared = count_shared_tokens(prompts)
    if n_shared == 0:
        return prompts
    device = next(model.parameters()).device
    beginning = torch.tensor([prompts[0][:n_shared]], device=device)  # (1, P)
    model(beginning, wanted=(slice(None), -1), cache=cache)
    cache.keep(torch.zeros(len(prompts), dtype=torch.long, device=device))  # the same for each row
    cache.in_front = cache.length  # the padding of a row comes after it
    return [prompt[n_shared:] for prompt in prompts]


def left_padded(
    prompts: Sequence[Sequence[int]], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids (B, T) that all end in the last column, and the number of padding columns (B,).

    The padding id is 0; any id would do, since the model never attends to padding.
    """
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    ids = [[0] * n + list(prompt) for n, prompt in zip(padding, prompts, strict=True)]
    return torch.tensor(ids, device=device), torch.tensor(padding, device=device)


def new_continuations(
    prompts: Sequence[Sequence[int]], max_new_tokens: int, context: int
) -> list[Continuation]:
    """An empty `Continuation` for each prompt; one without space has stopped already."""
    _check_prompts(prompts, max_new_tokens, context)
    rows = [Continuation(min(max_new_tokens, context - len(prompt))) for prompt in prompts]
    for row in rows:
        row.stop_if_full(max_new_tokens)
    return rows


def _check_prompts(prompts: Sequence[Sequence[int]], max_new_tokens: int, context: int) -> None:
    """ValueError for what can't be continued."""
    if max_new_tokens < 0:
        raise InputError(f"max_new_tokens is {max_new_tokens}, but can't be below 0")
    for i, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise InputError(f"prompt {i} has no token: there is nothing to continue")
        if len(prompt) > context:
            raise InputError(
                f"prompt {i} has {len(prompt)} tokens, but this model reads at most {context}"
            )
