"""What runs in a learner's process; started by `ch07.exercises.sandbox_process` only.

With `--serve` it stays a fork server: it reads jobs, forks for each, and answers with exit codes.
"""

import contextlib
import faulthandler
import importlib.util
import io
import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from ch07.data.tokenizer import load_tokenizer
from ch07.exercises import sandbox_limits
from ch07.exercises.checker import diagnose
from ch07.exercises.learner_code import call_function, describe_error
from ch07.exercises.mistake import Mistake, NotStarted
from ch07.exercises.report import Report
from ch07.exercises.sandbox_limits import limit_memory
from ch07.exercises.sandbox_process import Job

POLL_SECONDS = 0.005


def serve() -> None:
    """Fork a child for each job on standard input; write its exit code to standard output."""
    load_tokenizer()  # kept, for all children
    while line := sys.stdin.readline():
        job = Job.from_json(line)
        child = os.fork()
        if child == 0:
            _detach()
            run_job(job)
        exit_code = _exit_code(child, sandbox_limits.START_SECONDS + job.time_limit())
        sys.stdout.write(json.dumps(exit_code) + "\n")
        sys.stdout.flush()


def _detach() -> None:
    """A child must not reach the server's pipes."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def _exit_code(child: int, seconds: float) -> int | None:
    """Wait for a child: its exit code, minus a signal's number, or None if it had to be killed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(POLL_SECONDS)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def run_job(job: Job) -> NoReturn:
    """Import the file, check its exercises, write each report at once, and end the process."""
    try:
        limit_memory()
        with open(job.trace, "w", encoding="utf-8") as trace:
            _check_exercises(job, trace)
        os._exit(0)  # a thread or an exit handler of the learner's can't keep the process alive
    finally:
        os._exit(1)


def _check_exercises(job: Job, trace: io.TextIOBase) -> None:
    # a thread in C, which ends the process even if the learner's code never returns
    faulthandler.dump_traceback_later(job.seconds, exit=True, file=trace)
    try:
        module = _import_file(job.path)
    except (Mistake, NotStarted) as problem:
        why = problem.sentence if isinstance(problem, Mistake) else "It raises NotImplementedError."
        sentence = f"The file can't be imported. {why}"
        _write(job, Report(job.path.name, "mistake", "import", sentence))
        return
    for name in job.names:
        faulthandler.dump_traceback_later(job.seconds, exit=True, file=trace)
        _write(job, _diagnose(name, getattr(module, name, None)))


def _diagnose(name: str, function: Any) -> Report:
    try:
        return diagnose(name, function)
    except BaseException as error:  # a KeyboardInterrupt of the learner's own, say
        sentence = f"Your code raised {describe_error(error)}."
        return Report(name, "mistake", "raised", sentence)


def _import_file(path: Path) -> ModuleType:
    """The learner's file as a module; it can import files beside it, but ours come first."""
    spec = importlib.util.spec_from_file_location("learner_file", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["learner_file"] = module  # dataclasses and pickle look it up
    sys.path.append(str(path.parent))
    ignored = io.StringIO()
    with contextlib.redirect_stdout(ignored), contextlib.redirect_stderr(ignored):
        try:
            call_function(spec.loader.exec_module, module)
        except KeyboardInterrupt as error:
            raise Mistake("raised", f"Your code raised {describe_error(error)}.") from error
    return module


def _write(job: Job, report: Report) -> None:
    with open(job.reports, "a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(report)) + "\n")


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        serve()
    else:
        run_job(Job.from_json(sys.argv[1]))
