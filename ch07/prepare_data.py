"""`python -m ch07 prepare-data FILE OUT`: rows of any form and number become Alpaca-form JSONL."""

import shlex
import sys

from ch07.claim import check_new_file
from ch07.data import Tally, count
from ch07.files import write_jsonl
from ch07.report import safe
from ch07.systems.lamini import prepared_rows


def prepare_data(path, out, limit=None, skip_bad_rows=False):
    """Write the rows that can be used, and say what was left out and why; returns the exit code."""
    check_new_file(out, "OUT")
    tally = Tally()
    n = write_jsonl(out, prepared_rows(path, tally, limit, skip_bad_rows))
    for line in tally.lines():
        print(safe(f"data: {line}"), file=sys.stderr)
    print(safe(f"{count(n, 'row')} in {out}: train on them with"))
    print(safe(f"  python -m ch07 finetune --data {shlex.quote(out)}"))
    return 0
