"""The options of a collate function: pad_token_id, ignore_index, allowed_max_length, device."""

import inspect

import torch

from ch07.exercises.checks.collate_common import called, kind, pair
from ch07.exercises.report import Mistake, comparison_table, expect, try_call
from collate import END_OF_TEXT as END

PAD = 3  # stands for another tokenizer's padding


def check_device_default(function):
    """Said from the signature, since on a machine without a GPU nothing else shows it."""
    try:
        parameter = inspect.signature(function).parameters.get("device")
    except (TypeError, ValueError):
        return
    default = "cpu" if parameter is None else parameter.default
    expect(
        default is inspect.Parameter.empty or str(default) in ("cpu", "None"),
        "device-in-worker",
        f"`device` is {str(default)!r} unless the caller says otherwise. Collate runs in data "
        "loader workers, which can't use a GPU: return CPU tensors, and let the loop move them.",
    )


def check_options(function, reference, items=None):
    """pad_token_id is used, and the tensors are where the caller wants them."""
    batch = items or [[5, PAD, 7, 8], [9, 4]]
    returned = _several(called(function, batch, pad_token_id=PAD))
    expected = _several(reference(batch, pad_token_id=PAD))
    for name, mine, right in zip(("inputs", "targets"), returned, expected, strict=False):
        expect(
            mine.shape == right.shape and torch.equal(mine, right),
            "pad-hard-coded",
            f"With pad_token_id={PAD} the {name} are wrong: some place in the code still says "
            "50256, or finds the padding by its value.",
            lambda name=name, mine=mine, right=right: comparison_table(name, mine, right),
        )
    moved, error = try_call(function, batch, device="meta")
    if error is not None:  # code that computes on the device can't compute on this one: fine
        return
    moved = _several(moved)
    expect(
        all(tensor.device.type == "meta" for tensor in moved),
        "device-ignored",
        "`device` is not used: with device='meta' the tensors stay where they were.",
    )


def check_ignore_index(function, batch, reference):
    """Another ignore_index is used."""
    targets = pair(called(function, batch, ignore_index=-1))[1]
    expected = reference(batch, ignore_index=-1)[1]
    expect(
        torch.equal(targets, expected),
        "ignore-hard-coded",
        "With ignore_index=-1 the targets are wrong: some place in the code still says -100.",
        lambda: comparison_table("targets", targets, expected),
    )


def check_limit(function, reference, batch):
    """allowed_max_length: below, at and above the lengths of the rows."""
    lengths = [len(item[1]) if isinstance(item, tuple) else len(item) for item in batch]
    longest = max(lengths)
    others = ({}, {"pad_token_id": PAD, "ignore_index": -1})
    limits = (longest - 2, 1, longest - 1, longest, longest + 5)
    for limit, other in [(limit, other) for other in others for limit in limits]:
        options = {"allowed_max_length": limit, **other}
        inputs, targets = pair(called(function, batch, **options))
        expected = reference(batch, **options)
        _check_widths(inputs, targets, expected, limit)
        expect(
            torch.equal(inputs, expected[0]),
            "limit-inputs-wrong",
            f"With {_spelled(options)} the inputs are wrong.",
            lambda mine=inputs, right=expected[0]: comparison_table("inputs", mine, right),
        )
        if torch.equal(targets, expected[1]):
            continue
        table = comparison_table("targets", targets, expected[1])
        for i, n in enumerate(lengths):
            end = other.get("pad_token_id", END)
            if n > limit and targets[i, -1] == end != expected[1][i, -1]:
                raise Mistake(
                    "cut-row-gets-end",
                    "A row that was cut gets an end-of-text target: the model learns to stop in "
                    "the middle of a sentence. Cut last; a cut row has no end.",
                    table,
                )
        raise Mistake(
            "limit-targets-wrong",
            f"With {_spelled(options)} the targets are wrong.",
            table,
        )


def _spelled(options):
    return ", ".join(f"{name}={value}" for name, value in options.items())


def _check_widths(inputs, targets, expected, limit):
    expect(
        len(inputs) == len(targets) == len(expected[0]),
        "limit-cuts-rows",
        f"With allowed_max_length={limit}, {len(inputs)} rows came back of {len(expected[0])}: "
        "the limit is for columns, `[:, :allowed_max_length]`.",
    )
    mine, right = (inputs.shape[1], targets.shape[1]), expected[0].shape[1]
    expect(
        mine[0] == mine[1],
        "truncate-one-side",
        f"With allowed_max_length={limit} the inputs are {mine[0]} wide and the targets "
        f"{mine[1]}: cut both.",
    )
    expect(
        mine[0] <= limit,
        "limit-ignored",
        f"With allowed_max_length={limit} the rows are still {mine[0]} wide.",
    )
    expect(
        mine[0] == right,
        "limit-width",
        f"With allowed_max_length={limit} the rows are {mine[0]} wide, expected {right}: the "
        "limit counts columns of inputs and targets, and never makes a row longer.",
    )


def _several(result):
    if isinstance(result, torch.Tensor):
        return (result,)
    if not isinstance(result, tuple | list):
        raise Mistake("not-a-pair", f"With an option given, the result is {kind(result)}.")
    return result
