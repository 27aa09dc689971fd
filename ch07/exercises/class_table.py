"""A class's report as text for a terminal: 24 learners and 19 exercises fit into 80 columns."""

from collections.abc import Iterator
from itertools import groupby
from textwrap import fill

from ch07.data.token_text import display_width
from ch07.exercises.catalogue import find
from ch07.exercises.class_report import (
    FAILED,
    NOT_ATTEMPTED,
    NOT_RUN,
    PASSED,
    ClassReport,
    Grades,
    MistakeCount,
)
from ch07.exercises.report import SIGNS
from ch07.utils.console import count, terminal_line

STATUS_SIGNS = {
    PASSED: SIGNS["passed"],
    FAILED: SIGNS["mistake"],
    NOT_RUN: "!",
    NOT_ATTEMPTED: SIGNS["not started"],
}
STATUS_WORDS = {PASSED: "right", FAILED: "wrong", NOT_RUN: NOT_RUN, NOT_ATTEMPTED: NOT_ATTEMPTED}
WIDTH = 80
MAX_NAME = 30  # columns of a learner's name
MAX_BAR = 8
BAR = "█"
MARGIN = "  "


def class_text(report: ClassReport) -> str:
    """All of it: a row for each learner and for each exercise, the mistakes, what didn't run."""
    parts = [
        _learner_table(report),
        _exercise_table(report),
        _mistake_histogram(report.mistakes()),
        list(_remarks(report)),
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def learner_line(grades: Grades, number: int, n_learners: int) -> str:
    """What to say once a learner is graded: "3/24 Anna: 4 right, 1 wrong"."""
    words = [
        f"{grades.count(status)} {STATUS_WORDS[status]}"
        for status in (PASSED, FAILED, NOT_RUN)
        if status != NOT_RUN or grades.count(status)
    ]
    return f"{number}/{n_learners} {grades.learner}: {', '.join(words)}"


def fit(text: str, width: int) -> str:
    """A text in exactly so many columns, shortened or filled with spaces.

    >>> fit("Grace Hopper", 8), fit("王小明", 8)
    ('Grace H…', '王小明  ')
    """
    text = terminal_line(text, width=None)
    if display_width(text) > width:
        while display_width(text) > width - 1:
            text = text[:-1]
        text += "…"
    return text + " " * (width - display_width(text))


def _learner_table(report: ClassReport) -> list[str]:
    """A row for each learner, with a sign for each exercise and the number of right answers."""
    names = [terminal_line(grades.learner, width=None) for grades in report.grades]
    width = min(MAX_NAME, max(display_width(name) for name in ["learner", *names]))
    numbers = [find(name).number for name in report.exercises]
    total = len(numbers)
    right_width = max(len("right"), len(f"{total}/{total}"))
    lines = []
    if max(numbers) > 9:
        tens = " ".join(str(number // 10) if number > 9 else " " for number in numbers)
        lines.append(f"{fit('', width)}{MARGIN}{tens}".rstrip())
    units = " ".join(str(number % 10) for number in numbers)
    lines.append(f"{fit('learner', width)}{MARGIN}{units}{MARGIN}{'right':>{right_width}}")
    for name, grades in zip(names, report.grades, strict=True):
        signs = " ".join(STATUS_SIGNS[result.status] for result in grades.results)
        right = f"{grades.count(PASSED)}/{total}".rjust(right_width)
        lines.append(f"{fit(name, width)}{MARGIN}{signs}{MARGIN}{right}")
    legend = "   ".join(f"{sign} {STATUS_WORDS[status]}" for status, sign in STATUS_SIGNS.items())
    return [*lines, "", legend]


def _exercise_table(report: ClassReport) -> list[str]:
    """A row for each exercise that somebody has attempted."""
    rows = []
    for name in report.exercises:
        results = report.results_of(name)
        numbers = [sum(result.status == status for result in results) for status in STATUS_SIGNS]
        if numbers[-1] < len(results):
            rows.append((find(name).number, name, numbers))
    if not rows:
        return ["Nobody has attempted an exercise."]
    width = max(len(name) for _, name, _ in rows)
    heads = list(STATUS_WORDS.values())
    lines = [f"    {'exercise':<{width}}{MARGIN}{MARGIN.join(heads)}"]
    for number, name, numbers in rows:
        cells = [f"{n:>{len(head)}}" for n, head in zip(numbers, heads, strict=True)]
        lines.append(f"{number:>2}  {name:<{width}}{MARGIN}{MARGIN.join(cells)}")
    return lines


def _mistake_histogram(mistakes: list[MistakeCount]) -> list[str]:
    """A bar and a sentence for each mistake, the most frequent first."""
    if not mistakes:
        return []
    most = mistakes[0].count
    lines = ["Mistakes, the most frequent first, of those who have attempted the exercise:", ""]
    for mistake in mistakes:
        bar = BAR * max(1, round(MAX_BAR * mistake.count / most))
        exercise = f"({find(mistake.exercise).number})"
        lines.append(f"{bar:<{MAX_BAR}} {mistake.sentence} {exercise}")
    lines += ["", "In brackets: the number of the exercise."]
    return lines


def _remarks(report: ClassReport) -> Iterator[str]:
    """What could not run or be read, and why."""
    for grades in report.grades:
        remarks = [grades.note] if grades.note else []
        remarks += grades.problems
        ended = [result for result in grades.results if result.status == NOT_RUN]
        for sentence, results in groupby(ended, key=lambda result: result.sentence):
            numbers = [str(find(result.exercise).number) for result in results]
            noun = "exercise" if len(numbers) == 1 else "exercises"
            remarks.append(f"{noun} {', '.join(numbers)}: {sentence}")
        for remark in remarks:
            text = terminal_line(f"{grades.learner}: {remark}", width=None)
            yield fill(text, WIDTH, subsequent_indent=MARGIN, break_on_hyphens=False)


def summary(report: ClassReport) -> str:
    """One sentence on the whole class: how many answers are right."""
    attempted = sum(
        result.status != NOT_ATTEMPTED for grades in report.grades for result in grades.results
    )
    right = sum(grades.count(PASSED) for grades in report.grades)
    learners = count(len(report.grades), "learner")
    return f"{learners}, {count(attempted, 'answer')}, {right} of them right."
