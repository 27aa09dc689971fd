"""Exercise 6: which targets of a prompt are masked, and what is left of the answer."""

from torch import Tensor

from ch07.exercises.checks.collate_case import Case, Collate, Item, pair_case
from ch07.exercises.checks.collate_targets import check_equal, check_inner_end, check_shape
from ch07.exercises.mistake import expect
from collate import END_OF_TEXT

ANSWER_WITH_END = (2, [41, END_OF_TEXT, 43, 44])  # 50256 in the answer
PROMPT_WITH_END = (2, [END_OF_TEXT, 46, 47])  # and in the prompt


def check_prompt_mask(case: Case, prompt_lengths: list[int]) -> None:
    """The first prompt_length - 1 targets of each row are masked, and so is the padding."""
    check_shape(case)
    _name_wrong_prompt_mask(case, prompt_lengths)
    ends = [int(case.targets[i, len(row) - 1]) for i, row in enumerate(case.rows)]
    expect(
        -100 not in ends,
        "end-masked-too",
        "The end-of-text target after the answer is masked: the model will never learn to stop.",
        case.targets_table,
    )


def _name_wrong_prompt_mask(case: Case, prompt_lengths: list[int]) -> None:
    masked = [_leading_masked(row) for row in case.targets]
    extra = [n - (length - 1) for n, length in zip(masked, prompt_lengths, strict=True)]
    expect(
        any(masked),
        "prompt-in-loss",
        "No target of the prompt is masked: the loss still counts the whole prompt.",
        case.targets_table,
    )
    expect(
        any(n != 1 for n in extra),
        "prompt-length-off-by-one",
        "One target too many is masked: the answer's first token is never learned. Position i "
        "predicts token i + 1, so the target of the last prompt token is the first answer token, "
        "and only prompt_length - 1 targets are masked.",
        case.targets_table,
    )
    expect(
        max(extra) <= 0,
        "answer-masked",
        "Targets of the answer are masked: nothing is learned from them.",
        case.targets_table,
    )
    unmasked = [i for i, n in enumerate(masked) if n == 0]
    expect(
        not unmasked or 0 not in extra,
        "prompt-in-loss",
        f"The prompt of row {unmasked[:1]} is not masked: the loss still counts it.",
        case.targets_table,
    )
    expect(
        min(extra) >= 0,
        "header-in-loss",
        f"The last {-min(extra)} token(s) of a prompt are still targets: a part of the loss is "
        "then spent on a header that is always the same. The mask ends where the answer begins.",
        case.targets_table,
    )


def _leading_masked(row: Tensor) -> int:
    """How many targets at the start of a row are masked."""
    masked = (row == -100).tolist()
    return masked.index(False) if False in masked else len(masked)


def check_prompt_lengths(function: Collate, reference: Collate) -> None:
    """Prompts of every length, none included, alone or beside a row that contains 50256."""
    answer_only: list[Item] = [(0, [41, 42, 43, 44, 45]), (1, [46, 47, 48])]
    _check_no_prompt(pair_case(function, reference, answer_only))
    check_inner_end(pair_case(function, reference, [ANSWER_WITH_END, PROMPT_WITH_END]))
    for n in (0, 1, 2, 3, 5):
        rows: list[Item] = [(n, [41, 42, 43, 44, 45]), (1, [46, END_OF_TEXT, 47])]
        for batch in (rows, rows[:1]):
            check_equal(pair_case(function, reference, batch), f" where prompt_length is {n}")


def _check_no_prompt(case: Case) -> None:
    """A row without a prompt: `[: prompt_length - 1]` would be `[:-1]`."""
    only_last_left = bool((case.targets[0, :-1] == -100).all())
    expect(
        not only_last_left,
        "prompt-length-zero",
        "A row without a prompt (prompt_length 0) loses almost all its targets: the slice "
        "`[: prompt_length - 1]` is then `[:-1]`, which is everything but the last. Use "
        "max(prompt_length - 1, 0).",
        case.targets_table,
    )
    check_equal(case, " where prompt_length is 0")
