"""The targets of a collate function: shifted by one, and masked where nothing is to be learned."""

import torch

from ch07.exercises.checks.collate_case import Case, Collate
from ch07.exercises.checks.collate_inputs import check_inputs
from ch07.exercises.mistake import expect
from collate import END_OF_TEXT


def check_shift(case: Case, function: Collate) -> None:
    """Inputs, and targets that are the inputs shifted by one, where neither is padding."""
    _check_inputs_against_targets(case)
    check_inputs(case, function)
    check_shape(case)
    if len(case.rows[case.longest]) >= 4:  # in shorter rows mistakes look alike
        _name_wrong_shift(case)
    row = case.targets[case.longest]
    expect(
        torch.equal(row[:-1], case.expected_targets[case.longest][:-1]),
        "targets-wrong",
        "The targets of the longest row are not its own next tokens.",
        case.targets_table,
    )


def check_shape(case: Case) -> None:
    """The targets have the shape of the inputs."""
    returned = tuple(case.targets.shape)
    expected = tuple(case.expected_targets.shape)
    expect(
        returned == expected,
        "targets-shape",
        f"The targets have shape {returned}, but should have {expected}.",
        case.targets_table,
    )


def check_equal(case: Case, where: str = "") -> None:
    """The targets are the reference's; `where` says what is special about the case."""
    check_shape(case)
    expect(
        torch.equal(case.targets, case.expected_targets),
        "targets-wrong",
        f"The targets are wrong{where}.",
        case.targets_table,
    )


def _check_inputs_against_targets(case: Case) -> None:
    """Mistakes that only show when the two tensors are compared."""
    inputs = case.inputs
    shared = inputs.untyped_storage().data_ptr() == case.targets.untyped_storage().data_ptr()
    expect(
        not (shared and bool((inputs == -100).any())),
        "shared-memory",
        "Inputs and targets are views of one tensor: what was masked in the targets is masked in "
        "the inputs as well. Give the targets memory of their own with `.clone()`.",
        case.inputs_table,
    )
    swapped = torch.equal(inputs, case.expected_targets)
    expect(
        not swapped or torch.equal(case.expected_inputs, case.expected_targets),
        "swapped",
        "Inputs and targets are swapped: the inputs begin with a row's first token, the targets "
        "with its second.",
        case.inputs_table,
    )


def _name_wrong_shift(case: Case) -> None:
    """Looks at the longest row, whose targets have no padding to hide a mistake."""
    row = case.targets[case.longest]
    right = case.expected_targets[case.longest]
    ids = case.inputs[case.longest]
    expect(
        not torch.equal(row, ids),
        "no-shift",
        "The targets equal the inputs: the model would learn to repeat the token that it has just "
        "read. Shift them by one.",
        case.targets_table,
    )
    expect(
        not bool((row[:-1] == -100).any()),
        "text-masked",
        "Targets that are tokens of the row itself are masked: nothing is learned from them.",
        case.targets_table,
    )
    expect(
        not torch.equal(row[:-2], right[1:-1]),
        "double-shift",
        "The targets are shifted by two: the model would learn to skip a token. Shift once, either "
        "here or in the loss.",
        case.targets_table,
    )
    expect(
        not torch.equal(row[1:], ids[:-1]),
        "shift-backwards",
        "The targets are shifted the wrong way: each is the token before, not the token after. The "
        "target of position i is token i + 1.",
        case.targets_table,
    )
    expect(
        not (torch.equal(row[:-1], right[:-1]) and bool(row[-1] == ids[0])),
        "roll-wraps",
        "The last target of a row is the row's first token, because torch.roll wraps around. The "
        "last target is the end-of-text token.",
        case.targets_table,
    )


def check_padding_mask(case: Case) -> None:
    """After a row's own end every target is masked, and nothing else is."""
    padded = [i for i, row in enumerate(case.rows) if len(row) < case.targets.shape[1]]
    if padded:
        _name_wrong_padding_mask(case, padded)
    expect(
        int(case.targets[case.longest, -1]) == END_OF_TEXT,
        "end-dropped",
        "The longest row has no end-of-text target: the model never learns to stop after it.",
        case.targets_table,
    )
    expect(
        torch.equal(case.targets, case.expected_targets),
        "mask-wrong",
        "The wrong targets are masked.",
        case.targets_table,
    )


def _name_wrong_padding_mask(case: Case, padded: list[int]) -> None:
    ends = [int(case.targets[i, len(case.rows[i]) - 1]) for i in padded]
    behind = torch.cat([case.targets[i, len(case.rows[i]) :] for i in padded])
    expect(
        not bool((behind == END_OF_TEXT).all()),
        "none-masked",
        "No padding is masked: a short row then mostly teaches the model to repeat end-of-text, "
        "and the loss looks better than it is.",
        case.targets_table,
    )
    expect(
        END_OF_TEXT in ends or -100 not in ends,
        "all-padding-masked",
        "Every padding token was masked, so no row keeps an end-of-text target: the model will "
        "never learn to stop.",
        case.targets_table,
    )
    first = [int(case.targets[i, len(case.rows[i])]) for i in padded]
    expect(
        END_OF_TEXT not in first,
        "mask-too-late",
        "A second end-of-text target is left after a row's end: the mask starts one place too "
        "late.",
        case.targets_table,
    )


def check_inner_end(case: Case) -> None:
    """A row may contain 50256 itself: its end is found by position, not by value."""
    expect(
        torch.equal(case.targets, case.expected_targets),
        "mask-by-value",
        "This works for rows that don't contain 50256 themselves, as the book's version does. But "
        "here a row contains one, and the wrong one was taken for the row's end: use the row's "
        "length, not the value.",
        case.targets_table,
    )
