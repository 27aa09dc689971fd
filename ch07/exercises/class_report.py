"""A class's submissions in, one report out: who passed what, and how often each mistake was made.

The one idea: each file is checked in an empty folder that holds a copy of its submission, by a
process that may change nothing else (see `sandbox_confinement`). The report holds no times and no
paths of that folder, so the same submissions give the same report.
"""

import contextlib
import os
import queue
import re
import shutil
import subprocess
import tempfile
import threading
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ch07.exercises.catalogue import exercises, find
from ch07.exercises.mistake_phrases import count_sentence
from ch07.exercises.report import Report
from ch07.exercises.sandbox import WHERE, NoExerciseError, Sandbox, open_sandbox
from ch07.exercises.submissions import Submission, readable_name
from ch07.utils.errors import InputError

PASSED = "passed"
FAILED = "failed"
NOT_RUN = "could not run"
NOT_ATTEMPTED = "not attempted"
ENDED_EARLY = ("syntax", "import", "endless", "process-ended", "foreign-report")
ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")  # of an object in memory: another one each time


@dataclass(frozen=True)
class Result:
    """What became of one exercise of one learner."""

    exercise: str
    status: str  # PASSED, FAILED, NOT_RUN or NOT_ATTEMPTED
    mistake: str = ""  # the checker's name for it
    sentence: str = ""  # what is wrong
    file: str = ""  # of the submission


@dataclass(frozen=True)
class Grades:
    """One learner's results, in the exercises' order."""

    learner: str
    results: tuple[Result, ...]
    problems: tuple[str, ...] = ()  # what could not be read: a sentence each
    note: str = ""  # why there is nothing to grade

    def count(self, status: str) -> int:
        """How many exercises have this status."""
        return sum(result.status == status for result in self.results)


@dataclass(frozen=True)
class MistakeCount:
    """A mistake, and who made it."""

    exercise: str
    mistake: str
    sentence: str  # "9 of 24 masked every padding token"
    count: int
    attempted: int  # how many have attempted the exercise
    learners: tuple[str, ...]


@dataclass(frozen=True)
class ClassReport:
    """All learners' results."""

    exercises: tuple[str, ...]
    grades: tuple[Grades, ...]

    def results_of(self, exercise: str) -> list[Result]:
        """What became of an exercise, learner by learner."""
        place = self.exercises.index(exercise)
        return [grades.results[place] for grades in self.grades]

    def mistakes(self) -> list[MistakeCount]:
        """The named mistakes, the most frequent first; ties in the exercises' order."""
        learners: dict[tuple[str, str], list[str]] = defaultdict(list)
        for grades in self.grades:
            for result in grades.results:
                if result.mistake:
                    learners[result.exercise, result.mistake].append(grades.learner)
        counts = [self._count(*key, names) for key, names in learners.items()]
        order = self.exercises.index
        return sorted(counts, key=lambda m: (-m.count, order(m.exercise), m.mistake))

    def _count(self, exercise: str, mistake: str, learners: list[str]) -> MistakeCount:
        results = self.results_of(exercise)
        attempted = sum(result.status != NOT_ATTEMPTED for result in results)
        sentence = count_sentence(len(learners), attempted, mistake)
        return MistakeCount(exercise, mistake, sentence, len(learners), attempted, tuple(learners))

    def to_json(self) -> dict[str, Any]:
        """The report as values of JSON."""
        return {
            "exercises": list(self.exercises),
            "learners": [asdict(grades) for grades in self.grades],
            "mistakes": [asdict(mistake) for mistake in self.mistakes()],
        }


def wanted_exercises(names: Sequence[str]) -> tuple[str, ...]:
    """The exercises with these names or numbers, in the exercises' order; all if none is named."""
    chosen = {find(name).name for name in names}
    return tuple(e.name for e in exercises() if not names or e.name in chosen)


def grade_all(
    submissions: Sequence[Submission], wanted: tuple[str, ...], seconds: float, jobs: int = 1
) -> Iterator[Grades]:
    """The grades of each submission, in order, as they become known.

    `seconds` is the time limit of one exercise; up to `jobs` submissions are checked at a time.
    """
    with contextlib.ExitStack() as stack:
        idle: queue.SimpleQueue[Sandbox] = queue.SimpleQueue()
        for _ in range(min(jobs, len(submissions))):
            idle.put(stack.enter_context(open_sandbox(confined=True)))
        stopped = threading.Event()

        def grade_next(submission: Submission) -> Grades:
            sandbox = idle.get()
            try:
                return grade(submission, wanted, sandbox, seconds, stopped)
            finally:
                idle.put(sandbox)

        if jobs == 1:
            yield from map(grade_next, submissions)
            return
        pool = ThreadPoolExecutor(jobs)
        try:
            yield from pool.map(grade_next, submissions)
        finally:
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)


def grade(
    submission: Submission,
    wanted: tuple[str, ...],
    sandbox: Sandbox,
    seconds: float,
    stopped: threading.Event | None = None,
) -> Grades:
    """One learner's grades; files that are left once `stopped` is set are not run."""
    results: dict[str, Result] = {}
    notes: list[str] = []
    for file in _stubs_first(submission.files):
        if stopped is not None and stopped.is_set():
            break
        with _copy_of(submission) as folder:
            reports = _check(folder / file, wanted, sandbox, seconds)
        for report in reports:
            names = [report.exercise]
            if report.exercise == (folder / file).name:  # the report is on the whole file
                names = _exercises_in_text(file, submission.files[file], wanted)
                notes.append(_repeatable(report.sentence, folder))
            for name in names:
                earlier = results.get(name)
                if earlier is None or earlier.status == NOT_ATTEMPTED:
                    results[name] = _result(name, report, folder, file)
    in_order = [results.get(name, Result(name, NOT_ATTEMPTED)) for name in wanted]
    note = "" if results else next(iter(notes), _why_nothing(submission))
    return Grades(submission.learner, tuple(in_order), submission.problems, note)


@contextlib.contextmanager
def _copy_of(submission: Submission) -> Iterator[Path]:
    """A new folder with the submission's files, deleted afterwards.

    New for each file that is checked: what its code leaves there, a link perhaps, is never written
    to, and no other file's code finds it.
    """
    folder = Path(tempfile.mkdtemp()).resolve()
    try:
        for file, data in submission.files.items():
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_bytes(data)
        yield folder
    finally:
        _delete(folder)


def _delete(folder: Path) -> None:
    """Delete what a learner's code has left, whatever it is."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # thousands of folders, one in the other
        if os.name == "posix":
            subprocess.run(["rm", "-rf", "--", folder], check=False)


def _stubs_first(files: Iterable[str]) -> list[str]:
    """Files named as the stubs come first: if two files answer an exercise, the first counts."""
    stubs = {exercise.stub for exercise in exercises()}
    return sorted(files, key=lambda file: file.rpartition("/")[2] not in stubs)


def _why_nothing(submission: Submission) -> str:
    if any(data.strip() for data in submission.files.values()):
        return "It defines none of the exercises."
    if submission.files:
        return "It is empty."
    return "" if submission.problems else "It contains no Python file."


def _check(path: Path, wanted: tuple[str, ...], sandbox: Sandbox, seconds: float) -> list[Report]:
    """The reports on a file; none if it answers no exercise, as a file that others import."""
    try:
        return sandbox.check_file(path, seconds, wanted)
    except NoExerciseError:
        return []
    except InputError as error:  # too deeply nested
        return [Report(path.name, "mistake", "syntax", f"{error}.")]


def _exercises_in_text(file: str, data: bytes, wanted: tuple[str, ...]) -> list[str]:
    """The exercises that a file seems to answer, if Python can't read it."""
    name = file.rpartition("/")[2]
    text = data.decode("latin-1")
    defined = set(re.findall(r"^[ \t]*(?:async +)?(?:def|class) +(\w+)", text, flags=re.M))
    defined |= {exercise.name for exercise in exercises() if exercise.stub == name}
    return [exercise for exercise in wanted if exercise in defined]


def _result(exercise: str, report: Report, folder: Path, file: str) -> Result:
    if report.status == "not started":
        return Result(exercise, NOT_ATTEMPTED)
    shown = readable_name(file)
    if report.status == "passed":
        return Result(exercise, PASSED, file=shown)
    status = NOT_RUN if report.diagnosis in ENDED_EARLY else FAILED
    sentence = _repeatable(report.sentence, folder)
    return Result(exercise, status, report.diagnosis, sentence, shown)


def _repeatable(sentence: str, folder: Path) -> str:
    """A sentence without what differs from one check to the next."""
    sentence = sentence.replace(f"{folder}/", "").replace(str(folder), ".")
    before, where, _ = sentence.partition(WHERE)
    if where:  # in a loop of several lines, the line is a matter of chance
        sentence = f"{before}."
    return ADDRESS.sub("0x...", sentence)
