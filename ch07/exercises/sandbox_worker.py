"""The process in which a learner's file runs; started by `ch07.exercises.sandbox` only."""

import contextlib
import faulthandler
import importlib.util
import io
import json
import os
import sys
from pathlib import Path

from ch07.exercises.checker import diagnose
from ch07.exercises.report import Mistake, NotStarted, Report, call_function, describe_error
from ch07.exercises.sandbox import MEMORY, report_as_line


def main(job):
    """Import the file, check its exercises, and write each report when it is there."""
    _limit_memory()
    path, seconds = Path(job["path"]), job["seconds"]
    with open(job["trace"], "w", encoding="utf-8") as trace:
        # a thread in C: it ends the process even if the learner's code never comes back
        faulthandler.dump_traceback_later(seconds, exit=True, file=trace)
        try:
            module = _imported(path)
        except (Mistake, NotStarted) as problem:
            why = getattr(problem, "sentence", "NotImplementedError while it was imported")
            _write(job, Report(path.name, "mistake", "import", f"Can't import the file. {why}"))
            return
        for name in job["names"]:
            faulthandler.dump_traceback_later(seconds, exit=True, file=trace)
            _write(job, _diagnosed(name, getattr(module, name, None)))
    os._exit(0)  # a thread or an exit handler of the learner's can't keep the process


def _diagnosed(name, function):
    try:
        return diagnose(name, function)
    except BaseException as error:  # a KeyboardInterrupt of the learner's own, say
        sentence = f"Your code raised {describe_error(error)}."
        return Report(name, "mistake", "raised", sentence)


def _imported(path):
    """The learner's file as a module; files beside it can be imported, ours come first."""
    spec = importlib.util.spec_from_file_location("learner_file", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["learner_file"] = module  # dataclasses and pickle look it up
    sys.path.append(str(path.parent))
    silent = io.StringIO()
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        try:
            call_function(spec.loader.exec_module, module)
        except KeyboardInterrupt as error:
            raise Mistake("raised", f"Your code raised {describe_error(error)}.") from error
    return module


def _write(job, report):
    with open(job["written"], "a", encoding="utf-8") as file:
        file.write(report_as_line(report))


def _limit_memory():
    try:
        import resource

        used = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    except (ImportError, OSError):  # not Linux
        return
    limit = used * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
