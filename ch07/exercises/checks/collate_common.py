"""What holds for every collate function: its result's type, its inputs, its targets' shift."""

import copy

import torch

from ch07.exercises.report import Mistake, call_function, comparison_table, expect
from collate import END_OF_TEXT as END
from collate import custom_collate_draft_1, custom_collate_draft_2

WRONG_TARGETS = "The longest row's targets are not its own next tokens."
SQUEEZED = (
    (IndexError, TypeError, RuntimeError, ValueError),
    ("0-d", "0-dim", "dimension specified as 0"),
    Mistake(
        "squeeze-single",
        "It fails on a row with exactly one padding token: `.squeeze()` turns a list of one "
        "place into a bare number, which can't be sliced. Leave it out, or count first.",
    ),
)


def called(function, batch, **options):
    """The result for a batch that must come back unchanged."""
    mine = copy.deepcopy(batch)
    result = call_function(function, mine, known=[SQUEEZED], **options)
    expect(
        mine == batch,
        "batch-mutated",
        "Your function changed the caller's batch: the rows grow each time that they are "
        "collated, so every epoch sees other data. Work on a copy of each row.",
    )
    return result


def pair(result):
    """The result as (inputs, targets), two tensors (B, T) of whole numbers, or a `Mistake`."""
    expect(
        isinstance(result, tuple | list) and len(result) == 2,
        "not-a-pair",
        f"Expected two tensors, (inputs, targets), but got {kind(result)}.",
    )
    for name, tensor in zip(("inputs", "targets"), result, strict=True):
        _check_tensor(tensor, name)
    return result


def _check_tensor(tensor, name):
    expect(
        isinstance(tensor, torch.Tensor),
        "no-tensor",
        f"The {name} are {kind(tensor)}, but should be a tensor (B, T).",
    )
    expect(
        tensor.dtype == torch.int64,
        "float-ids" if tensor.is_floating_point() else "wrong-dtype",
        f"The {name} are {tensor.dtype}, but should be int64: ids are whole numbers, which the "
        "embedding and the loss look rows up by.",
    )
    expect(
        tensor.ndim == 2,
        "not-a-rectangle",
        f"The {name} have {tensor.ndim} axes, shape {tuple(tensor.shape)}, but should be (B, T): "
        "a row for each item of the batch.",
    )


def check_inputs(function, inputs, batch, items=None):
    """The inputs of a batch of token ids; `items` is the batch if its rows are more than ids."""
    _check_tensor(inputs, "inputs")
    expected = custom_collate_draft_1(batch)

    def table():
        return comparison_table("inputs", inputs, expected)

    expect(
        not (inputs == -100).any(),
        "ignore-in-inputs",
        "-100 stands among the inputs. It is no token: the embedding has no row for it. Only "
        "targets are masked; inputs are padded with pad_token_id.",
        table,
    )
    expect(
        len(inputs) == len(batch),
        "rows-lost",
        f"The batch has {len(batch)} rows, but {len(inputs)} came back.",
        table,
    )
    T = expected.shape[1]
    if inputs.shape[1] != T:
        _wrong_width(function, inputs.shape[1], T, table, items)
    _check_padding(inputs, expected, batch, table)


def _check_padding(inputs, expected, batch, table):
    """Where the padding stands, and what it is."""
    T = expected.shape[1]
    if torch.equal(inputs, expected):
        return
    left = torch.tensor([[END] * (T - len(row)) + row for row in batch])
    expect(
        not torch.equal(inputs, left),
        "pad-left",
        "The padding stands on the left. In training it belongs on the right: otherwise the "
        "first token of a row gets a position that it never has at inference.",
        table,
    )
    padding = torch.tensor([[i >= len(row) for i in range(T)] for row in batch])
    expect(
        not (inputs[padding] == 0).all() or not padding.any(),
        "pad-zero",
        "The padding is 0, but 0 is a token like any other ('!' in GPT-2): use pad_token_id.",
        table,
    )
    raise Mistake("inputs-wrong", "The inputs are not right.", table())


def _wrong_width(function, width, T, table, items):
    short = [[1], [2, 3]] if items is None else [(0, [1]), (1, [2, 3])]
    other = call_function(function, short)
    other = other[0] if isinstance(other, tuple | list) else other
    if width > T and getattr(other, "ndim", 0) == 2 and other.shape[1] == width:
        raise Mistake(
            "pad-fixed-length",
            f"Every batch is {width} wide, however short its rows: pad to the longest row of "
            "the batch. All padding beyond that costs time and teaches nothing.",
        )
    if width == T + 1:
        raise Mistake(
            "extra-column",
            "The inputs are one column too wide: the end-of-text that was added for the targets "
            "is nothing to read on from. Drop the last column.",
            table(),
        )
    if width == T - 1:
        raise Mistake(
            "end-dropped",
            "One column is missing. The shift takes a column away, so each row needs one "
            "end-of-text more before it: without that, the model never learns to stop.",
            table(),
        )
    raise Mistake("wrong-width", f"The rows are {width} wide, the longest row is {T}.", table())


def check_shift(function, inputs, targets, batch):
    """Inputs, and targets that are the inputs shifted by one, where neither is padding."""
    _check_pair(inputs, targets, batch)
    check_inputs(function, inputs, batch)
    expected = custom_collate_draft_2(batch)[1]

    def table():
        return comparison_table("targets", targets, expected)

    expect(targets.shape == expected.shape, "targets-shape", shapes(targets, expected), table)
    longest = max(range(len(batch)), key=lambda i: len(batch[i]))
    _name_shift(targets[longest], expected[longest], inputs[longest], table)


def _check_pair(inputs, targets, batch):
    """Mistakes that show only if both are looked at."""
    right = custom_collate_draft_2(batch)
    shared = inputs.untyped_storage().data_ptr() == targets.untyped_storage().data_ptr()
    expect(
        not (shared and (inputs == -100).any()),
        "shared-memory",
        "Inputs and targets are two views of one tensor: what was masked in the targets is "
        "masked in the inputs, too. Give the targets memory of their own with `.clone()`.",
        lambda: comparison_table("inputs", inputs, right[0]),
    )
    expect(
        not (torch.equal(inputs, right[1]) and not torch.equal(*right)),
        "swapped",
        "Inputs and targets are swapped: the inputs begin with a row's first token, the targets "
        "with its second.",
        lambda: comparison_table("inputs", inputs, right[0]),
    )


def _name_shift(row, wanted, ids, table):
    """The longest row's targets, which no padding hides."""
    expect(
        not torch.equal(row, ids),
        "no-shift",
        "The targets are the inputs themselves: the model would learn to repeat the token that "
        "it has just read. Shift them by one.",
        table,
    )
    if len(row) < 4:  # too short to tell one mistake from another
        expect(torch.equal(row[:-1], wanted[:-1]), "targets-wrong", WRONG_TARGETS, table)
        return
    expect(
        not (row[:-1] == -100).any(),
        "text-masked",
        "Targets that are a row's own tokens are masked: nothing is learned from them.",
        table,
    )
    expect(
        not torch.equal(row[:-2], wanted[1:-1]),
        "double-shift",
        "The targets are shifted by two: each token would learn to skip the next one. Shift "
        "once, here or in the loss, but not in both.",
        table,
    )
    expect(
        not torch.equal(row[1:], ids[:-1]),
        "shift-backwards",
        "The targets are the tokens before, not after: the model would learn to look back. The "
        "target of position i is token i + 1.",
        table,
    )
    expect(
        not (torch.equal(row[:-1], wanted[:-1]) and row[-1] == ids[0]),
        "roll-wraps",
        "The last target of a row is its own first token: torch.roll wraps around. The last "
        "target is the end-of-text.",
        table,
    )
    expect(torch.equal(row[:-1], wanted[:-1]), "targets-wrong", WRONG_TARGETS, table)


def check_end_of_longest(targets, batch):
    """The longest row has no padding, but an end all the same."""
    expected = custom_collate_draft_2(batch)[1]
    longest = max(range(len(batch)), key=lambda i: len(batch[i]))
    expect(
        targets[longest, -1] == END,
        "end-dropped",
        "The longest row has no end-of-text target: the model never learns to stop after it.",
        lambda: comparison_table("targets", targets, expected),
    )


def kind(value):
    """What a value is, in words."""
    if isinstance(value, tuple | list):
        inside = sorted({type(item).__name__ for item in value})
        return f"a {type(value).__name__} of {len(value)} ({', '.join(inside[:3]) or 'empty'})"
    return "None (is a return missing?)" if value is None else f"a {type(value).__name__}"


def shapes(returned, expected):
    """The sentence for a tensor of a wrong shape."""
    return f"The targets have shape {tuple(returned.shape)}, expected {tuple(expected.shape)}."
