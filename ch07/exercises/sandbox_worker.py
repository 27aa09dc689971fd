"""What runs in a learner's process; started by `ch07.exercises.sandbox_process` only.

It gets a job on standard input, and leaves its results in two descriptors, which it moves away from
where the learner's code prints.
"""

import contextlib
import faulthandler
import importlib.util
import os
import sys
from collections.abc import Iterator
from os import _exit, getpid, write  # bound now: an exercise may replace them in `os`
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

from ch07.exercises.checker import diagnose
from ch07.exercises.learner_code import PrintedText, call_function, describe_error
from ch07.exercises.mistake import Mistake, NotStarted
from ch07.exercises.report import Report
from ch07.exercises.sandbox_confinement import confine_process
from ch07.exercises.sandbox_limits import limit_process
from ch07.exercises.sandbox_process import Job
from ch07.exercises.signed_reports import signed_line


def silence_standard_streams() -> None:
    """Point standard input, output and error at nothing."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)


def run_job(job: Job, reports: int, trace: int) -> NoReturn:
    """Import the file, check its exercises, write each report at once, and end the process.

    `reports` and `trace` are descriptors.
    """
    try:
        if job.confined:
            confine_process(Path(job.path).parent)
        limit_process()
        process = getpid()
        for report in _check_exercises(job, trace):
            if getpid() != process:  # a fork that the learner's code has left running
                break
            write(reports, signed_line(report, job.token))
        _exit(0)  # a thread or an exit handler of the learner's can't keep the process alive
    finally:
        _exit(1)


def _check_exercises(job: Job, trace: int) -> Iterator[Report]:
    path = Path(job.path)
    # a thread in C, which ends the process even if the learner's code never returns
    faulthandler.dump_traceback_later(job.seconds, exit=True, file=trace)
    try:
        module = _import_file(path)
    except (Mistake, NotStarted) as problem:
        why = problem.sentence if isinstance(problem, Mistake) else "It raises NotImplementedError."
        yield Report(path.name, "mistake", "import", f"The file can't be imported. {why}")
        return
    for name in job.names:
        faulthandler.dump_traceback_later(job.seconds, exit=True, file=trace)
        yield _diagnose(name, getattr(module, name, None))


def _diagnose(name: str, function: Any) -> Report:
    try:
        return diagnose(name, function)
    except BaseException as error:  # a KeyboardInterrupt of the learner's own, say
        mistake = Mistake("raised", f"Your code raised {describe_error(error)}.")
        return Report(name, "mistake", mistake.diagnosis, mistake.sentence)


def _import_file(path: Path) -> ModuleType:
    """The learner's file as a module; it can import files beside it, but ours come first."""
    spec = importlib.util.spec_from_file_location("learner_file", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["learner_file"] = module  # dataclasses and pickle look it up
    sys.path.append(str(path.parent))
    ignored = PrintedText()
    with contextlib.redirect_stdout(ignored), contextlib.redirect_stderr(ignored):
        try:
            call_function(spec.loader.exec_module, module)
        except KeyboardInterrupt as error:
            raise Mistake("raised", f"Your code raised {describe_error(error)}.") from error
    return module


if __name__ == "__main__":
    JOB = Job.from_json(sys.stdin.readline())
    RESULTS = (os.dup(1), os.dup(2))
    silence_standard_streams()
    run_job(JOB, *RESULTS)
