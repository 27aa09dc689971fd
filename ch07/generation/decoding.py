"""Prompts as token ids -> new token ids: greedy or sampled, with a KV cache, many rows at once.

The one idea: rows of different lengths are padded on the left, so that all of them end, and grow,
in the same column; the model is told where each row starts, and a row's answer is the same as if
it were alone. Knows nothing of text or templates.

Axes: B rows still growing, T tokens, V vocabulary.
"""

from dataclasses import dataclass, field

import torch

from ch07.utils.evaluation_mode import evaluation_mode
from collate import END_OF_TEXT

COLDEST = (
    1e-6  # below this temperature the likeliest token is certain, and less can't be divided by
)


@dataclass
class Continuation:
    """What the model wrote after one prompt, and why it stopped there."""

    room: int  # new tokens that there is space for
    token_ids: list = field(default_factory=list)  # new ids only, end-of-text left out
    stopped: str = ""  # "end" (end-of-text), "length" (max_new_tokens) or "context" (no space)

    def take(self, token_id, end_id, max_new_tokens):
        """Add the next token, and note if it is the last."""
        if token_id == end_id:
            self.stopped = "end"
            return
        self.token_ids.append(token_id)
        self.stop_if_full(max_new_tokens)

    def stop_if_full(self, max_new_tokens):
        """Note that there is no space for another token, and which limit it was."""
        if len(self.token_ids) >= self.room:
            self.stopped = "length" if self.room == max_new_tokens else "context"


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the default, temperature 0, takes the likeliest."""

    temperature: float = 0.0  # 1 samples the model's own distribution, less sharpens it
    top_k: int | None = None  # only the k likeliest (Fan et al. 2018)
    top_p: float | None = None  # only the fewest that hold this share (Holtzman et al. 2020)

    def __post_init__(self):
        if not self.temperature >= 0:
            raise ValueError(f"temperature is {self.temperature}, but can't be below 0 (0: greedy)")
        if self.top_k is not None and (type(self.top_k) is not int or self.top_k < 1):
            raise ValueError(f"top_k is {self.top_k!r}, but must be an int, 1 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise ValueError(f"top_p is {self.top_p}, but must be above 0 and at most 1")


def generate(model, prompts, max_new_tokens, **options):
    """New token ids for each prompt (a list of lists); options as in `continue_prompts`."""
    return [row.token_ids for row in continue_prompts(model, prompts, max_new_tokens, **options)]


@torch.inference_mode()
def continue_prompts(
    model,
    prompts,
    max_new_tokens,
    sampling=Sampling(),
    end_id=END_OF_TEXT,
    generator=None,
    use_cache=True,
):
    """A `Continuation` for each prompt (lists of token ids, of any lengths).

    A row stops at its own end-of-text, after `max_new_tokens`, or where the context is full; the
    front of a prompt is never dropped. ValueError for a prompt without tokens, or one beyond the
    context. Without the cache everything is read again for each token: slow, and equal.
    """
    context = _check(prompts, max_new_tokens, model.config.context_length)
    rows = [Continuation(min(max_new_tokens, context - len(prompt))) for prompt in prompts]
    for row in rows:
        row.stop_if_full(max_new_tokens)
    growing = [i for i, row in enumerate(rows) if not row.stopped]  # which prompt a batch row is
    if not growing:
        return rows
    ids, padding = _left_padded([prompts[i] for i in growing], next(model.parameters()).device)
    cache = model.new_cache(ids.shape[1] + max(row.room for row in rows)) if use_cache else None
    with evaluation_mode(model):
        unread = ids
        while growing:
            logits = model(unread, wanted=(slice(None), -1), cache=cache, left_padding=padding)
            chosen = choose(logits, sampling, generator)  # (B,)
            for row, token_id in zip(growing, chosen.tolist(), strict=True):
                rows[row].take(token_id, end_id, max_new_tokens)
            keep = [i for i, row in enumerate(growing) if not rows[row].stopped]
            if len(keep) < len(growing):  # rows that have ended leave the batch
                growing = [growing[i] for i in keep]
                kept = torch.tensor(keep, dtype=torch.long, device=ids.device)
                ids, chosen, padding = ids[kept], chosen[kept], padding[kept]
                if cache is not None:
                    cache.keep(kept)
            ids = torch.cat([ids, chosen[:, None]], dim=1)
            unread = ids if cache is None else chosen[:, None]
    return rows


def choose(logits, sampling=Sampling(), generator=None):
    """The next token of each row: logits (B, V) -> ids (B,).

    >>> choose(torch.tensor([[0.0, 2.0, 1.0]]))
    tensor([1])
    """
    logits = logits.float()  # also for argmax, which takes five times as long in bfloat16
    if sampling.temperature < COLDEST:
        return logits.argmax(dim=-1)
    logits = (logits - logits.amax(dim=-1, keepdim=True)) / sampling.temperature
    if sampling.top_k is not None:
        k = min(sampling.top_k, logits.shape[-1])
        kth = logits.topk(k).values[:, -1:]
        logits = logits.masked_fill(logits < kth, -torch.inf)
    if sampling.top_p is not None:
        probs, order = logits.softmax(dim=-1).sort(dim=-1, descending=True)
        # a token goes if those before it already hold top_p; the likeliest always stays
        beyond = probs.cumsum(dim=-1) - probs >= sampling.top_p
        logits = logits.masked_fill(beyond.scatter(-1, order, beyond), -torch.inf)
    return torch.multinomial(logits.softmax(dim=-1), 1, generator=generator)[:, 0]


def _left_padded(prompts, device):
    """Ids (B, T) that all end in the last column, and the number of padding columns (B,).

    The padding id is 0: nobody looks at it, so it only has to exist.
    """
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    ids = [[0] * n + list(prompt) for n, prompt in zip(padding, prompts, strict=True)]
    return torch.tensor(ids, device=device), torch.tensor(padding, device=device)


def _check(prompts, max_new_tokens, context):
    """The context length, or a ValueError that says what can't be continued."""
    if max_new_tokens < 0:
        raise ValueError(f"max_new_tokens is {max_new_tokens}, but can't be below 0")
    for i, prompt in enumerate(prompts):
        if len(prompt) == 0:
            raise ValueError(f"prompt {i} has no token: there is nothing to continue")
        if len(prompt) > context:
            raise ValueError(
                f"prompt {i} has {len(prompt)} tokens, but this model reads at most {context}"
            )
    return context
