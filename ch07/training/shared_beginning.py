"""What all rows of a batch begin with is read once, not once per row: the same loss, less work.

The one idea: with causal attention, a token's keys and values depend only on the tokens up to it.
Rows that begin alike, as all prompts of one template do, have the same keys and values there. So
the beginning is computed once, and the rest of each row attends to what was found. In the backward
pass the gradients that all rows send to the one beginning add up, as if each had a copy of it.

A batch of B rows then becomes a rectangle of fewer tokens: the beginning, folded into as many rows
as it needs, with the rests of the B rows below. Here two columns are shared, and two are not:

    7 8 1 2        7 8   the beginning
    7 8 3 4   ->   1 2   the rests
    7 8 5 6        3 4
                   5 6

Nothing is assumed about the template: the beginning is found by comparing token ids.

Axes: B batch, T tokens, P tokens of the beginning, R = T - P tokens of a rest, M rows into which
the beginning is folded, N counted targets, H heads, D head size, V vocabulary. Learned from the
prompt caches of inference engines (Kwon et al. 2023, "Efficient Memory Management for Large
Language Model Serving with PagedAttention", section 4.4).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ch07.training.cross_entropy import summed_cross_entropy_in_place
from ch07.training.repeated_shapes import COLUMNS, pad_targets
from gpt_model import KVCache
from train_loop import (
    IGNORE_INDEX,
    Device,
    counted_positions,
    sum_loss,
    to_device,
)

WORTHWHILE = 0.95  # a rectangle with more than this share of the tokens saves no time


def count_shared_columns(input_batch: Tensor, target_batch: Tensor) -> int:
    """In how many columns, from the first, all rows have the same input and the same target.

    >>> inputs = torch.tensor([[7, 8, 1, 2], [7, 8, 3, 4]])
    >>> targets = torch.tensor([[-100, -100, 2, 50256], [-100, -100, 4, 50256]])
    >>> count_shared_columns(inputs, targets)
    2
    """
    differs = (input_batch != input_batch[0]) | (target_batch != target_batch[0])  # (B, T)
    different_columns = differs.any(dim=0).nonzero()
    return int(different_columns[0]) if len(different_columns) else input_batch.shape[1]


def choose_length(n_shared: int, B: int, T: int, multiple: int = 1) -> int:
    """How many of the shared columns to read once, P, so that the rectangle is smallest.

    0 if that would save next to nothing. Each rest keeps at least one token, and a number of
    tokens that is a `multiple`.

    >>> choose_length(n_shared=24, B=48, T=50), choose_length(n_shared=24, B=1, T=50)
    (24, 0)
    >>> choose_length(n_shared=24, B=8, T=47)  # with 24, a second row for one last token
    23
    >>> choose_length(n_shared=24, B=48, T=50, multiple=4)  # 28 columns remain
    22
    """
    lengths = range(1, min(n_shared, T - 1) + 1)
    sizes = {P: _count_tokens(P, B, T) for P in lengths if (T - P) % multiple == 0}
    if not sizes:
        return 0
    P = min(sizes, key=sizes.__getitem__)
    return P if sizes[P] < WORTHWHILE * B * T else 0


def _count_tokens(P: int, B: int, T: int) -> int:
    return (_count_rows(P, T) + B) * (T - P)


def _count_rows(P: int, T: int) -> int:
    """M: into how many rows of R = T - P tokens the beginning is folded; the last is padded."""
    return -(-P // (T - P))


def fold_beginning(batch: Tensor, P: int, fill: int) -> Tensor:
    """A batch (B, T) as the rectangle (M + B, R) that holds its first P columns only once.

    >>> fold_beginning(torch.tensor([[7, 8, 9, 1, 2], [7, 8, 9, 3, 4]]), P=3, fill=0)
    tensor([[7, 8],
            [9, 0],
            [1, 2],
            [3, 4]])
    """
    R = batch.shape[1] - P
    M = _count_rows(P, batch.shape[1])
    beginning = pad(batch[0, :P], (0, M * R - P), value=fill)  # (P,) -> (M * R,)
    return torch.cat([beginning.view(M, R), batch[:, P:]])


class SharedBeginning(KVCache):
    """Lets each row of the rectangle attend to the beginning, wherever that lies.

    The model sees a KV cache, but nothing is stored from one call to the next, and gradients flow.
    With prefix tuning, whose columns are put in first, `prefix_length` is their number.
    """

    def __init__(self, P: int, T: int, prefix_length: int = 0) -> None:
        super().__init__(n_layers=0, max_length=prefix_length + T)
        self.P = P
        self.R = T - P
        self.M = _count_rows(P, T)
        self.prefix_length = prefix_length
        self.length = 0 if prefix_length else P  # a prefix is only put into an empty cache
        # By layer: the keys and values of the prefix, (M + B, H, prefix_length, D) each.
        self._prefix: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of the rectangle, (M + B, H, R, D) -> those each row sees.

        These are (M + B, H, P + R, D): the beginning, then the row's own; before both, a prefix.
        """
        if self.length == 0:  # the prefix is put in
            self._prefix[layer] = (keys, values)
            return keys, values
        prefix_keys, prefix_values = self._prefix.get(layer, (None, None))
        return self._seen(keys, prefix_keys), self._seen(values, prefix_values)

    def _seen(self, part: Tensor, prefix: Tensor | None) -> Tensor:
        n_rows, H, R, D = part.shape
        beginning = part[: self.M].transpose(0, 1).reshape(H, self.M * R, D)[:, : self.P]
        parts = [beginning.expand(n_rows, -1, -1, -1), part]
        if prefix is not None:
            parts.insert(0, prefix.to(part.dtype))
        return torch.cat(parts, dim=2)

    def positions_and_mask(
        self, token_ids: Tensor, left_padding: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Positions (M + B, R) in the rows as they were, and mask (M + B, 1, R, S).

        From this call on, the prefix is complete.
        """
        self.length = self.prefix_length + self.P
        n_rows = len(token_ids)
        columns = torch.arange(self.R, device=token_ids.device)  # (R,)
        row_starts = torch.full((n_rows,), self.P, device=token_ids.device)
        row_starts[: self.M] = self.R * torch.arange(self.M, device=token_ids.device)
        positions = row_starts[:, None] + columns  # (M + B, R)
        # Rows of the beginning find their own tokens in the beginning, and not a second time.
        in_beginning = torch.arange(self.P, device=token_ids.device) <= positions[..., None]
        own = (columns <= columns[:, None]).repeat(n_rows, 1, 1)  # (M + B, R, R)
        own[: self.M] = False
        in_prefix = own.new_ones(n_rows, self.R, self.prefix_length)
        mask = torch.cat([in_prefix, in_beginning, own], dim=2)  # (M + B, R, S)
        return self.prefix_length + positions, mask[:, None]  # the same mask for every head


def sum_loss_with_shared_beginning(
    input_batch: Tensor,
    target_batch: Tensor,
    model: nn.Module,
    device: Device,
    *,
    ignore_index: int = IGNORE_INDEX,
    dtype: str = "float32",
    cross_entropy: Callable[..., Tensor] = summed_cross_entropy_in_place,
    prefix_length: int = 0,
    round_sizes: bool = False,
) -> tuple[Tensor, int]:
    """As `train_loop.sum_loss`, whose result it equals up to rounding.

    A target in the beginning is the same for all B rows: its loss is computed once and counts B
    times. The model is one that takes a `cache`, as `GPTModel` does, without dropout, which would
    drop other activations of each copy of the beginning. `cross_entropy` takes how often each
    target counts as a third argument. `round_sizes` is explained in `repeated_shapes`.
    """
    B, T = input_batch.shape
    n_shared = count_shared_columns(input_batch, target_batch)
    P = choose_length(n_shared, B, T, multiple=COLUMNS if round_sizes else 1)
    if P == 0:
        options = {"ignore_index": ignore_index, "dtype": dtype, "cross_entropy": cross_entropy}
        return sum_loss(input_batch, target_batch, model, device, **options)
    cache = SharedBeginning(P, T, prefix_length)
    targets = fold_beginning(target_batch, P, fill=ignore_index)
    wanted, counted = counted_positions(targets, ignore_index, device)
    token_ids = to_device(fold_beginning(input_batch, P, fill=0), device)
    times = torch.ones(len(token_ids), dtype=torch.long, device=token_ids.device)  # (M + B,)
    times[: cache.M] = B
    times = times[wanted[0]]  # (N,): how often each target counts
    n_targets = int(times.sum())
    if round_sizes:
        wanted, counted, times = pad_targets(wanted, counted, times)
    with torch.autocast(token_ids.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
        logits = model(token_ids, wanted=wanted, cache=cache)  # (M + B, R) -> (N, V)
    return cross_entropy(logits, counted, times), n_targets


def logits_of_rests(
    model: nn.Module, token_ids: Tensor, P: int, rows: Tensor, columns: Tensor
) -> Tensor:
    """Logits (N, V) at positions (rows, columns) of a batch (B, T) whose first P columns are alike.

    All of the columns are P or more. The model is as in `sum_loss_with_shared_beginning`.
    """
    cache = SharedBeginning(P, token_ids.shape[1])
    wanted = (rows + cache.M, columns - P)
    return model(fold_beginning(token_ids, P, fill=0), wanted=wanted, cache=cache)
