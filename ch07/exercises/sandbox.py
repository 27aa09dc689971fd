"""A learner's file is checked in a process of its own, with a limit on time and memory.

The one idea: the child writes each report into a file as soon as it has it. If the learner's code
loops for ever, or takes the process down, what is written stands, the exercise that was on gets
its answer, and a new child goes on with the rest.
"""

import ast
import json
import os
import subprocess
import sys
import tempfile
import tokenize
from dataclasses import asdict
from pathlib import Path

from ch07.exercises.catalogue import exercises, find, solution
from ch07.exercises.report import ROOT, Report

SECONDS = 10.0  # for one exercise; the project's own solutions need less than one
MEMORY = 1 << 30  # bytes that a learner's code may take (Linux)


def check_file(path, seconds=SECONDS):
    """Reports on every exercise that the file defines, in the exercises' order.

    ValueError for a file that defines none, or that is the project's own solution.
    """
    path = Path(path).resolve()
    if path.suffix != ".py" or (path.exists() and not path.is_file()):
        raise ValueError(f"{path} is no Python file: give it a name that ends in .py")
    try:
        tree = ast.parse(_source(path))
    except (SyntaxError, ValueError) as error:  # ValueError: null bytes
        return [_syntax_report(path, error)]
    except (RecursionError, MemoryError):
        raise ValueError(f"{path}: an expression in it is too deep for Python") from None
    names = _defined(tree)
    if not names:
        known = ", ".join(exercise.name for exercise in exercises())
        raise ValueError(f"{path} defines none of the exercises' names: {known}")
    for name in names:
        if path == Path(sys.modules[solution(find(name)).__module__].__file__).resolve():
            raise ValueError(
                f"{path} is the project's own solution, which answers are compared with: write "
                "yours in a file of its own"
            )
    return _run(path, names, seconds)


def _source(path):
    """The file's text as Python reads it: with a byte order mark, or a declared encoding."""
    with tokenize.open(path) as file:
        return file.read()


def _defined(tree):
    """The exercises that a file defines itself; what it imports is not its own."""
    own, nodes = set(), list(tree.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif not isinstance(node, ast.Import | ast.ImportFrom):
            nodes += ast.iter_child_nodes(node)
    return [exercise.name for exercise in exercises() if exercise.name in own]


def _syntax_report(path, error):
    line = getattr(error, "lineno", None)
    where = f", line {line}: {(error.text or '').strip()}" if line else ""
    why = "it is not UTF-8 text" if line is None else f"{error.args[0]}{where}"
    return Report(path.name, "mistake", "syntax", f"Python can't read the file: {why}.")


def _run(path, names, seconds):
    """Children, one after the other, until each name has its report."""
    reports = []
    with tempfile.TemporaryDirectory() as folder:
        written, trace = Path(folder) / "reports", Path(folder) / "trace"
        while len(reports) < len(names):
            rest = names[len(reports) :]
            code = _child(path, rest, seconds, written, trace)
            lines = written.read_text(encoding="utf-8").splitlines() if written.exists() else []
            reports += [Report(**json.loads(line)) for line in lines if line.endswith("}")]
            if reports and reports[-1].exercise == path.name:
                return reports  # the file itself can't be used
            if len(lines) < len(rest):
                reports.append(_died(names[len(reports)], path, code, seconds, trace))
            written.unlink(missing_ok=True)
    return reports


def _child(path, names, seconds, written, trace):
    job = {"path": str(path), "names": names, "seconds": seconds}
    job |= {"written": str(written), "trace": str(trace)}
    search = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "ch07.exercises.sandbox_worker", json.dumps(job)]
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    try:
        return subprocess.run(
            command,
            **silent,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": search},
            timeout=60 + 2 * seconds * (1 + len(names)),
        ).returncode
    except subprocess.TimeoutExpired:  # even the child's own watch was stopped
        return None


def _died(name, path, code, seconds, trace):
    """The report on code that never came back."""
    text = trace.read_text(encoding="utf-8") if trace.exists() else ""
    trace.unlink(missing_ok=True)
    if "Timeout" in text or code is None:
        where = _line_of(path, text)
        sentence = f"Your code did not come to an end within {seconds:g} seconds{where}."
        return Report(name, "mistake", "endless", sentence)
    how = f"exit code {code}" if code >= 0 else f"signal {-code}: out of memory, or a crash in C"
    return Report(name, "mistake", "process-ended", f"Your code ended the whole process ({how}).")


def _line_of(path, trace):
    """Where in the learner's file the code was, from faulthandler's trace."""
    for line in trace.splitlines():
        if f'File "{path}"' in line:
            number = int(line.split("line ")[1].split()[0])
            code = _source(path).splitlines()[number - 1].strip()
            return f"; it was at line {number}: {code}"
    return ""


def report_as_line(report):
    """A report as a line of JSON, as the child writes it."""
    return json.dumps(asdict(report)) + "\n"
