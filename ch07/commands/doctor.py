"""Is this machine, and this data file, ready? One page, a verdict, and a command that mends.

    python -m ch07 doctor [DATA] [--write-clean FILE] [--json] [any setting of a run]

The one idea: it looks at what `finetune` would do, with the same plan, so the two can't tell
different stories. Exit code 1 when training would be wrong.
"""

import shlex
from dataclasses import asdict, replace
from itertools import chain, count
from pathlib import Path

from ch07.commands.doctor_checks import Check, check_data, check_machine, check_run, check_tokens
from ch07.config import FinetuneOptions
from ch07.data.entries import write_entries
from ch07.data.token_store import is_store
from ch07.training.run_plan import build_plan
from ch07.utils.console import json_text, terminal_safe
from ch07.utils.errors import DataError, OptionError
from ch07.utils.paths import check_new_file

SHOWN = 5  # rows listed on the page; the JSON has all of them
WORDS = {"ok": "ok   ", "look": "LOOK ", "wrong": "WRONG"}  # the same width: a column to scan


def doctor(write_clean=None, as_json=False, **given):
    """Print the page (or JSON); returns 0 if training would be right, else 1."""
    options = FinetuneOptions(**given)
    if is_store(options.data):
        raise OptionError(f"{options.data} is a token store: give the file that it was made from")
    if write_clean is not None:
        check_new_file(write_clean, "--write-clean")
    clean = _typed("doctor", {**given, "write_clean": _clean_name(options)})
    checks, details, lines, written = check_machine(), {}, [], None
    try:  # faulty rows are left out, to see what the rest is like; they are reported all the same
        plan = build_plan(replace(options, skip_bad_rows=True), lambda text: None)
    except (ValueError, RuntimeError, OSError) as error:
        part = "data" if isinstance(error, DataError) else "run"
        checks.append(Check(part, "wrong", str(error)))
    else:
        checks += check_data(plan, options, clean)
        found, details, lines = check_tokens(plan, options)
        checks += [*found, *check_run(plan, options)]
        if write_clean is not None:
            written = _write_clean(Path(write_clean), plan)
    if written:
        checks = [replace(c, level="look") if c.mend == clean else c for c in checks]
    wrong = [check for check in checks if check.level == "wrong"]
    page = {
        "ready": not wrong,
        "checks": [asdict(check) for check in checks],
        **details,
        "written": written,
        "next": _next(wrong, given, written),
    }
    print(json_text(page) if as_json else terminal_safe(_page(page, lines)))
    return 1 if wrong else 0


# --- the verdict --------------------------------------------------------------------------------
def _next(wrong, given, written):
    """What to type next; None where only a person can mend it."""
    if wrong:
        return next((check.mend for check in wrong if check.mend), None)
    return _typed("finetune", given | ({"data": written["file"]} if written else {}))


def _typed(command, flags):
    """A command as it would be typed."""
    parts = [f"python -m ch07 {command}"]
    for name, value in flags.items():
        flag = "--" + name.replace("_", "-")
        if command == "doctor" and name == "data":
            parts.append(shlex.quote(value))
        else:
            parts.append(flag if value is True else f"{flag} {shlex.quote(str(value))}")
    return " ".join(parts)


def _page(page, lines):
    """The page as text; the histogram stands below the last line about tokens."""
    text, part = [], None
    for check in page["checks"]:
        if check["part"] != part:
            text += _lines_below(part, lines)
            part = check["part"]
            text += ["", part]
        rows = ", ".join(check["rows"][:SHOWN]) + ", ..." * (len(check["rows"]) > SHOWN)
        said = check["text"] + (f": {rows}" if rows else "")
        first, *more = said.split("\n")
        text += [f"  {WORDS[check['level']]} {first}", *(f"        {line}" for line in more)]
    levels = [check["level"] for check in page["checks"]]
    verdict = "READY" if page["ready"] else "NOT READY"
    text += ["", f"{verdict}: {levels.count('wrong')} wrong, {levels.count('look')} to look at"]
    if page["written"]:
        text.append(f"{page['written']['rows']:,} usable rows are in {page['written']['file']}")
    text += [f"  {page['next']}"] if page["next"] else []
    return "\n".join(text[1:])


def _lines_below(part, lines):
    """Lines that belong to the part of the page that ends here."""
    return [f"        {line}" for line in lines] if part == "tokens" else []


# --- the rows that can be used ------------------------------------------------------------------
def _clean_name(options):
    """A name that is free, in the folder where the reader stands."""
    path = Path((options.data or "data.json").replace(":", "-"))
    end = ".jsonl" if path.suffix == ".jsonl" else ".json"
    names = chain([f"{path.stem}.clean{end}"], (f"{path.stem}.clean.{n}{end}" for n in count(2)))
    return next(name for name in names if not Path(name).exists())


def _write_clean(path, plan):
    """The rows that a run would use, in the file's order; JSONL if the name says so."""
    used = sorted(row for dataset in plan.rows.datasets.values() for row in dataset.indices)
    write_entries(path, [plan.rows.file.entries[row] for row in used])
    return {"file": str(path), "rows": len(used)}
