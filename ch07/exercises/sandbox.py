"""A learner's file is checked in a process of its own, with limits on time and memory.

The one idea: that process hands over each report at once. If the learner's code loops forever or
takes the process down, the reports so far are kept, the exercise at fault gets its own, and a new
process continues with the rest. This module itself runs no learner's code, and believes nothing
that such code can touch (see `signed_reports`).
"""

import ast
import importlib.util
import re
import secrets
import tempfile
import tokenize
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from ch07.exercises.catalogue import exercises, find, solution_file
from ch07.exercises.learner_code import quoted_line
from ch07.exercises.report import Report
from ch07.exercises.sandbox_limits import EXERCISE_SECONDS
from ch07.exercises.sandbox_process import Job, Runner, start_runner
from ch07.exercises.signed_reports import read_reports
from ch07.utils.errors import InputError

MAX_TRACE_BYTES = 1 << 16
WHERE = "; it was at line"  # in the sentence on code that did not finish


class NoExerciseError(InputError):
    """The file defines no exercise that is wanted."""


class Sandbox:
    """Checks files one after the other; they share one import of PyTorch, and nothing else."""

    def __init__(self, runner: Runner, confined: bool = False) -> None:
        self._runner = runner
        self._confined = confined

    def check_file(
        self,
        path: str | Path,
        seconds: float = EXERCISE_SECONDS,
        wanted: Collection[str] | None = None,
    ) -> list[Report]:
        """Reports on every exercise that the file defines, in the exercises' order.

        `wanted`: only on these exercises. ValueError for a file that defines none of them, or that
        is the project's own solution.
        """
        path = Path(path).resolve()
        if path.suffix != ".py" or (path.exists() and not path.is_file()):
            raise InputError(f"{path} is not a Python file: give it a name that ends in .py")
        try:
            source = _source(path)
            tree = ast.parse(source)
        except (SyntaxError, ValueError) as error:  # ValueError: null bytes
            return [_syntax_report(path, error)]
        except (RecursionError, MemoryError):
            raise InputError(f"{path}: an expression is nested too deeply for Python") from None
        known = [exercise.name for exercise in exercises()] if wanted is None else wanted
        names = [name for name in _defined_exercises(tree) if name in known]
        if not names:
            raise NoExerciseError(
                f"{path} defines none of the exercises' names: {', '.join(known)}"
            )
        if path in [solution_file(find(name)) for name in names]:
            raise InputError(
                f"{path} is the project's own solution, with which answers are compared: write "
                "yours in another file"
            )
        return self._run(path, source, names, seconds)

    def _run(self, path: Path, source: str, names: list[str], seconds: float) -> list[Report]:
        """Run processes, one after the other, until each name has its report."""
        reports: list[Report] = []
        while len(reports) < len(names):
            rest = names[len(reports) :]
            job = Job(str(path), rest, seconds, secrets.token_hex(), self._confined)
            with tempfile.TemporaryFile() as written, tempfile.TemporaryFile() as trace:
                exit_code = self._runner.run(job, written, trace)
                believed, forged = read_reports(written, job.token, rest, path.name)
                trace.seek(0)
                trace_text = trace.read(MAX_TRACE_BYTES).decode(errors="replace")
            reports += believed
            if believed and believed[-1].exercise == path.name:
                return reports  # the file itself can't be used
            if forged:
                reports.append(_forgery_report(rest[len(believed)]))
            elif len(believed) < len(rest):
                name = rest[len(believed)]
                reports.append(_crash_report(name, job, source, trace_text, exit_code))
        return reports


@contextmanager
def open_sandbox(confined: bool = False) -> Iterator[Sandbox]:
    """A `Sandbox` for several files; its processes end with the block.

    `confined`: the code may change nothing but the folder of its file, where the system can hold
    it to that (see `sandbox_confinement`).
    """
    if importlib.util.find_spec("torch") is None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    runner = start_runner()
    try:
        yield Sandbox(runner, confined)
    finally:
        runner.close()


def check_file(path: str | Path, seconds: float = EXERCISE_SECONDS) -> list[Report]:
    """Reports on one file: see `Sandbox.check_file`."""
    with open_sandbox() as sandbox:
        return sandbox.check_file(path, seconds)


def _source(path: Path) -> str:
    """The file's text as Python reads it: with a byte order mark, or a declared encoding."""
    with tokenize.open(path) as file:
        return file.read()


def _defined_exercises(tree: ast.Module) -> list[str]:
    """The exercises that a file defines itself; what it imports is not its own."""
    own: set[str] = set()
    nodes: list[ast.AST] = list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            nodes += ast.iter_child_nodes(node)
    return [exercise.name for exercise in exercises() if exercise.name in own]


def _syntax_report(path: Path, error: SyntaxError | ValueError) -> Report:
    line = getattr(error, "lineno", None)
    if "null bytes" in str(error):
        why = "it contains null bytes, which no text does"
    elif line is None:
        why = "it is not UTF-8 text"
    else:
        text = quoted_line(getattr(error, "text", None) or "")
        why = f"{error.args[0]}, line {line}: {text}"
    return Report(path.name, "mistake", "syntax", f"Python can't read the file: {why}.")


def _forgery_report(name: str) -> Report:
    sentence = (
        "Your code wrote into the channel between the checker and the command, so nothing that "
        "came after it can be believed."
    )
    return Report(name, "mistake", "foreign-report", sentence)


def _crash_report(name: str, job: Job, source: str, trace: str, exit_code: int | None) -> Report:
    """The report on code that never returned."""
    if "Timeout" in trace or exit_code is None:
        where = _line_in_trace(job.path, source, trace)
        sentence = f"Your code did not finish within {job.seconds:g} seconds{where}."
        return Report(name, "mistake", "endless", sentence)
    if exit_code >= 0:
        how = f"exit code {exit_code}"
    else:
        how = f"signal {-exit_code}: out of memory, a crash in C code, or a kill"
    sentence = f"Your code ended the whole process ({how})."
    return Report(name, "mistake", "process-ended", sentence)


def _line_in_trace(path: str, source: str, trace: str) -> str:
    """Where in the learner's file the code was, from faulthandler's trace."""
    found = re.search(rf'File "{re.escape(path)}", line ([0-9]{{1,9}})', trace)
    lines = source.splitlines()
    if found is None or not 1 <= int(found[1]) <= len(lines):
        return ""
    number = int(found[1])
    return f"{WHERE} {number}: {quoted_line(lines[number - 1])}"
