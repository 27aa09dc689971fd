"""A table shows what the learner's code returned, and what the exercise's own solution returns."""

import copy
import functools
import inspect

import pytest
import torch

from ch07.exercises.catalogue import find, solution
from ch07.exercises.checker import diagnose
from ch07.exercises.checks.common import comparison_table, losses_table
from ch07.exercises.checks.generation_probe import answers_table
from ch07.exercises.checks.shared_beginning import numbers_table
from ch07.exercises.checks.text import prompt_table
from ch07.exercises.checks.turns import marks_table
from ch07.exercises.museum.collection import EXHIBITS

DRAFT_2 = [e for e in EXHIBITS if e.exercise == "custom_collate_draft_2"]
FINAL = [e for e in EXHIBITS if e.exercise == "custom_collate_fn"]


class Recorder:
    """A function that remembers its arguments, as they were, and what it returned."""

    def __init__(self, function):
        self.function = function
        self.calls = []  # (arguments, options, result)

    def recording(self):
        """The function, with the same signature."""

        @functools.wraps(self.function)
        def wrapper(*arguments, **options):
            given = copied((arguments, options))
            result = self.function(*arguments, **options)
            self.calls.append((*given, copied(detached(result))))
            return result

        return wrapper


def copied(values):
    """A deep copy of everything but tokenizers, which nothing changes."""
    flat = values[0] if isinstance(values, tuple) and values else ()
    kept = [v for v in flat if hasattr(v, "encode_ordinary")] if isinstance(flat, tuple) else []
    return copy.deepcopy(values, {id(value): value for value in kept})


def detached(result):
    """A result whose tensors have no gradient, since others can't be copied."""
    if isinstance(result, torch.Tensor):
        return result.detach()
    if isinstance(result, tuple | list):
        return type(result)(detached(part) for part in result)
    return result


def possible_tables(exercise, arguments, options, result):
    """The tables that a report may show for one call: this result beside the solution's."""
    expected = solution(find(exercise))(*arguments, **options)
    if exercise.startswith("custom_collate"):
        returned = (result,) if isinstance(result, torch.Tensor) else result
        expected = (expected,) if isinstance(expected, torch.Tensor) else expected
        names = ("inputs", "targets")
        return [comparison_table(*row) for row in zip(names, returned, expected, strict=False)]
    if exercise == "causal_attention":
        name = "attention weights (rows: queries)"
        return [comparison_table(name, result[0, 0], expected[0, 0])]
    if exercise == "grouped_query_attention":
        if result.shape[1] < 3:
            return []
        name = "attention weights of head 2 (rows: queries)"
        return [comparison_table(name, result[0, 2], expected[0, 2])]
    if exercise == "rotate":
        return [
            comparison_table(
                f"head 0 of row {row} (rows: tokens)", result[row, 0], expected[row, 0]
            )
            for row in range(len(result))
        ]
    if exercise == "generate":
        return [answers_table(result, expected)]
    if exercise == "format_input":
        return [prompt_table(result, expected)]
    if exercise == "InstructionDataset":
        decode = arguments[1].decode
        rows = range(len(arguments[0]))
        return [prompt_table(decode(result[i]), decode(expected[i])) for i in rows]
    if exercise == "join_turns":
        return [marks_table(*result, *expected)]
    if exercise == "sum_loss_with_shared_beginning":
        return [losses_table(result[0], expected[0]), numbers_table(result[1], expected[1])]
    return [losses_table(result, expected)]


def assert_table_is_the_exercises_own(exercise, function):
    recorder = Recorder(function)
    report = diagnose(exercise, recorder.recording())
    assert report.status == "mistake"
    if report.table:
        tables = []
        for arguments, options, result in recorder.calls:
            if options.get("device") == "meta":  # tensors without numbers
                continue
            tables += possible_tables(exercise, arguments, options, result)
        assert report.table in tables, report
    return report


@pytest.mark.parametrize("exhibit", EXHIBITS, ids=lambda e: f"{e.exercise}-{e.diagnosis}")
def test_each_exhibits_table_shows_what_the_solution_returns(exhibit):
    if inspect.isclass(exhibit.code) and exhibit.exercise != "InstructionDataset":
        assert not diagnose(exhibit.exercise, exhibit.code).table  # a module or a cache
        return
    report = assert_table_is_the_exercises_own(exhibit.exercise, exhibit.code)
    assert report.diagnosis == exhibit.diagnosis  # watching the code has not changed what it does


def test_most_exhibits_have_a_table():
    shown = [bool(diagnose(exhibit.exercise, exhibit.code).table) for exhibit in EXHIBITS]
    assert sum(shown) > len(EXHIBITS) / 2


def as_exercise_5(draft):
    """A second draft handed in as the final version."""

    def custom_collate_fn(
        batch, pad_token_id=50256, ignore_index=-100, allowed_max_length=None, device="cpu"
    ):
        return draft(batch, pad_token_id, device)

    return custom_collate_fn


def as_exercise_6(collate):
    """A function for rows of ids handed in for rows with prompts."""

    def custom_collate_response_fn(batch, **options):
        return collate([token_ids for _, token_ids in batch], **options)

    return custom_collate_response_fn


@pytest.mark.parametrize("exhibit", DRAFT_2, ids=lambda e: e.diagnosis)
def test_a_mistake_of_draft_2_is_shown_with_the_targets_of_the_exercise_it_is_handed_in_for(
    exhibit,
):
    report = assert_table_is_the_exercises_own("custom_collate_fn", as_exercise_5(exhibit.code))
    assert report.diagnosis == exhibit.diagnosis
    final = as_exercise_5(exhibit.code)
    assert_table_is_the_exercises_own("custom_collate_response_fn", as_exercise_6(final))


@pytest.mark.parametrize("exhibit", FINAL, ids=lambda e: e.diagnosis)
def test_a_mistake_of_exercise_5_is_shown_with_the_targets_of_exercise_6(exhibit):
    wrong = as_exercise_6(exhibit.code)
    assert_table_is_the_exercises_own("custom_collate_response_fn", wrong)


def test_unshifted_targets_are_shown_beside_the_final_versions_targets():
    (unshifted,) = [exhibit.code for exhibit in DRAFT_2 if exhibit.diagnosis == "no-shift"]
    expected = {}
    for name, code in (
        ("custom_collate_draft_2", unshifted),
        ("custom_collate_fn", as_exercise_5(unshifted)),
    ):
        report = diagnose(name, code)
        assert report.diagnosis == "no-shift"
        expected[name] = report.table.split("\n\n")[1].splitlines()[1].split()
    assert expected["custom_collate_draft_2"] == ["row", "1", "6", "END", "END", "END", "END"]
    assert expected["custom_collate_fn"] == ["row", "1", "6", "END", "·", "·", "·"]
