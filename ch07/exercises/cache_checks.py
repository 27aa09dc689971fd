"""Exercise 13, the KV cache: what is checked and said."""

import torch

from ch07.exercises.batch_checks import kind
from ch07.exercises.findings import Mistake, call, expect, same
from ch07.exercises.model_checks import CONFIG
from gpt_model import GPTModel

LAYERS, ROOM = 2, 9


def _columns(seed, T):
    """Keys or values (B, H, T, D) with numbers of their own."""
    stream = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, T, 4, generator=stream)


def check_cache(function):
    """Exercise 13."""
    cache = call(function, LAYERS, ROOM)
    expect(
        getattr(cache, "length", None) == 0,
        "names-wrong",
        f"A new cache has `length` 0, but yours has {getattr(cache, 'length', 'none')}.",
    )
    stored = [([], []) for _ in range(LAYERS)]
    read = 0
    for step, T in enumerate((4, 1, 3)):
        for layer in range(LAYERS):
            keys, values = _columns(100 * step + 10 * layer, T), _columns(100 * step + layer + 1, T)
            stored[layer][0].append(keys)
            stored[layer][1].append(values)
            _check_length(cache, read, T, layer)
            result = call(cache.extend, layer, keys.clone(), values.clone())
            _check_result(result, [torch.cat(part, dim=2) for part in stored[layer]], keys)
        read += T
        _check_length(cache, read, T, LAYERS)
    _check_fresh(function)
    _check_room(cache)
    _check_model(function)


def _check_length(cache, read, T, layer):
    """`length` grows once, after the last layer."""
    if cache.length == read:
        return
    if layer in (0, LAYERS) and abs(cache.length - read) == 1:
        raise Mistake(
            "cache-position-off-by-one",
            f"After {read} tokens `length` is {cache.length}: the next token gets the wrong "
            "position, and its answer drifts from the one without a cache.",
        )
    raise Mistake(
        "cache-length-per-layer",
        f"After {read} whole columns, and {layer} of {LAYERS} layers of the next {T}, `length` "
        f"is {cache.length}: it should grow once for all layers, when the last one has its "
        "columns. Otherwise each layer writes to another place.",
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
            "The new columns were written over the first ones: the beginning of the text is "
            "lost. They belong behind what is there.",
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
    fresh = call(function, LAYERS, ROOM)
    keys = _columns(7, 2)
    sentence = (
        "A new cache holds what an earlier one was given: they share a list (a class attribute, "
        "or a default argument), so one conversation reads another's tokens."
    )
    expect(fresh.length == 0, "cache-shared-between-calls", sentence)
    result = call(fresh.extend, 0, keys, keys)
    expect(same(result[0], keys), "cache-shared-between-calls", sentence)


def _check_room(cache):
    keys = _columns(8, 2)
    try:
        cache.extend(0, keys, keys)
    except ValueError:
        return
    except Exception as error:
        raise Mistake("cache-no-limit", f"{10} tokens in a cache for {ROOM} raised "
                      f"{type(error).__name__}: raise a ValueError.") from error  # fmt: skip
    raise Mistake(
        "cache-no-limit",
        f"10 tokens went into a cache for {ROOM}: raise a ValueError, since what doesn't fit is "
        "lost.",
    )


def _check_model(function):
    """With the cache a model must say what it says without."""
    model = GPTModel(CONFIG, torch.Generator().manual_seed(1)).eval()
    ids = torch.arange(10).view(1, 10)
    cache = call(function, CONFIG.n_layers, 10)
    with torch.no_grad():
        parts = [call(model, part, cache=cache) for part in ids.split((4, 1, 1, 3, 1), dim=1)]
        expect(
            same(torch.cat(parts, dim=1), model(ids)),
            "cache-changes-answers",
            "With the cache, the model gives other numbers than without it.",
        )
