"""What the checks of several exercises use: comparing values, and showing what differs."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ch07.exercises.learner_code import KnownError, call_function
from ch07.exercises.mistake import expect
from collate import END_OF_TEXT
from train_loop import IGNORE_INDEX

SYMBOLS = {END_OF_TEXT: "END", IGNORE_INDEX: "·"}
MAX_COLUMNS = 12  # of a table
MAX_ROWS = 6
TOLERANCE = 1e-4


@dataclass(frozen=True)
class WrongResult:
    """What a known mistake returns; some mistakes have more than one form."""

    diagnosis: str
    results: tuple[Tensor, ...]
    sentence: str


def random_tensor(*shape: int, seed: int = 0) -> Tensor:
    """Normal random numbers, the same ones for each seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def equal(a: Any, b: Any) -> bool:
    """Whether two values are the same, where lists and tuples may hold tensors."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal(x, y) for x, y in zip(a, b, strict=True))
    return a == b


def close(a: Tensor, b: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Whether two tensors have one shape and, within `tolerance`, the same numbers."""
    return a.shape == b.shape and torch.allclose(a.double(), b.double(), atol=tolerance, rtol=0)


def raise_if_known(
    result: Tensor,
    known: Sequence[WrongResult],
    table: str | Callable[[], str] = "",
    tolerance: float = TOLERANCE,
) -> None:
    """Raise the `Mistake` whose result this is, if it is one of the known ones."""
    for wrong in known:
        is_this_one = any(_close_where_defined(result, other, tolerance) for other in wrong.results)
        expect(not is_this_one, wrong.diagnosis, wrong.sentence, table)


def _close_where_defined(result: Tensor, other: Tensor, tolerance: float) -> bool:
    """Close, and NaN in the same places: a row in which every key is hidden gives NaN."""
    undefined = other.isnan()
    if bool(undefined.all()) or not torch.equal(result.isnan(), undefined):
        return False
    return close(result.nan_to_num(0.0), other.nan_to_num(0.0), tolerance)


def call_without_mutation(
    function: Callable[..., Any],
    *arguments: Any,
    consequence: str,
    untouched: int = 1,
    case: str = "",
    known: Sequence[KnownError] = (),
    **options: Any,
) -> Any:
    """Call a learner's function, which must leave its first `untouched` arguments as they were.

    It gets copies of these. `consequence` ends the sentence "Your function changed ...".
    """
    originals = arguments[:untouched]
    copies = copy.deepcopy(originals)
    rest = arguments[untouched:]
    result = call_function(function, *copies, *rest, case=case, known=known, **options)
    expect(equal(copies, originals), "batch-mutated", f"Your function changed {consequence}")
    return result


def describe(value: Any) -> str:
    """What a value is, in words: "a tuple of 2 (Tensor)"."""
    if value is None:
        return "None (is a return statement missing?)"
    name = type(value).__name__
    article = "an" if name[:1].lower() in "aeiou" else "a"
    if isinstance(value, tuple | list):
        kinds = sorted({type(item).__name__ for item in value})
        return f"{article} {name} of {len(value)} ({', '.join(kinds[:3]) or 'empty'})"
    return f"{article} {name}"


def expect_tensor(value: Any) -> None:
    """The result is a tensor, or a `Mistake`."""
    expect(isinstance(value, Tensor), "no-tensor", f"Expected a tensor, but got {describe(value)}.")


def comparison_table(name: str, returned: Tensor, expected: Tensor) -> str:
    """Two (B, T) tensors as text, cells that differ in [brackets].

    >>> print(comparison_table("targets", torch.tensor([[1, -100]]), torch.tensor([[1, 50256]])))
    targets: returned ([x] differs), then expected
    row 0      1     [·]
    <BLANKLINE>
    row 0      1    END
    """
    lines = [f"{name}: returned ([x] differs), then expected"]
    lines += [*_rows(returned, expected), "", *_rows(expected, expected)]
    return "\n".join(lines)


def _rows(tensor: Tensor, other: Tensor) -> list[str]:
    lines = []
    for i, row in enumerate(tensor.tolist()[:MAX_ROWS]):
        words = [_cell(value, i, j, other) for j, value in enumerate(row[:MAX_COLUMNS])]
        rest = " ..." if len(row) > MAX_COLUMNS else ""
        lines.append((f"row {i} " + "".join(f"{word:>7}" for word in words) + rest).rstrip())
    return lines


def _cell(value: float, i: int, j: int, other: Tensor) -> str:
    word = f"{value:.3f}" if isinstance(value, float) else str(SYMBOLS.get(value, value))
    inside = i < other.shape[0] and j < other.shape[1]
    if inside and abs(other[i, j].item() - value) < TOLERANCE:
        return f"{word} "
    return f"[{word}]"  # a NaN always differs


def losses_table(returned: Any, expected: Any) -> str:
    """Two losses, one below the other."""
    return f"returned {float(returned):.4f}\nexpected {float(expected):.4f}"


def same_loss(a: Any, b: Any) -> bool:
    """Whether two losses, numbers or tensors with one number, are the same."""
    difference = torch.as_tensor(a).detach() - torch.as_tensor(b).detach()
    return bool(difference.abs() < TOLERANCE)
