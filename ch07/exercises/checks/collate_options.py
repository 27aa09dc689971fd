"""The options of a collate function: pad_token_id, ignore_index, allowed_max_length, device."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ch07.exercises.checks.collate_case import (
    Case,
    Collate,
    Item,
    call_collate,
    pair_case,
    token_ids,
)
from ch07.exercises.checks.common import comparison_table, describe
from ch07.exercises.learner_code import try_call
from ch07.exercises.mistake import Mistake, expect
from collate import END_OF_TEXT

PAD = 3  # stands for another tokenizer's padding token
ROWS_WITH_PAD: list[Item] = [[5, PAD, 7, 8], [9, 4]]


def check_device_default(function: Collate) -> None:
    """Reads the signature, since without a GPU nothing else would show the mistake."""
    try:
        parameter = inspect.signature(function).parameters.get("device")
    except (TypeError, ValueError):
        return
    default = "cpu" if parameter is None else parameter.default
    expect(
        default is inspect.Parameter.empty or str(default) in ("cpu", "None"),
        "device-in-worker",
        f"`device` is {str(default)!r} by default. Collate runs in data loader workers, which "
        "can't use a GPU: return CPU tensors, and let the training loop move them.",
    )


def check_options(
    function: Collate, reference: Collate, batch: Sequence[Item] = ROWS_WITH_PAD
) -> None:
    """pad_token_id is used, and the tensors are on the device that the caller asks for."""
    returned = _tensors(call_collate(function, batch, pad_token_id=PAD))
    expected = _tensors(reference(batch, pad_token_id=PAD))
    for name, mine, right in zip(("inputs", "targets"), returned, expected, strict=False):
        expect(
            mine.shape == right.shape and torch.equal(mine, right),
            "pad-hard-coded",
            f"With pad_token_id={PAD} the {name} are wrong: the code still uses 50256 somewhere, "
            "or looks for the padding by its value.",
            lambda name=name, mine=mine, right=right: comparison_table(name, mine, right),
        )
    moved, error = try_call(function, batch, device="meta")
    if error is not None:  # "meta" holds no numbers: code that computes there may fail and be right
        return
    expect(
        all(tensor.device.type == "meta" for tensor in _tensors(moved)),
        "device-ignored",
        "`device` is not used: with device='meta' the tensors stay where they were.",
    )


def check_ignore_index(function: Collate, reference: Collate, batch: Sequence[Item]) -> None:
    """Another ignore_index is used."""
    case = pair_case(function, reference, batch, ignore_index=-1)
    expect(
        torch.equal(case.targets, case.expected_targets),
        "ignore-hard-coded",
        "With ignore_index=-1 the targets are wrong: the code still uses -100 somewhere.",
        case.targets_table,
    )


def check_limit(function: Collate, reference: Collate, batch: Sequence[Item]) -> None:
    """allowed_max_length below, at and above the lengths of the rows."""
    longest = max(len(token_ids(item)) for item in batch)
    for others in ({}, {"pad_token_id": PAD, "ignore_index": -1}):
        for limit in (longest - 2, 1, longest - 1, longest, longest + 5):
            options = {"allowed_max_length": limit, **others}
            _check_one_limit(pair_case(function, reference, batch, **options), options)


def _check_one_limit(case: Case, options: dict[str, int]) -> None:
    limit = options["allowed_max_length"]
    _check_widths(case, limit)
    expect(
        torch.equal(case.inputs, case.expected_inputs),
        "limit-inputs-wrong",
        f"With {_as_arguments(options)} the inputs are wrong.",
        case.inputs_table,
    )
    if torch.equal(case.targets, case.expected_targets):
        return
    end = options.get("pad_token_id", END_OF_TEXT)
    for i, row in enumerate(case.rows):
        is_cut = len(row) > limit
        expect(
            not is_cut
            or int(case.targets[i, -1]) != end
            or int(case.expected_targets[i, -1]) == end,
            "cut-row-gets-end",
            "A row that was cut gets an end-of-text target: the model learns to stop in the middle "
            "of a sentence. Cut last; a row that was cut has no end.",
            case.targets_table,
        )
    raise Mistake(
        "limit-targets-wrong",
        f"With {_as_arguments(options)} the targets are wrong.",
        case.targets_table(),
    )


def _check_widths(case: Case, limit: int) -> None:
    n_rows = len(case.rows)
    expect(
        len(case.inputs) == len(case.targets) == n_rows,
        "limit-cuts-rows",
        f"With allowed_max_length={limit}, {len(case.inputs)} of {n_rows} rows came back: the "
        "limit is for columns, `[:, :allowed_max_length]`.",
    )
    width = case.inputs.shape[1]
    expect(
        width == case.targets.shape[1],
        "truncate-one-side",
        f"With allowed_max_length={limit} the inputs are {width} columns wide and the targets "
        f"{case.targets.shape[1]}: cut both.",
    )
    expect(
        width <= limit,
        "limit-ignored",
        f"With allowed_max_length={limit} the rows are still {width} columns wide.",
    )
    expected = case.expected_inputs.shape[1]
    expect(
        width == expected,
        "limit-width",
        f"With allowed_max_length={limit} the rows are {width} columns wide, but should be "
        f"{expected}: the limit counts columns of inputs and targets, and never widens a row.",
    )


def _as_arguments(options: dict[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


def _tensors(result: Any) -> tuple[Tensor, ...]:
    """The one tensor of draft 1, or the two of the other versions."""
    if isinstance(result, Tensor):
        return (result,)
    expect(
        isinstance(result, tuple | list),
        "not-a-pair",
        f"Called with an option, your function returned {describe(result)}, not tensors.",
    )
    return tuple(result)
