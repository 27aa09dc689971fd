"""Exercises 3 to 6, the collate functions: what is checked, in order, and what is said."""

import torch

from ch07.exercises.checks.collate_common import (
    END,
    called,
    check_end_of_longest,
    check_inputs,
    check_shift,
    kind,
    pair,
    shapes,
)
from ch07.exercises.checks.collate_options import (
    check_device_default,
    check_ignore_index,
    check_limit,
    check_options,
)
from ch07.exercises.report import comparison_table, expect
from collate import (
    custom_collate_draft_1,
    custom_collate_draft_2,
    custom_collate_fn,
    custom_collate_response_fn,
)

TOY = [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]
BATCHES = [  # the book's, then: longest last, one row, equal lengths, long rows with large ids
    TOY,
    [[18], [11, 12, 13, 14, 15, 16, 17]],
    [[5, 6, 7, 8]],
    [[1, 2, 3, 4], [5, 6, 7, 8]],
    [[21, 22, 23, 24], [25, 26, 27, 28]],
    [[*range(300, 340)], [50000, 0, 50255, 0], [1]],
    [[9]],
]
WITH_END = [  # rows that hold 50256 themselves: in the middle, at the end, and nothing else
    [[1, END, 2, 3], [4, 5]],
    [[6, 7, 8, 9, 10], [1, END, 2], [3, 4, END]],
    [[1, 2, END], [3]],
    [[END, END], [1, 2, 3]],
]


def check_draft_1(function):
    """Exercise 3: inputs only."""
    for batch in BATCHES:
        inputs = called(function, batch)
        expect(
            not isinstance(inputs, tuple | list),
            "more-than-inputs",
            f"Draft 1 returns one tensor, the inputs, but yours returned {kind(inputs)}.",
        )
        check_inputs(function, inputs, batch)
    check_options(function, custom_collate_draft_1)


def check_draft_2(function):
    """Exercise 4: inputs and targets, padding not masked yet."""
    for batch in BATCHES:
        inputs, targets = pair(called(function, batch))
        check_shift(function, inputs, targets, batch)
        expected = custom_collate_draft_2(batch)[1]
        expect(
            torch.equal(targets, expected) or not torch.equal(targets, custom_collate_fn(batch)[1]),
            "already-final",
            "The padding is masked already, which is right in the end: draft 2 leaves it as it "
            "is, to show what that does. Take this as your answer to exercise 5.",
        )
        _equal_targets(targets, expected)
    check_options(function, custom_collate_draft_2)


def check_final(function):
    """Exercise 5: inputs and targets, padding masked by position, rows cut."""
    check_device_default(function)
    for batch in BATCHES:
        inputs, targets = pair(called(function, batch))
        check_shift(function, inputs, targets, batch)
        _check_mask(targets, custom_collate_fn(batch)[1], batch)
    for batch in WITH_END:
        _check_inner_end(function, batch)
    check_options(function, custom_collate_fn)
    check_ignore_index(function, TOY, custom_collate_fn)
    for batch in ([[1, 2, 3, 4, 5, 11], [6, 7], [8, 9, 10]], [[1, 2, 3, 4]]):
        check_limit(function, custom_collate_fn, batch)


def check_response(function):
    """Exercise 6: the prompt is masked as well."""
    check_device_default(function)
    rows = [(7, [21, 22, 23, 24, 25, 26, 27, 28, 29]), (6, list(range(31, 38))), (8, [*range(9)])]
    token_ids = [ids for _, ids in rows]
    inputs, targets = pair(called(function, rows))
    check_inputs(function, inputs, token_ids, items=rows)
    expected = custom_collate_response_fn(rows)[1]
    expect(targets.shape == expected.shape, "targets-shape", shapes(targets, expected))
    _check_prompt_mask(targets, expected, rows)
    for i, (_, ids) in enumerate(rows):
        expect(
            targets[i, len(ids) - 1] != -100,
            "end-masked-too",
            "The end-of-text after the answer is masked: the model will never learn to stop.",
            lambda: comparison_table("targets", targets, expected),
        )
    _check_mask(targets, expected, token_ids)
    _check_prompt_lengths(function)
    check_options(function, custom_collate_response_fn, items=rows)
    check_ignore_index(function, rows, custom_collate_response_fn)
    check_limit(function, custom_collate_response_fn, rows)


def _check_prompt_lengths(function):
    """Prompts of every length there is, in one row or several, around an inner 50256."""
    for n in (0, 1, 2, 3, 5):
        rows = [(n, [41, 42, 43, 44, 45]), (1, [46, END, 47])]
        for batch in (rows, rows[:1]):
            targets = pair(called(function, batch))[1]
            _equal_targets(targets, custom_collate_response_fn(batch)[1], f" (prompt_length {n})")


def _equal_targets(targets, expected, case=""):
    expect(targets.shape == expected.shape, "targets-shape", shapes(targets, expected))
    expect(
        torch.equal(targets, expected),
        "targets-wrong",
        f"The targets are not right{case}.",
        lambda: comparison_table("targets", targets, expected),
    )


def _check_mask(targets, expected, batch):
    """Which targets of rows with padding are masked."""

    def table():
        return comparison_table("targets", targets, expected)

    padded = [i for i, row in enumerate(batch) if len(row) < targets.shape[1]]
    if padded:
        _name_mask(targets, padded, batch, table)
    check_end_of_longest(targets, batch)
    expect(torch.equal(targets, expected), "mask-wrong", "The wrong targets are masked.", table)


def _name_mask(targets, padded, batch, table):
    ends = [int(targets[i, len(batch[i]) - 1]) for i in padded]
    behind = torch.cat([targets[i, len(batch[i]) :] for i in padded])
    expect(
        not (behind == END).all(),
        "none-masked",
        "No padding is masked: most of what a short row teaches is then to say end-of-text after "
        "end-of-text, and the loss looks better than it is.",
        table,
    )
    expect(
        END in ends or -100 not in ends,
        "all-padding-masked",
        "Every padding token was masked, so no row keeps an end-of-text target: the model will "
        "never learn to stop.",
        table,
    )
    first = torch.stack([targets[i, len(batch[i])] for i in padded])
    expect(
        not (first == END).any(),
        "mask-too-late",
        "A second end-of-text is counted after a row's end: the mask begins one place too late.",
        table,
    )


def _check_inner_end(function, batch):
    """A row may hold 50256 itself: position decides, not value."""
    targets = pair(called(function, batch))[1]
    expected = custom_collate_fn(batch)[1]
    expect(
        torch.equal(targets, expected),
        "mask-by-value",
        "Right for all rows without a 50256 of their own (the book's version goes so far). But "
        "here a row holds one itself, and the wrong one was taken for its end: go by the row's "
        "length, not by the value.",
        lambda: comparison_table("targets", targets, expected),
    )


def _check_prompt_mask(targets, expected, rows):
    """How many targets at the start of each row are masked, against how many should be."""

    def table():
        return comparison_table("targets", targets, expected)

    masked = [_leading(row) for row in targets]
    wanted = [n - 1 for n, _ in rows]
    extra = [a - b for a, b in zip(masked, wanted, strict=True)]
    expect(
        any(masked),
        "prompt-in-loss",
        "No prompt token is masked: the loss still counts the whole prompt.",
        table,
    )
    expect(
        extra != [1] * len(rows),
        "prompt-length-off-by-one",
        "One target too many is masked: the answer's first token is never learned. Position i "
        "predicts token i + 1, so the last prompt token has the first answer token as target, "
        "and only prompt_length - 1 targets are masked.",
        table,
    )
    expect(
        max(extra) <= 0,
        "answer-masked",
        "Tokens of the answer are masked: nothing is learned from them.",
        table,
    )
    unmasked = [i for i, n in enumerate(masked) if n == 0]
    expect(
        not unmasked or 0 not in extra,
        "prompt-in-loss",
        f"The prompt of row {unmasked[:1]} is not masked: the loss still counts it.",
        table,
    )
    expect(
        min(extra) >= 0,
        "header-in-loss",
        f"The last {-min(extra)} token(s) of a prompt are still targets: the model spends its "
        "loss on a header that is always the same. The mask ends where the answer begins.",
        table,
    )


def _leading(row):
    """How many targets at the start of a row are masked."""
    masked = (row == -100).tolist()
    return masked.index(False) if False in masked else len(masked)
