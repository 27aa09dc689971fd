"""Many answers at once that begin and end at different times (continuous batching).

The one idea: the batch is put together anew for each step. Prompts that have arrived are read,
those of similar length together, and their rows then join the others; a row that has ended leaves
at once and frees its place. So nobody waits for the longest answer of a batch, and every step
serves all rows that are there. A row's answer is the one that it has alone: it attends to no other
row, and draws its random numbers from a generator of its own.

Knows nothing of threads, clocks or networks: `step()` does one step, and whoever calls it decides
when. Source: Yu et al. 2022, "Orca: A Distributed Serving System for Transformer-Based Generative
Models", section 4.1.

Axes: B rows, T tokens, V vocabulary.
"""

from collections import deque
from collections.abc import Callable, Sequence

import torch

from ch07.generation.decoding import (
    GREEDY,
    Continuation,
    Sampling,
    choose_tokens,
    left_padded,
    new_continuations,
)
from ch07.generation.joined_cache import CachedRow, join_rows
from ch07.models.adapters import LanguageModel
from ch07.utils.errors import InputError
from collate import END_OF_TEXT
from gpt_model import KVCache

# Tokens of prompts that are read in a step: a long prompt is read in parts, so that those who wait
# for the next token of their answers wait only a little longer.
PROMPT_TOKENS_PER_STEP = 256
# Prompts are read together as long as no more than this part of their columns is padding. Each
# reading of the weights takes the time of 25 columns (SmolLM2) to 140 (the default model).
MOST_PADDING = 0.25
# Columns of room in the common cache. When they are used up, its rows are copied into a new one;
# this is also when columns go that are padding for every row.
ROOM = 64


class BatchRow:
    """One answer: what was asked, and the `Continuation` that grows."""

    def __init__(
        self,
        prompt: Sequence[int],
        max_new_tokens: int,
        continuation: Continuation,
        sampling: Sampling,
        end_id: int,
        generator: torch.Generator,
        on_token: Callable[[int], bool | None] | None,
    ) -> None:
        self.prompt = list(prompt)
        self.max_new_tokens = max_new_tokens
        self.continuation = continuation
        self.sampling = sampling
        self.end_id = end_id
        self.generator = generator
        self.on_token = on_token
        self.n_read = 0  # tokens of the prompt
        # Where its keys and values lie: in a cache for its prompt, and later in the common one.
        self.cache: KVCache | None = None
        self.index = 0  # its place in the cache

    @property
    def stopped(self) -> str:
        """Why the answer has ended, as in `Continuation`; "" as long as it goes on."""
        return self.continuation.stopped

    @property
    def n_cached(self) -> int:
        """Tokens whose keys and values are stored: all but the newest, which is read next."""
        return self.n_read + max(0, len(self.continuation.token_ids) - 1)

    def append(self, token_id: int) -> None:
        """Add the next token, and report it."""
        self.continuation.append(token_id, self.end_id, self.max_new_tokens, self.on_token)


class ContinuousBatch:
    """Rows that wait, rows whose prompts are being read, and rows that grow together.

    At most `max_rows` are read or grow; the others wait, and are admitted in order. The model is
    put into evaluation mode.
    """

    def __init__(
        self,
        model: LanguageModel,
        max_rows: int,
        *,
        end_id: int = END_OF_TEXT,
        prompt_tokens_per_step: int = PROMPT_TOKENS_PER_STEP,
    ) -> None:
        if max_rows < 1 or prompt_tokens_per_step < 1:
            raise InputError("a batch needs at least one row, and one token of a prompt per step")
        self.model = model.eval()
        self.max_rows = max_rows
        self.end_id = end_id
        self.prompt_tokens_per_step = prompt_tokens_per_step
        self.device = next(model.parameters()).device
        self.waiting: deque[BatchRow] = deque()
        self._reading: list[BatchRow] = []  # admitted, in order; their prompts aren't read yet
        self._joining: list[BatchRow] = []  # prompts that are read, with a first token
        self._growing: list[BatchRow] = []  # the rows of the common cache, in its order
        self._cache: KVCache | None = None
        self._n_rows_in_cache = 0  # those that have ended since then included

    @property
    def n_admitted(self) -> int:
        """Rows that are read or grow."""
        return len(self._reading) + len(self._joining) + len(self._growing)

    @property
    def is_idle(self) -> bool:
        """Whether a step would have nothing to do."""
        return self.n_admitted == 0 and not self.waiting

    def submit(
        self,
        prompt: Sequence[int],
        max_new_tokens: int,
        *,
        sampling: Sampling = GREEDY,
        seed: int | None = None,
        on_token: Callable[[int], bool | None] | None = None,
    ) -> BatchRow:
        """A row that waits for its turn; `on_token` is that of `continue_prompt`.

        The same `seed` gives the same answer, whatever else is answered meanwhile; None: another
        one each time. InputError for a prompt that is empty or longer than the context.
        """
        context = self.model.config.context_length
        (continuation,) = new_continuations([prompt], max_new_tokens, context)
        generator = torch.Generator(self.device)
        if seed is None:
            generator.seed()
        else:
            generator.manual_seed(seed)
        row = BatchRow(
            prompt, max_new_tokens, continuation, sampling, self.end_id, generator, on_token
        )
        if not row.stopped:
            self.waiting.append(row)
        return row

    def cancel(self, row: BatchRow) -> None:
        """End a row where it is ("caller"), unless it has ended; it leaves at the next step."""
        row.continuation.stopped = row.continuation.stopped or "caller"

    @torch.inference_mode()
    def step(self) -> list[BatchRow]:
        """Admit rows, read prompts, and write one token of every row; returns those that ended.

        A row that ended before it was admitted is among them, too.
        """
        ended = self._remove_stopped()
        while self.waiting and self.n_admitted < self.max_rows:
            self._reading.append(self.waiting.popleft())
        self._read_prompts()
        ended += self._remove_stopped()
        self._join()
        if self._growing:
            self._write_tokens()
            ended += self._remove_stopped()
        return ended

    def clear(self) -> list[BatchRow]:
        """Forget all rows, such as after an error; returns those that had not ended."""
        rows = [*self._growing, *self._joining, *self._reading, *self.waiting]
        unfinished = [row for row in rows if not row.stopped]
        for row in rows:
            self.cancel(row)
        self._remove_stopped()
        return unfinished

    # --- the parts of a step ----------------------------------------------------------------------
    def _remove_stopped(self) -> list[BatchRow]:
        """Take the rows that have ended out of the batch; returns them."""
        groups = (self._growing, self._joining, self._reading, self.waiting)
        ended = [row for group in groups for row in group if row.stopped]
        if not ended:
            return []
        self._growing = [row for row in self._growing if not row.stopped]
        self._joining = [row for row in self._joining if not row.stopped]
        self._reading = [row for row in self._reading if not row.stopped]
        self.waiting = deque(row for row in self.waiting if not row.stopped)
        for row in ended:
            row.cache = None
        if not self._growing:
            self._cache = None  # frees its memory
        return ended

    def _read_prompts(self) -> None:
        """Read on in the prompts of admitted rows, in order, as many tokens as a step allows."""
        n_left = self.prompt_tokens_per_step
        whole = []  # rows whose prompts are read from the first token to the last
        for row in self._reading:
            if n_left <= 0:
                break
            n_unread = len(row.prompt) - row.n_read
            if row.n_read == 0 and n_unread <= n_left:
                whole.append(row)
            else:
                self._read_part(row, n_left)
            n_left -= n_unread
        for rows in groups_of_similar_length(whole):
            self._read_together(rows)
        self._joining += [row for row in self._reading if row.n_read == len(row.prompt)]
        self._reading = [row for row in self._reading if row.n_read < len(row.prompt)]

    def _read_part(self, row: BatchRow, n_tokens: int) -> None:
        """Read at most so many tokens of a long prompt, which has a cache of its own."""
        if row.cache is None:
            row.cache = self.model.new_cache(len(row.prompt))
        part = row.prompt[row.n_read : row.n_read + n_tokens]
        token_ids = torch.tensor([part], device=self.device)  # (1, T)
        logits = self.model(token_ids, wanted=(slice(None), -1), cache=row.cache)  # (1, V)
        row.n_read += len(part)
        if row.n_read == len(row.prompt):
            self._append_chosen(logits, [row])

    def _read_together(self, rows: Sequence[BatchRow]) -> None:
        """Read whole prompts as one batch, into one cache, and choose their first new tokens."""
        token_ids, padding = left_padded([row.prompt for row in rows], self.device)  # (B, T), (B,)
        cache = self.model.new_cache(token_ids.shape[1])
        logits = self.model(
            token_ids, wanted=(slice(None), -1), cache=cache, left_padding=padding
        )  # (B, V)
        for index, row in enumerate(rows):
            row.cache = cache
            row.index = index
            row.n_read = len(row.prompt)
        self._append_chosen(logits, rows)

    def _join(self) -> None:
        """A new common cache if rows have come or gone, or if the old one has no room."""
        rows = [*self._growing, *self._joining]
        if not rows:
            return
        if self._cache is not None and not self._joining:
            has_all = len(rows) == self._n_rows_in_cache
            if has_all and self._cache.length < self._cache.max_length:
                return
        self._cache = join_rows([_cached(row) for row in rows], ROOM)
        self._n_rows_in_cache = len(rows)
        for index, row in enumerate(rows):
            row.cache = self._cache
            row.index = index
        self._growing = rows
        self._joining = []

    def _write_tokens(self) -> None:
        """Read the newest token of every row, and choose the next one."""
        rows = self._growing
        cache = self._cache
        assert cache is not None, "rows that grow have a cache"
        newest = [[row.continuation.token_ids[-1]] for row in rows]
        n_columns = cache.length - cache.in_front
        padding = [n_columns - row.n_cached for row in rows]
        logits = self.model(
            torch.tensor(newest, device=self.device),  # (B, 1)
            wanted=(slice(None), -1),
            cache=cache,
            left_padding=torch.tensor(padding, device=self.device),
        )  # (B, V)
        self._append_chosen(logits, rows)

    def _append_chosen(self, logits: torch.Tensor, rows: Sequence[BatchRow]) -> None:
        """Choose the next token of each row: (B, V) for B rows."""
        chosen = choose_tokens(logits).tolist()  # the likeliest of all rows at once
        for b, row in enumerate(rows):
            if not row.sampling.is_greedy:
                chosen[b] = int(choose_tokens(logits[b : b + 1], row.sampling, row.generator))
            row.append(chosen[b])


def groups_of_similar_length(rows: Sequence[BatchRow]) -> list[list[BatchRow]]:
    """The rows by the length of their prompts, shortest first, in groups with little padding."""
    groups: list[list[BatchRow]] = []
    for row in sorted(rows, key=lambda row: len(row.prompt)):
        if groups and _padding_share([*groups[-1], row]) <= MOST_PADDING:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def _padding_share(rows: Sequence[BatchRow]) -> float:
    """Which part of a batch of these prompts is padding, 0 to 1."""
    lengths = [len(row.prompt) for row in rows]
    return 1 - sum(lengths) / (max(lengths) * len(lengths))


def _cached(row: BatchRow) -> CachedRow:
    assert row.cache is not None, "a row whose prompt was read has a cache"
    return CachedRow(row.cache, row.index, row.n_cached)
