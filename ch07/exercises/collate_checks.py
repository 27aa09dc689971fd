"""Exercises 3 to 6, the collate functions: what is checked, in order, and what is said."""

import torch

from ch07.exercises.batch_checks import (
    END,
    called,
    check_end_of_longest,
    check_inputs,
    check_shift,
    pair,
    shapes,
)
from ch07.exercises.findings import call, compared, expect
from ch07.exercises.option_checks import (
    check_device_default,
    check_ignore_index,
    check_limit,
    check_options,
)
from collate import (
    custom_collate_draft_1,
    custom_collate_draft_2,
    custom_collate_fn,
    custom_collate_response_fn,
)

TOY = [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]
LONGER = [[11, 12, 13, 14, 15, 16, 17], [18]]


def check_draft_1(function):
    """Exercise 3: inputs only."""
    for batch in (TOY, LONGER):
        inputs = called(function, batch)
        expect(
            not isinstance(inputs, tuple | list),
            "more-than-inputs",
            f"Draft 1 returns one tensor, the inputs, but yours returned a "
            f"{type(inputs).__name__} of {len(inputs) if hasattr(inputs, '__len__') else '?'}.",
        )
        check_inputs(function, inputs, batch)
    check_options(function, custom_collate_draft_1)


def check_draft_2(function):
    """Exercise 4: inputs and targets, padding not masked yet."""
    for batch in (TOY, LONGER):
        inputs, targets = pair(called(function, batch))
        check_shift(function, inputs, targets, batch)
        expected = custom_collate_draft_2(batch)[1]
        expect(
            not torch.equal(targets, custom_collate_fn(batch)[1]),
            "already-final",
            "The padding is masked already, which is right in the end: draft 2 leaves it as it "
            "is, to show what that does. Take this as your answer to exercise 5.",
        )
        _equal_targets(targets, expected)
    check_options(function, custom_collate_draft_2)


def check_final(function):
    """Exercise 5: inputs and targets, padding masked by position, rows cut."""
    check_device_default(function)
    for batch in (TOY, LONGER):
        inputs, targets = pair(called(function, batch))
        check_shift(function, inputs, targets, batch)
        _check_mask(targets, custom_collate_fn(batch)[1], batch)
    _check_inner_end(function)
    check_options(function, custom_collate_fn)
    check_ignore_index(function, TOY, custom_collate_fn)
    check_limit(function, custom_collate_fn, [[1, 2, 3, 4, 5], [6, 7], [8, 9, 10]])


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
    full = custom_collate_fn(token_ids)[1]
    for i, (n, ids) in enumerate(rows):  # behind the prompt it is exercise 5 again
        full[i, : n - 1] = -100
        end = len(ids) - 1
        expect(
            targets[i, end] != -100,
            "end-masked-too",
            "The end-of-text after the answer is masked: the model will never learn to stop.",
            lambda: compared("targets", targets, expected),
        )
    _check_mask(targets, full, token_ids)
    alone = pair(call(function, [(0, [1, 2]), (1, [3, 4])], case="a row without a prompt"))[1]
    _equal_targets(alone, custom_collate_response_fn([(0, [1, 2]), (1, [3, 4])])[1])
    check_options(function, custom_collate_response_fn, items=rows)
    check_ignore_index(function, rows, custom_collate_response_fn)
    check_limit(function, custom_collate_response_fn, rows)


def _equal_targets(targets, expected):
    expect(targets.shape == expected.shape, "targets-shape", shapes(targets, expected))
    expect(
        torch.equal(targets, expected),
        "targets-wrong",
        "The targets are not right.",
        lambda: compared("targets", targets, expected),
    )


def _check_mask(targets, expected, batch):
    """Which targets of rows with padding are masked."""
    table = lambda: compared("targets", targets, expected)  # noqa: E731
    padded = [i for i, row in enumerate(batch) if len(row) < targets.shape[1]]
    ends = [int(targets[i, len(batch[i]) - 1]) for i in padded]
    behind = torch.cat([targets[i, len(batch[i]) :] for i in padded])
    expect(
        not (behind != -100).all(),
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
    check_end_of_longest(targets, batch)
    expect(torch.equal(targets, expected), "mask-wrong", "The wrong targets are masked.", table)


def _check_inner_end(function):
    """A row may hold 50256 in its middle: position decides, not value."""
    batch = [[1, END, 2, 3], [4, 5]]
    targets = pair(called(function, batch))[1]
    expected = custom_collate_fn(batch)[1]
    expect(
        torch.equal(targets, expected),
        "mask-by-value",
        "Right for all rows without a 50256 of their own (the book's version goes so far). But "
        "row 0 holds one in its middle, and its real end was masked: go by the row's length, "
        "not by the value.",
        lambda: compared("targets", targets, expected),
    )


def _check_prompt_mask(targets, expected, rows):
    """How many targets at the start of each row are masked, against how many should be."""
    table = lambda: compared("targets", targets, expected)  # noqa: E731
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
