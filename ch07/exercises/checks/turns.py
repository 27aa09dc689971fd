"""Exercise 15, the turns of a conversation: which of their tokens the loss counts.

The one idea: each known mistake marks other places, and these can be computed and compared.
"""

from collections.abc import Callable, Sequence
from typing import Any

from ch07.data.chat_dataset import join_turns
from ch07.exercises.checks.common import call_without_mutation, describe
from ch07.exercises.mistake import expect

Turn = tuple[list[int], list[int], bool]
END = 99
TWO_TURNS: list[Turn] = [([11, 12, 13], [21, 22], True), ([14, 15], [23, 24, 25], True)]
ONE_TURN = TWO_TURNS[:1]
UNUSUAL: list[tuple[str, list[Turn]]] = [  # what is special about the turns, and the turns
    ("a single turn", ONE_TURN),
    (
        "three turns, the second not to be counted",
        [([11, 12], [21], True), ([13], [22, 23], False), ([14], [24], True)],
    ),
    ("an answer without a token", [([11], [], True), ([12], [21], True)]),
    ("a turn without a prompt", [([], [21, 22], True), ([12], [23], True)]),
    ("the end token within a question", [([11, END, 12], [21], True), ([END], [22], True)]),
    ("the end token within an answer", [([11], [21, END, 22], True), ([12], [23], True)]),
    ("equal turns", [([11, 12], [11, 12], True)] * 2),
]


def check_turns(function: Callable[..., Any]) -> None:
    """Exercise 15."""
    _check_ids(function, TWO_TURNS)
    _name_wrong_marks(function, TWO_TURNS)
    for case, turns in UNUSUAL:
        ids, counted = _answer(function, turns, case)
        expected_ids, expected = join_turns(turns, END)
        _name_marks_by_value(counted, turns, case)
        _name_uncounted_turn(counted, turns, case)
        expect(
            (ids, counted) == (expected_ids, expected),
            "turns-differ",
            f"For {case}, the result differs from the expected one.",
            marks_table(ids, counted, expected_ids, expected),
        )


def _answer(
    function: Callable[..., Any], turns: list[Turn], case: str = ""
) -> tuple[list[int], list[bool]]:
    """(ids, counted) as lists; the learner's function must leave the turns as they are."""
    result = call_without_mutation(
        function, turns, END, consequence="the turns: copy the ids.", case=case
    )
    is_pair = isinstance(result, tuple | list) and len(result) == 2
    expect(is_pair, "no-pair", f"Expected a pair (ids, counted), but got {describe(result)}.")
    ids, counted = (list(part) for part in result)
    expect(
        len(ids) == len(counted),
        "lengths-differ",
        f"There are {len(ids)} ids, but {len(counted)} marks: each id needs one.",
    )
    return [int(i) for i in ids], [bool(mark) for mark in counted]


def _check_ids(function: Callable[..., Any], turns: list[Turn]) -> None:
    """Name what is wrong with the ids, if anything is."""
    ids, counted = _answer(function, turns)
    expected_ids, expected = join_turns(turns, END)
    if ids == expected_ids:
        return
    table = marks_table(ids, counted, expected_ids, expected)
    without_ends = [i for i in expected_ids if i != END]
    expect(
        ids not in (without_ends, [*without_ends, END]),
        "turn-end-missing",
        "No end token stands after an earlier answer: the model reads, and learns, that a question "
        "follows an answer without a stop.",
        table,
    )
    expect(
        ids != expected_ids[:-1],
        "last-end-missing",
        "The last answer has no end token: the model never learns to stop there.",
        table,
    )
    expect(False, "ids-differ", "The ids are not those of all turns in order.", table)


def _name_wrong_marks(function: Callable[..., Any], turns: list[Turn]) -> None:
    """Name the way in which the marks of ordinary turns are wrong, if they are."""
    ids, counted = _answer(function, turns)
    expected_ids, expected = join_turns(turns, END)
    if counted == expected:
        return
    table = marks_table(ids, counted, expected_ids, expected)
    n_first = len(turns[0][0]) + len(turns[0][1]) + 1
    inner_end_masked = [mark and i != n_first - 1 for i, mark in enumerate(expected)]
    expect(
        counted != inner_end_masked,
        "turn-end-not-counted",
        "The end token after an earlier answer is not counted: the loss falls, and the model never "
        "learns to stop. That an end belongs to the answer before it is easily lost, because a "
        "template may write it together with the next question.",
        table,
    )
    expect(
        counted != [False] * n_first + expected[n_first:],
        "only-last-turn",
        "Only the last answer is counted: nothing is learned from the answers before it.",
        table,
    )
    expect(
        not all(counted[len(turns[0][0]) :]),
        "later-questions-counted",
        "Everything after the first question is counted, the later questions, too: the model "
        "learns to write its user's part.",
        table,
    )
    expect(
        not all(counted),
        "questions-counted",
        "Every id is counted, the questions, too.",
        table,
    )
    expect(
        counted != [*expected[1:], False],
        "marks-shifted",
        "The marks are one place too early. Here they belong to the ids themselves; the shift by "
        "one comes later, when inputs and targets are made.",
        table,
    )
    expect(False, "marks-differ", "The marks are not those of the answers and their ends.", table)


def _name_marks_by_value(counted: list[bool], turns: list[Turn], case: str) -> None:
    """An end token in a question is no end of an answer, and one in an answer doesn't end it."""
    if "the end token" not in case:
        return
    ids, expected = join_turns(turns, END)
    expect(
        counted == expected,
        "turns-by-value",
        f"With {case}, the marks are wrong: they were found by searching for the end token. Where "
        "an answer begins and ends is known from the lengths of its parts.",
        marks_table(ids, counted, ids, expected),
    )


def _name_uncounted_turn(counted: list[bool], turns: list[Turn], case: str) -> None:
    """A turn whose `counts` is False is read, but teaches nothing."""
    if all(counts for _, _, counts in turns):
        return
    ids, expected = join_turns(turns, END)
    _, all_counted = join_turns([(prompt, answer, True) for prompt, answer, _ in turns], END)
    expect(
        counted != all_counted,
        "uncounted-turn-counted",
        f"For {case}, an answer whose `counts` is False is counted all the same.",
        marks_table(ids, counted, ids, expected),
    )


def marks_table(
    ids: Sequence[int],
    counted: Sequence[bool],
    expected_ids: Sequence[int],
    expected: Sequence[bool],
) -> str:
    """Returned and expected ids, those that are counted in [brackets].

    >>> print(marks_table([1, 99], [False, False], [1, 99], [False, True]))
    returned ([x] is counted)
        1    END
    expected
        1   [END]
    """

    def line(numbers: Sequence[int], marks: Sequence[bool]) -> str:
        names = ["END" if number == END else str(number) for number in numbers]
        words = [
            f"[{name}]" if mark else f"{name} " for name, mark in zip(names, marks, strict=False)
        ]
        return " ".join(f"{word:>6}" for word in words).rstrip()

    return (
        f"returned ([x] is counted)\n{line(ids, counted)}\nexpected\n{line(expected_ids, expected)}"
    )
