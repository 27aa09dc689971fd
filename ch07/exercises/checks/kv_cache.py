"""Exercise 13, the KV cache. Keys and values have the shape (B, H, T, D)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ch07.exercises.checks.block import CONFIG
from ch07.exercises.checks.common import call_without_mutation, close, describe, random_tensor
from ch07.exercises.learner_code import call_function, describe_error, try_call
from ch07.exercises.mistake import Mistake, expect
from gpt_model import GPTModel, KVCache

CacheClass = Callable[..., Any]
N_LAYERS = 2
MAX_LENGTH = 9
SHARED = (
    "A new cache contains what an earlier one was given: they share a list (a class attribute, or "
    "a default argument), so one conversation reads another's tokens."
)


def check_cache(function: CacheClass) -> None:
    """Exercise 13."""
    cache = _new_cache(function, N_LAYERS, MAX_LENGTH)
    expect(
        cache.length == 0,
        "names-wrong",
        f"A new cache should have `length` 0, but yours has {cache.length!r}.",
    )
    for _ in range(2):  # what an earlier check left over, then what this one leaves
        _check_first_columns(function)
    _check_reading(cache, N_LAYERS, (4, 1, 3))
    _check_second_cache(function)
    _check_limit(function, cache)
    for n_layers in (1, 3):
        long_cache = _new_cache(function, n_layers, 64)
        _check_reading(long_cache, n_layers, (5, *[1] * 30))
    _check_alternating_caches(function)
    _check_model(function)


def _columns(seed: int, T: int) -> Tensor:
    """Keys or values of T tokens."""
    return random_tensor(2, 3, T, 4, seed=seed)


def _new_cache(function: CacheClass, n_layers: int, max_length: int) -> Any:
    cache = call_function(function, n_layers, max_length)
    for name in ("length", "extend"):
        expect(hasattr(cache, name), "names-wrong", f"The class has no `{name}`.")
    expect(
        not callable(cache.length),
        "names-wrong",
        "`length` is a method: make it an attribute, or a property.",
    )
    return cache


def _check_reading(cache: Any, n_layers: int, chunks: Sequence[int]) -> None:
    """A model reads chunks of tokens, layer by layer."""
    all_keys: list[list[Tensor]] = [[] for _ in range(n_layers)]
    all_values: list[list[Tensor]] = [[] for _ in range(n_layers)]
    n_read = 0
    for step, T in enumerate(chunks):
        for layer in range(n_layers):
            keys = _columns(100 * step + 10 * layer, T)
            values = _columns(100 * step + layer + 1, T)
            all_keys[layer].append(keys)
            all_values[layer].append(values)
            _check_length_before(cache.length, n_read, T, layer, n_layers)
            result = _extend(cache, layer, keys, values)
            expected = (torch.cat(all_keys[layer], dim=2), torch.cat(all_values[layer], dim=2))
            _check_result(result, expected, T)
        n_read += T
        _check_length_after(cache.length, n_read, T, n_layers)


def _extend(cache: Any, layer: int, keys: Tensor, values: Tensor, case: str = "") -> Any:
    """The result of `extend`, which must leave its tensors as they are."""

    def extend(keys: Tensor, values: Tensor) -> Any:
        return cache.extend(layer, keys, values)

    consequence = "the given keys or values in place."
    return call_without_mutation(
        extend, keys, values, untouched=2, consequence=consequence, case=case
    )


def _check_length_before(length: int, n_read: int, T: int, layer: int, n_layers: int) -> None:
    """`length` stays, until the last layer has its columns."""
    if length == n_read:
        return
    if layer == 0 and abs(length - n_read) == 1:
        raise _length_off_by_one(length, n_read)
    raise _length_per_layer(length, n_read, T, layer, n_layers)


def _check_length_after(length: int, n_read: int, T: int, n_layers: int) -> None:
    """`length` has grown by the T columns that all layers now have."""
    if length == n_read:
        return
    expect(
        length != n_read - T,
        "cache-length-stays",
        f"After {n_read} tokens in all {n_layers} layers, `length` is still {length}: it should "
        "grow by the number of new columns when the last layer stores them.",
    )
    if abs(length - n_read) == 1:
        raise _length_off_by_one(length, n_read)
    raise _length_per_layer(length, n_read - T, T, n_layers, n_layers)


def _length_off_by_one(length: int, n_read: int) -> Mistake:
    return Mistake(
        "cache-position-off-by-one",
        f"After {n_read} tokens, `length` is {length}: the next token gets the wrong position, and "
        "answers differ from those without a cache.",
    )


def _length_per_layer(length: int, n_read: int, T: int, layer: int, n_layers: int) -> Mistake:
    return Mistake(
        "cache-length-per-layer",
        f"After {n_read} tokens, and after {layer} of {n_layers} layers stored {T} more, `length` "
        f"is {length}: it should grow once for all layers, when the last one stores its columns. "
        "Otherwise the layers write to different places.",
    )


def _check_result(result: Any, expected: tuple[Tensor, Tensor], T: int) -> None:
    """All keys and values of a layer so far, the T new ones at the end."""
    expect(
        isinstance(result, tuple | list) and len(result) == 2,
        "not-a-pair",
        f"Expected (keys, values), but got {describe(result)}.",
    )
    keys, values = result
    expected_keys, expected_values = expected
    if not (isinstance(keys, Tensor) and close(keys, expected_keys)):
        _name_wrong_columns("keys", keys, expected_keys, expected_values, T)
    if not (isinstance(values, Tensor) and close(values, expected_values)):
        _name_wrong_columns("values", values, expected_values, expected_keys, T)


def _name_wrong_columns(
    name: str, returned: Any, expected: Tensor, expected_other: Tensor, T: int
) -> None:
    """Name what is wrong with the keys or the values; `expected_other` is the other of the two."""
    expect(isinstance(returned, Tensor), "no-tensor", f"The {name} are {describe(returned)}.")
    shape = tuple(returned.shape)
    expect(returned.ndim == 4, "shape-wrong", f"The {name} have shape {shape}.")
    S = expected.shape[2]
    width = returned.shape[2]
    expect(
        width != MAX_LENGTH or S == MAX_LENGTH,
        "cache-unfilled-columns",
        f"All {MAX_LENGTH} columns are returned, {MAX_LENGTH - S} of them still empty: the model "
        "would attend to tokens that don't exist. Return only the filled ones.",
    )
    expect(
        returned.shape == expected.shape or width == T,
        "shape-wrong",
        f"The {name} have shape {shape}, but should have {tuple(expected.shape)}: new columns are "
        "appended along the token axis.",
    )
    expect(
        width == S,
        "cache-forgets",
        "Only the new columns are returned: the tokens before them are forgotten.",
    )
    new_columns = expected[:, :, -T:]
    expect(
        not close(returned[:, :, :T], new_columns),
        "cache-overwrites",
        "The new columns were written over the first ones: the beginning of the text is lost or "
        "moved. Append new columns after those that are there.",
    )
    for step in (-1, 1):
        expect(
            not close(returned[:, :, S - T + step : S + step], new_columns),
            "cache-position-off-by-one",
            "The new columns are one place off: they overwrite the last filled column, or leave a "
            "gap.",
        )
    expect(
        not close(returned, expected_other), "keys-values-swapped", "Keys and values are swapped."
    )
    raise Mistake("cache-wrong", f"The {name} that came back are not those that were stored.")


def _check_first_columns(function: CacheClass) -> None:
    """The first columns of a new cache come back alone."""
    keys = _columns(7, 2)
    result = _extend(_new_cache(function, N_LAYERS, MAX_LENGTH), 0, keys, keys)
    returned = result[0] if isinstance(result, tuple | list) and result else None
    if not isinstance(returned, Tensor) or returned.ndim != 4:
        return  # another mistake
    width = returned.shape[2]
    expect(
        width in (2, MAX_LENGTH) or not close(returned[:, :, -2:], keys),
        "cache-shared-between-calls",
        SHARED,
    )


def _check_second_cache(function: CacheClass) -> None:
    """A second cache knows nothing of the first."""
    cache = _new_cache(function, N_LAYERS, MAX_LENGTH)
    expect(cache.length == 0, "cache-shared-between-calls", SHARED)
    keys = _columns(7, 2)
    result = _extend(cache, 0, keys, keys)
    expect(close(result[0], keys), "cache-shared-between-calls", SHARED)


def _check_alternating_caches(function: CacheClass) -> None:
    """Two conversations at the same time."""
    caches = [_new_cache(function, 1, 8) for _ in range(2)]
    stored: list[list[Tensor]] = [[], []]
    for step in range(3):
        for number, cache in enumerate(caches):
            keys = _columns(50 * number + step, 2)
            stored[number].append(keys)
            result = _extend(cache, 0, keys, keys)
            expect(
                close(result[0], torch.cat(stored[number], dim=2)),
                "cache-shared-between-calls",
                "Two caches that are used alternately mix up their contents: they share something.",
            )


def _check_limit(function: CacheClass, full: Any) -> None:
    """What doesn't fit is refused: at once, at the end, in any layer; and it changes nothing."""
    empty = _new_cache(function, N_LAYERS, 4)
    almost_full = _new_cache(function, N_LAYERS, 4)
    three = _columns(8, 3)
    one = _columns(9, 1)
    for layer in range(N_LAYERS):
        _extend(almost_full, layer, three, three)
    _extend(almost_full, 0, one, one)
    for cache, layer, T, max_length in (
        (full, 0, 2, MAX_LENGTH),
        (empty, 0, 5, 4),
        (almost_full, 1, 2, 4),
    ):
        before = cache.length
        _check_refusal(cache, layer, _columns(10, T), max_length)
        expect(
            cache.length == before,
            "cache-no-limit",
            "Columns that were refused with an error are still counted.",
        )
    result = _extend(almost_full, 1, one, one, case="columns that just fit")
    expect(
        close(result[0], torch.cat([three, one], dim=2)),
        "cache-no-limit",
        "Columns that were refused with an error were still stored.",
    )


def _check_refusal(cache: Any, layer: int, keys: Tensor, max_length: int) -> None:
    total = cache.length + keys.shape[2]
    _, error = try_call(cache.extend, layer, keys, keys)
    if isinstance(error, ValueError):
        return
    if error is not None:
        raise Mistake(
            "cache-no-limit",
            f"{total} tokens in a cache for {max_length} raised {describe_error(error)}: raise a "
            "ValueError.",
        )
    raise Mistake(
        "cache-no-limit",
        f"{total} tokens went into a cache for {max_length} (layer {layer}): raise a ValueError "
        "before anything is stored, since what doesn't fit would be lost.",
    )


class _ModelCache(KVCache):
    """A learner's cache, with what else a model asks of one: positions and a mask."""

    def __init__(self, cache: Any) -> None:
        self.cache = cache
        self.in_front = 0

    @property
    def length(self) -> int:  # type: ignore[override]  # the learner's cache counts
        """The columns filled."""
        return self.cache.length

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """What the learner's cache returns."""
        return self.cache.extend(layer, keys, values)


def _check_model(function: CacheClass) -> None:
    """With the cache a model must give the same logits as without it."""
    model = GPTModel(CONFIG, torch.Generator().manual_seed(1)).eval()
    token_ids = torch.arange(10).view(1, 10)
    cache = _ModelCache(call_function(function, CONFIG.n_layers, 10))
    chunks = token_ids.split([4, 1, 1, 3, 1], dim=1)
    with torch.no_grad():
        logits = [call_function(model, chunk, cache=cache) for chunk in chunks]
        expect(
            close(torch.cat(logits, dim=1), model(token_ids)),
            "cache-changes-answers",
            "With the cache, the model gives other logits than without it.",
        )
