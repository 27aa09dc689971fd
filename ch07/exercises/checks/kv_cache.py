"""Exercise 13, the KV cache: what is checked and said."""

import torch

from ch07.exercises.checks.block import CONFIG
from ch07.exercises.checks.collate_common import kind
from ch07.exercises.report import Mistake, call_function, describe_error, expect, same, try_call
from gpt_model import GPTModel

LAYERS = 2
ROOM = 9


def _columns(seed, T):
    """Keys or values (B, H, T, D) with numbers of their own."""
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, T, 4, generator=stream)


def check_cache(function):
    """Exercise 13."""
    cache = _new(function, LAYERS, ROOM)
    expect(cache.length == 0, "names-wrong", f"A new cache has `length` 0, yours {cache.length!r}.")
    _check_calls(cache, LAYERS, (4, 1, 3))
    _check_fresh(function)
    _check_room(function, cache)
    for layers in (1, 3):
        _check_calls(_new(function, layers, 64), layers, (5, *[1] * 30))
    _check_in_turns(function)
    _check_model(function)


def _new(function, layers, room):
    cache = call_function(function, layers, room)
    for name in ("length", "extend"):
        expect(hasattr(cache, name), "names-wrong", f"The class has no `{name}`.")
    expect(
        not callable(cache.length),
        "names-wrong",
        "`length` is a method: make it an attribute, or a property.",
    )
    return cache


def _check_calls(cache, layers, chunks):
    """A model reads chunks of tokens, layer by layer."""
    stored = [([], []) for _ in range(layers)]
    read = 0
    for step, T in enumerate(chunks):
        for layer in range(layers):
            keys, values = _columns(100 * step + 10 * layer, T), _columns(100 * step + layer + 1, T)
            stored[layer][0].append(keys)
            stored[layer][1].append(values)
            _check_length(cache, read, T, layer, layers)
            given = keys.clone(), values.clone()
            result = call_function(cache.extend, layer, *given)
            expect(
                torch.equal(given[0], keys) and torch.equal(given[1], values),
                "batch-mutated",
                "The keys or values that were given are changed in place.",
            )
            _check_result(result, [torch.cat(part, dim=2) for part in stored[layer]], keys)
        read += T
        _check_length(cache, read, T, layers, layers)


def _check_length(cache, read, T, layer, layers):
    """`length` grows once, after the last layer."""
    length = cache.length
    if length == read:
        return
    if layer == layers and length == read - T:
        raise Mistake(
            "cache-length-stays",
            f"After {read} tokens in all {layers} layers `length` is still {length}: it grows by "
            "the new columns when the last layer has them.",
        )
    if layer in (0, layers) and abs(length - read) == 1:
        raise Mistake(
            "cache-position-off-by-one",
            f"After {read} tokens `length` is {length}: the next token gets the wrong position, "
            "and its answer drifts from the one without a cache.",
        )
    raise Mistake(
        "cache-length-per-layer",
        f"After {read} whole columns, and {layer} of {layers} layers of the next {T}, `length` "
        f"is {length}: it should grow once for all layers, when the last one has its columns. "
        "Otherwise layers write to different places.",
    )


def _check_result(result, expected, new):
    expect(
        isinstance(result, tuple | list) and len(result) == 2,
        "not-a-pair",
        f"Expected (keys, values), got {kind(result)}.",
    )
    S, T = expected[0].shape[2], new.shape[2]
    for name, mine, right in zip(("keys", "values"), result, expected, strict=True):
        expect(isinstance(mine, torch.Tensor), "no-tensor", f"The {name} are {kind(mine)}.")
        if same(mine, right):
            continue
        expect(mine.ndim == 4, "shape-wrong", f"The {name} have shape {tuple(mine.shape)}.")
        width = mine.shape[2]
        expect(
            width != ROOM or S == ROOM,
            "cache-unfilled-columns",
            f"All {ROOM} columns come back, {ROOM - S} of them still empty: the model would "
            "attend to tokens that don't exist. Return the filled ones.",
        )
        expect(
            mine.shape == right.shape or width == T,
            "shape-wrong",
            f"The {name} have shape {tuple(mine.shape)}, expected {tuple(right.shape)}: new "
            "columns go behind the old ones, along the axis of tokens.",
        )
        expect(
            width == S,
            "cache-forgets",
            "Only the new columns come back: the tokens before them are forgotten.",
        )
        expect(
            not same(mine[:, :, :T], right[:, :, -T:]),
            "cache-overwrites",
            "The new columns stand where the first ones were: the beginning of the text is lost "
            "or moved. New columns belong behind what is there.",
        )
        shifted = [mine[:, :, S - T + step : S + step] for step in (-1, 1)]
        expect(
            not any(same(columns, right[:, :, -T:]) for columns in shifted),
            "cache-position-off-by-one",
            "The new columns stand one place beside theirs: they were written over the last "
            "filled one, or left a gap.",
        )
        other = expected[1 - ("keys", "values").index(name)]
        expect(not same(mine, other), "keys-values-swapped", "Keys and values are swapped.")
        raise Mistake("cache-wrong", f"The {name} that came back are not those that went in.")


def _check_fresh(function):
    """A second cache knows nothing of the first."""
    fresh = _new(function, LAYERS, ROOM)
    keys, given = _columns(7, 2), _columns(7, 2)
    sentence = (
        "A new cache holds what an earlier one was given: they share a list (a class attribute, "
        "or a default argument), so one conversation reads another's tokens."
    )
    expect(fresh.length == 0, "cache-shared-between-calls", sentence)
    result = call_function(fresh.extend, 0, given, given)
    expect(same(result[0], keys), "cache-shared-between-calls", sentence)


def _check_in_turns(function):
    """Two conversations at the same time."""
    caches = [_new(function, 1, 8) for _ in range(2)]
    stored = [[], []]
    for step in range(3):
        for number, cache in enumerate(caches):
            keys = _columns(50 * number + step, 2)
            stored[number].append(keys)
            result = call_function(cache.extend, 0, keys, keys)
            expect(
                same(result[0], torch.cat(stored[number], dim=2)),
                "cache-shared-between-calls",
                "Two caches that are used in turns mix up what they hold: they share something.",
            )


def _check_room(function, full):
    """What doesn't fit is refused, at once, at the end, in any layer; and it changes nothing."""
    empty, at_last = _new(function, LAYERS, 4), _new(function, LAYERS, 4)
    three = _columns(8, 3)
    for layer in range(LAYERS):
        call_function(at_last.extend, layer, three, three)
    call_function(at_last.extend, 0, _columns(9, 1), _columns(9, 1))
    cases = [(full, 0, 2, ROOM), (empty, 0, 5, 4), (at_last, 1, 2, 4)]
    for cache, layer, new, room in cases:
        before = cache.length
        _refuse(cache, layer, _columns(10, new), room)
        expect(
            cache.length == before,
            "cache-no-limit",
            "Columns that were refused with an error are counted all the same.",
        )
    result = call_function(
        at_last.extend, 1, _columns(9, 1), _columns(9, 1), case="what fits after all"
    )
    expect(
        same(result[0], torch.cat([three, _columns(9, 1)], dim=2)),
        "cache-no-limit",
        "Columns that were refused with an error have been stored all the same.",
    )


def _refuse(cache, layer, keys, room):
    total = cache.length + keys.shape[2]
    _, error = try_call(cache.extend, layer, keys, keys)
    if isinstance(error, ValueError):
        return
    if error is not None:
        raise Mistake(
            "cache-no-limit",
            f"{total} tokens in a cache for {room} raised {describe_error(error)}: "
            "raise a ValueError.",
        )
    raise Mistake(
        "cache-no-limit",
        f"{total} tokens went into a cache for {room} (layer {layer}): raise a ValueError before "
        "anything is stored, since what doesn't fit is lost.",
    )


def _check_model(function):
    """With the cache a model must say what it says without."""
    model = GPTModel(CONFIG, torch.Generator().manual_seed(1)).eval()
    ids = torch.arange(10).view(1, 10)
    cache = call_function(function, CONFIG.n_layers, 10)
    with torch.no_grad():
        parts = [
            call_function(model, part, cache=cache) for part in ids.split((4, 1, 1, 3, 1), dim=1)
        ]
        expect(
            same(torch.cat(parts, dim=1), model(ids)),
            "cache-changes-answers",
            "With the cache, the model gives other numbers than without it.",
        )
