"""Exercises 3 to 6, the collate functions: what is checked, and in which order."""

import torch

from ch07.exercises.checks.collate_case import Case, Collate, Item, Row, inputs_case, pair_case
from ch07.exercises.checks.collate_inputs import SHORT_PAIRS, check_inputs
from ch07.exercises.checks.collate_options import (
    check_device_default,
    check_ignore_index,
    check_limit,
    check_options,
)
from ch07.exercises.checks.collate_prompt_mask import check_prompt_lengths, check_prompt_mask
from ch07.exercises.checks.collate_targets import (
    check_equal,
    check_inner_end,
    check_padding_mask,
    check_shift,
)
from ch07.exercises.mistake import expect
from collate import END_OF_TEXT as END
from collate import (
    custom_collate_draft_1,
    custom_collate_draft_2,
    custom_collate_fn,
    custom_collate_response_fn,
)

BOOK_BATCH: list[Row] = [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]
BATCHES: list[list[Row]] = [
    BOOK_BATCH,
    [[18], [11, 12, 13, 14, 15, 16, 17]],  # the longest row last
    [[5, 6, 7, 8]],  # one row
    [[1, 2, 3, 4], [5, 6, 7, 8]],  # equal lengths
    [[21, 22, 23, 24], [25, 26, 27, 28]],
    [[*range(300, 340)], [50000, 0, 50255, 0], [1]],  # a long row, large ids
    [[9]],
]
WITH_END: list[list[Row]] = [  # rows that contain 50256: in the middle, at the end, nothing else
    [[1, END, 2, 3], [4, 5]],
    [[6, 7, 8, 9, 10], [1, END, 2], [3, 4, END]],
    [[1, 2, END], [3]],
    [[END, END], [1, 2, 3]],
]
TO_BE_CUT: list[list[Row]] = [[[1, 2, 3, 4, 5, 11], [6, 7], [8, 9, 10]], [[1, 2, 3, 4]]]
PROMPTS_AND_ANSWERS: list[Item] = [
    (7, [21, 22, 23, 24, 25, 26, 27, 28, 29]),
    (6, [31, 32, 33, 34, 35, 36, 37]),
    (8, [0, 1, 2, 3, 4, 5, 6, 7, 8]),
]
PROMPT_LENGTHS = [7, 6, 8]


def check_draft_1(function: Collate) -> None:
    """Exercise 3: inputs only."""
    for batch in BATCHES:
        check_inputs(inputs_case(function, custom_collate_draft_1, batch), function)
    check_options(function, custom_collate_draft_1)


def check_draft_2(function: Collate) -> None:
    """Exercise 4: inputs and targets, padding not masked yet."""
    for batch in BATCHES:
        case = pair_case(function, custom_collate_draft_2, batch)
        check_shift(case, function)
        _check_not_final(case)
        check_equal(case)
    check_options(function, custom_collate_draft_2)


def _check_not_final(case: Case) -> None:
    final = custom_collate_fn(case.rows)[1]
    masked = torch.equal(case.targets, final) and not torch.equal(final, case.expected_targets)
    expect(
        not masked,
        "already-final",
        "The padding is already masked. That is right in the end, but draft 2 leaves it as it is, "
        "to show what goes wrong without the mask. Keep this as your answer to exercise 5.",
    )


def check_final(function: Collate) -> None:
    """Exercise 5: inputs and targets, padding masked by position, rows cut."""
    check_device_default(function)
    for batch in BATCHES:
        case = pair_case(function, custom_collate_fn, batch)
        check_shift(case, function)
        check_padding_mask(case)
    for batch in WITH_END:
        check_inner_end(pair_case(function, custom_collate_fn, batch))
    check_options(function, custom_collate_fn)
    check_ignore_index(function, custom_collate_fn, BOOK_BATCH)
    for batch in TO_BE_CUT:
        check_limit(function, custom_collate_fn, batch)


def check_response(function: Collate) -> None:
    """Exercise 6: the prompt is masked as well."""
    check_device_default(function)
    case = pair_case(function, custom_collate_response_fn, PROMPTS_AND_ANSWERS)
    check_inputs(case, function, SHORT_PAIRS)
    check_prompt_mask(case, PROMPT_LENGTHS)
    check_padding_mask(case)
    check_prompt_lengths(function, custom_collate_response_fn)
    check_options(function, custom_collate_response_fn, PROMPTS_AND_ANSWERS)
    check_ignore_index(function, custom_collate_response_fn, PROMPTS_AND_ANSWERS)
    check_limit(function, custom_collate_response_fn, PROMPTS_AND_ANSWERS)
