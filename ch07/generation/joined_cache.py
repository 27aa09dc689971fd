"""One KV cache for rows that come and go: put together from rows of other caches.

The one idea: a row's keys and values don't depend on the columns in which they lie, since its
positions are counted from its own first token. So rows of any caches and lengths fit into one new
cache if all of them end in its last column, with padding on the left, as `continue_prompts` has
them from the start. That a row joins, that one leaves, and that columns which are padding for every
row disappear, is then the same operation.

Axes: B rows, S columns, G heads of keys and values, D head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from gpt_model import KVCache


@dataclass(frozen=True)
class CachedRow:
    """A row of a cache, and how many of its last columns hold tokens."""

    cache: KVCache
    index: int
    n_tokens: int


def join_rows(rows: Sequence[CachedRow], room: int) -> KVCache:
    """A new cache with these rows, one or more, and with room for more columns.

    Row b has `longest - rows[b].n_tokens` columns of padding, where `longest` is the most tokens of
    a row. What lies in front of the padding of the old caches, such as a trained prefix, is the
    same in all of them, and lies there again. The old caches stay as they are.
    """
    in_front = rows[0].cache.in_front
    length = in_front + max(row.n_tokens for row in rows)
    n_layers = len(rows[0].cache._layers)
    joined = KVCache(n_layers, length + room)
    joined.in_front = in_front
    for layer in range(n_layers):
        stored = [_stored(row.cache, layer) for row in rows]
        keys = _right_aligned([keys for keys, _ in stored], rows, in_front, length)
        values = _right_aligned([values for _, values in stored], rows, in_front, length)
        joined.extend(layer, keys, values)
    return joined


def _stored(cache: KVCache, layer: int) -> tuple[Tensor, Tensor]:
    """A layer's keys and values so far, (B, G, S, D) each."""
    stored = cache._layers[layer]  # the chapter's cache has no need to show them
    assert stored is not None, "a cache that nothing was read into has no rows"
    keys, values = stored
    return keys[:, :, : cache.length], values[:, :, : cache.length]


def _right_aligned(
    parts: Sequence[Tensor], rows: Sequence[CachedRow], in_front: int, length: int
) -> Tensor:
    """Row b of parts[b], (B, G, S, D) each with its own S, as one tensor (B, G, length, D)."""
    _, G, _, D = parts[0].shape
    # Padding is zero: it is multiplied by an attention weight of 0, and 0 times NaN would be NaN.
    joined = parts[0].new_zeros(len(rows), G, length, D)
    for b, (part, row) in enumerate(zip(parts, rows, strict=True)):
        own = part[row.index]  # (G, S, D)
        joined[b, :, :in_front] = own[:, :in_front]
        joined[b, :, length - row.n_tokens :] = own[:, own.shape[1] - row.n_tokens :]
    return joined
