"""The inputs of a collate function: shape, padding, and what must not be in them."""

import torch

from ch07.exercises.checks.collate_case import Case, Collate, Item
from ch07.exercises.learner_code import call_function
from ch07.exercises.mistake import Mistake, expect
from collate import END_OF_TEXT

SHORT_ROWS: list[Item] = [[1], [2, 3]]
SHORT_PAIRS: list[Item] = [(0, [1]), (1, [2, 3])]  # the same for exercise 6


def check_inputs(case: Case, function: Collate, short_batch: list[Item] = SHORT_ROWS) -> None:
    """The inputs are the rows, padded on the right to the longest.

    `short_batch` is a batch of short rows in the form that the exercise takes.
    """
    inputs = case.inputs
    expect(
        not bool((inputs == -100).any()),
        "ignore-in-inputs",
        "The inputs contain -100. That is not a token: the embedding has no row for it. Only "
        "targets are masked; inputs are padded with pad_token_id.",
        case.inputs_table,
    )
    expect(
        len(inputs) == len(case.rows),
        "rows-lost",
        f"The batch has {len(case.rows)} rows, but {len(inputs)} came back.",
        case.inputs_table,
    )
    if inputs.shape[1] != case.expected_inputs.shape[1]:
        _name_wrong_width(case, function, short_batch)
    if not torch.equal(inputs, case.expected_inputs):
        _name_wrong_padding(case)


def _name_wrong_padding(case: Case) -> None:
    T = case.expected_inputs.shape[1]
    left = torch.tensor([[END_OF_TEXT] * (T - len(row)) + row for row in case.rows])
    expect(
        not torch.equal(case.inputs, left),
        "pad-left",
        "The padding is on the left. For training it belongs on the right: otherwise the first "
        "token of a row gets a position that it never has at inference.",
        case.inputs_table,
    )
    padding = torch.tensor([[i >= len(row) for i in range(T)] for row in case.rows])
    expect(
        not bool(padding.any()) or bool(case.inputs[padding].any()),
        "pad-zero",
        "The padding is 0, but 0 is an ordinary token ('!' in GPT-2): use pad_token_id.",
        case.inputs_table,
    )
    raise Mistake("inputs-wrong", "The inputs are wrong.", case.inputs_table())


def _name_wrong_width(case: Case, function: Collate, short_batch: list[Item]) -> None:
    width = case.inputs.shape[1]
    T = case.expected_inputs.shape[1]
    if width > T and _width(function, short_batch) == width:
        raise Mistake(
            "pad-fixed-length",
            f"Every batch is {width} columns wide, however short its rows are: pad to the longest "
            "row of the batch. All padding beyond that costs time and teaches nothing.",
        )
    if width == T + 1:
        raise Mistake(
            "extra-column",
            "The inputs are one column too wide: the end-of-text token that was added for the "
            "targets is no input. Drop the last column.",
            case.inputs_table(),
        )
    if width == T - 1:
        raise Mistake(
            "end-dropped",
            "One column is missing. The shift takes one away, so each row first needs an extra "
            "end-of-text token: without it, the model never learns to stop.",
            case.inputs_table(),
        )
    raise Mistake(
        "wrong-width",
        f"The inputs are {width} columns wide, but the longest row has {T} tokens.",
        case.inputs_table(),
    )


def _width(function: Collate, batch: list[Item]) -> int | None:
    """How wide the inputs of a batch are."""
    result = call_function(function, batch)
    inputs = result[0] if isinstance(result, tuple | list) else result
    return inputs.shape[1] if getattr(inputs, "ndim", 0) == 2 else None
