"""`check --watch`: the same check, again at each save, until Ctrl-C."""

import sys
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ch07.exercises.report import Report
from ch07.exercises.report_summary import difference, summary
from ch07.exercises.sandbox import Sandbox, open_sandbox
from ch07.exercises.saved_files import saved_files
from ch07.utils.console import count, terminal_line, terminal_safe
from ch07.utils.errors import InputError

CLEAR_SCREEN = "\x1b[2J\x1b[H"  # what has scrolled out of sight stays
HOW_TO_END = "Waiting for the next save; Ctrl-C ends."


def watch_files(
    path: Path,
    seconds: float,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], datetime] = datetime.now,
) -> int:
    """Check a file, or a folder's files, and again what each save has changed; returns 0.

    Ends when `sleep` raises KeyboardInterrupt, as it does at Ctrl-C. OSError if there is no file.
    """
    path.stat()
    known: dict[Path, list[Report]] = {}
    try:
        with open_sandbox() as sandbox:
            for saved in saved_files(path, sleep):
                before = _all_reports(known)
                _begin_page(now(), saved.to_check or saved.gone)
                for file in saved.gone:
                    print(terminal_line(f"{file.name} is gone.", width=None))
                    known.pop(file, None)
                for file in saved.to_check:
                    known[file] = _check(sandbox, file, seconds)
                _end_page(before, _all_reports(known))
    except KeyboardInterrupt:
        print("\nNo longer watching.")
    return 0


def _check(sandbox: Sandbox, file: Path, seconds: float) -> list[Report]:
    """The reports on a file, which are printed; none for one that can't be checked as it is now."""
    try:
        reports = sandbox.check_file(file, seconds)
    except (InputError, OSError) as error:
        print(terminal_safe(f"skipped: {error}"))
        return []
    for report in reports:
        print(terminal_safe(str(report)))
    return reports


def _all_reports(known: dict[Path, list[Report]]) -> list[Report]:
    return [report for file in sorted(known) for report in known[file]]


def _begin_page(now: datetime, files: list[Path]) -> None:
    if sys.stdout.isatty():
        print(CLEAR_SCREEN, end="")
    what = files[0].name if len(files) == 1 else count(len(files), "file")
    print(terminal_line(f"--- {now:%H:%M:%S}  {what}", width=None))


def _end_page(before: list[Report], after: list[Report]) -> None:
    print(f"\n{summary(after)}")
    if before:
        print(terminal_line(difference(before, after), width=None))
    print(HOW_TO_END, flush=True)
