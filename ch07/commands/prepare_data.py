"""`python -m ch07 prepare-data FILE OUT`: convert rows, however many, to JSONL in Alpaca format."""

import sys

from ch07.data.findings import FindingCounts
from ch07.data.prepared_rows import prepared_rows
from ch07.utils.atomic_files import write_jsonl
from ch07.utils.console import count, shell_path, terminal_safe
from ch07.utils.paths import check_new_file


def prepare_data(path: str, out: str, limit: int | None = None, skip_bad_rows: bool = False) -> int:
    """Write the rows that can be used, and say what was left out and why; returns the exit code."""
    check_new_file(out, "OUT")
    tally = FindingCounts()
    n = write_jsonl(out, prepared_rows(path, tally, limit, skip_bad_rows), new=True)
    for line in tally.lines():
        print(terminal_safe(f"data: {line}"), file=sys.stderr)
    print(terminal_safe(f"{count(n, 'row')} in {out}: train on them with"))
    print(terminal_safe(f"  python -m ch07 finetune --data {shell_path(out)}"))
    return 0
