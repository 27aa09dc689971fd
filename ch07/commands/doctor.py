"""Is this machine, and this data file, ready? One page, a verdict, and the command to type next.

    python -m ch07 doctor [DATA] [--write-clean FILE] [--json] [any setting of a run]

The one idea: it checks the plan that `finetune` would follow, so the two can't disagree. Exit
code 1 when training would fail or compute the wrong thing.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ch07.commands.doctor_checks import (
    Check,
    Level,
    check_data,
    check_machine,
    check_run,
    check_tokens,
)
from ch07.config import FinetuneOptions, listed
from ch07.data.entries import write_new_entries
from ch07.data.opened_file import STANDARD_INPUT
from ch07.data.token_store import is_store
from ch07.training.run_plan import RunPlan, build_plan
from ch07.utils.console import json_text, shell_path, terminal_safe
from ch07.utils.errors import DataError, OptionError, UserError
from ch07.utils.exit_codes import EXIT_FAILED
from ch07.utils.paths import check_new_file

ROWS_LISTED = 5  # on the page; the JSON has all of them
LABELS: dict[Level, str] = {  # of the same width, so that they make a column
    "ok": "ok   ",
    "look": "LOOK ",
    "wrong": "WRONG",
}


def doctor(*, write_clean: str | None = None, as_json: bool = False, **given: Any) -> int:
    """Print the page, or JSON; returns 0 if training would be right, else 1.

    `given` are settings of a run, see `FinetuneOptions`. With `write_clean`, the rows that a run
    would use are written to that new file.
    """
    options = FinetuneOptions(**given)
    if is_store(options.data):
        raise OptionError(f"{options.data} is a token store: give the file that it was made from")
    if write_clean is not None:
        check_new_file(write_clean, "--write-clean")
    clean = _command_line("doctor", {**given, "write_clean": _unused_name(options.data)})
    on_cpu = _command_line("finetune", {**given, "device": "cpu", "dtype": "float32"})
    checks, figures, histogram, plan = _examine(options, clean, on_cpu)
    written: dict[str, Any] | None = None
    if plan is not None and write_clean is not None:
        written = _write_clean(Path(write_clean), plan)
    if written:  # what the clean file fixes is no longer wrong
        checks = [replace(c, level="look") if c.fix == clean else c for c in checks]
    ready = all(check.level != "wrong" for check in checks)
    next_command = _next_command(checks, given, written)
    if as_json:
        found = [asdict(check) for check in checks]
        page = {"ready": ready, "checks": found, **figures, "written": written}
        print(json_text({**page, "next": next_command}))
    else:
        lines = [*_page(checks, histogram), "", *_verdict(checks)]
        if written:
            lines.append(f"{written['rows']:,} usable rows are in {written['file']}")
        if next_command:
            lines.append(f"  {next_command}")
        print(terminal_safe("\n".join(lines)))
    return 0 if ready else EXIT_FAILED


def _examine(
    options: FinetuneOptions, clean: str, on_cpu: str
) -> tuple[list[Check], dict[str, Any], list[str], RunPlan | None]:
    """(checks, figures about tokens, histogram, plan); None if no plan can be made.

    `clean` and `on_cpu` are the commands that write a clean file, and train on the CPU in float32.
    """
    checks = check_machine()
    try:  # faulty rows are left out, to see what the rest is like; they are reported all the same
        plan = build_plan(replace(options, skip_bad_rows=True), lambda text: None)
    except (UserError, OSError) as error:
        part = "data" if isinstance(error, DataError) else "run"
        return [*checks, Check(part, "wrong", str(error))], {}, [], None
    checks += check_data(plan, options, clean)
    token_checks, figures, histogram = check_tokens(plan, options)
    checks += [*token_checks, *check_run(plan, options, on_cpu)]
    return checks, figures, histogram, plan


# --- the page -----------------------------------------------------------------------------------
def _page(checks: Sequence[Check], histogram: Iterable[str]) -> list[str]:
    """The checks as lines, part by part; the histogram comes at the end of the part "tokens"."""
    lines: list[str] = []
    for part, checks_of_part in itertools.groupby(checks, key=lambda check: check.part):
        if lines:
            lines.append("")
        lines.append(part)
        for check in checks_of_part:
            first, *more = _text_with_rows(check).split("\n")
            lines.append(f"  {LABELS[check.level]} {first}")
            lines += [f"        {line}" for line in more]
        if part == "tokens":
            lines += [f"        {line}" for line in histogram]
    return lines


def _text_with_rows(check: Check) -> str:
    """What was found, and the first few of the rows that it is about."""
    if not check.rows:
        return check.text
    more = ", ..." if len(check.rows) > ROWS_LISTED else ""
    return f"{check.text}: {', '.join(check.rows[:ROWS_LISTED])}{more}"


def _verdict(checks: Sequence[Check]) -> list[str]:
    """Whether training can start, and whether what is left to look at may change its results."""
    n_wrong = sum(check.level == "wrong" for check in checks)
    to_look_at = [check for check in checks if check.level == "look"]
    verdict = "NOT READY" if n_wrong else "READY"
    lines = [f"{verdict}: {n_wrong} wrong, {len(to_look_at)} to look at"]
    if n_wrong or not to_look_at:
        return lines
    changing = [check.part for check in to_look_at if check.changes_results]
    if changing:
        parts = ", ".join(dict.fromkeys(changing))
        effect = f"{len(changing)} of them may change what the model learns or its score ({parts})"
    else:
        effect = "none of them changes what the model learns or its score"
    return [*lines, f"What is marked LOOK does not stop training; {effect}."]


def _next_command(
    checks: Iterable[Check], given: Mapping[str, Any], written: Mapping[str, Any] | None
) -> str | None:
    """What to type next; None where no command can fix what is wrong."""
    wrong = [check for check in checks if check.level == "wrong"]
    if wrong:
        return next((check.fix for check in wrong if check.fix), None)
    data = {"data": written["file"]} if written else {}
    return _command_line("finetune", {**given, **data})


def _command_line(command: str, flags: Mapping[str, Any]) -> str:
    """A command as a person would type it."""
    words = [f"python -m ch07 {command}"]
    for name, value in flags.items():
        flag = "--" + name.replace("_", "-")
        if name == "data":
            before = "" if command == "doctor" else f"{flag} "
            words += [before + shell_path(path) for path in listed(value)]
        else:
            words.append(flag if value is True else f"{flag} {shell_path(value)}")
    return " ".join(words)


# --- the rows that can be used ------------------------------------------------------------------
def _unused_name(data: str | list[str] | None) -> str:
    """A name for a clean copy of a data file that no file in this folder has."""
    files = listed(data)
    name = files[0] if len(files) == 1 and files[0] != STANDARD_INPUT else "data.json"
    path = Path(name.replace(":", "-").replace("*", "all"))
    suffix = ".jsonl" if path.suffix == ".jsonl" else ".json"
    name = f"{path.stem}.clean{suffix}"
    for number in itertools.count(2):
        if not Path(name).exists():
            break
        name = f"{path.stem}.clean.{number}{suffix}"
    return name


def _write_clean(path: Path, plan: RunPlan) -> dict[str, Any]:
    """Write the rows that a run would use, in the file's order; JSONL if the name says so."""
    used = sorted(row for dataset in plan.rows.datasets.values() for row in dataset.indices)
    write_new_entries(path, [plan.rows.file.entries[row] for row in used])
    return {"file": str(path), "rows": len(used)}
