"""One call of a learner's collate function beside what the reference solution returns for it.

The one idea: a table can only be made from a `Case`, whose expected tensors come from the
solution of the very exercise that is checked. Each tensor has the shape (B, T).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ch07.exercises.checks.common import call_without_mutation, comparison_table, describe
from ch07.exercises.learner_code import KnownError
from ch07.exercises.mistake import Mistake, expect

Collate = Callable[..., Any]  # a collate function: the learner's, or the reference solution
Row = list[int]
Item = Row | tuple[int, Row]  # token ids, in exercise 6 with the length of their prompt
BATCH_CHANGED = (
    "the caller's batch: the rows grow each time that they are collated, so every epoch sees other "
    "data. Work on a copy of each row."
)
SQUEEZED = KnownError(
    types=(IndexError, TypeError, RuntimeError, ValueError),
    words=("0-d", "0-dim", "dimension specified as 0"),
    mistake=Mistake(
        "squeeze-single",
        "The code fails on a row with exactly one padding token: `.squeeze()` turns an index "
        "tensor with one element into a 0-d tensor, which can't be sliced. Leave the squeeze out, "
        "or check the number of elements first.",
    ),
)


@dataclass(frozen=True)
class Case:
    """What came back for the batch `rows`, and what should have; draft 1 has no targets."""

    rows: list[Row]
    returned: tuple[Tensor, ...]
    expected: tuple[Tensor, ...]

    @property
    def inputs(self) -> Tensor:
        """The inputs that came back."""
        return self.returned[0]

    @property
    def targets(self) -> Tensor:
        """The targets that came back."""
        return self.returned[1]

    @property
    def expected_inputs(self) -> Tensor:
        """The reference solution's inputs."""
        return self.expected[0]

    @property
    def expected_targets(self) -> Tensor:
        """The reference solution's targets."""
        return self.expected[1]

    @property
    def longest(self) -> int:
        """The index of the (first) longest row: the one without padding."""
        return max(range(len(self.rows)), key=lambda i: len(self.rows[i]))

    def inputs_table(self) -> str:
        """Returned and expected inputs, side by side."""
        return comparison_table("inputs", self.inputs, self.expected_inputs)

    def targets_table(self) -> str:
        """Returned and expected targets, side by side."""
        return comparison_table("targets", self.targets, self.expected_targets)


def inputs_case(function: Collate, reference: Collate, batch: list[Row]) -> Case:
    """A call that should return the inputs alone, as draft 1 does."""
    inputs = call_collate(function, batch)
    expect(
        not isinstance(inputs, tuple | list),
        "more-than-inputs",
        f"Draft 1 returns one tensor, the inputs, but yours returned {describe(inputs)}.",
    )
    _check_token_ids(inputs, "inputs")
    return Case(batch, (inputs,), (reference(batch),))


def pair_case(function: Collate, reference: Collate, batch: Sequence[Item], **options: Any) -> Case:
    """A call that should return (inputs, targets); a `Mistake` if it returns anything else."""
    result = call_collate(function, batch, **options)
    expect(
        isinstance(result, tuple | list) and len(result) == 2,
        "not-a-pair",
        f"Expected two tensors, (inputs, targets), but got {describe(result)}.",
    )
    for name, tensor in zip(("inputs", "targets"), result, strict=True):
        _check_token_ids(tensor, name)
    rows = [token_ids(item) for item in batch]
    return Case(rows, tuple(result), tuple(reference(batch, **options)))


def call_collate(function: Collate, batch: Sequence[Item], **options: Any) -> Any:
    """What the function returns for a batch, which it must leave as it is."""
    return call_without_mutation(
        function, batch, consequence=BATCH_CHANGED, known=[SQUEEZED], **options
    )


def token_ids(item: Item) -> Row:
    """The ids of one item of a batch."""
    return item[1] if isinstance(item, tuple) else item


def _check_token_ids(tensor: Any, name: str) -> None:
    """Token ids are a rectangle (B, T) of int64."""
    expect(
        isinstance(tensor, Tensor),
        "no-tensor",
        f"The {name} are {describe(tensor)}, but should be a tensor (B, T).",
    )
    expect(
        tensor.dtype == torch.int64,
        "float-ids" if tensor.is_floating_point() else "wrong-dtype",
        f"The {name} are {tensor.dtype}, but should be int64: token ids are whole numbers, and the "
        "embedding and the loss use them as indices.",
    )
    expect(
        tensor.ndim == 2,
        "not-a-rectangle",
        f"The {name} have {tensor.ndim} dimensions, shape {tuple(tensor.shape)}, but should be "
        "(B, T): one row for each item of the batch.",
    )
