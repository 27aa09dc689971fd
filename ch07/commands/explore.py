"""The collate explorer as one HTML file.

python -m ch07 explore [--data FILE] [--rows N] [--language zh-CN] --out FILE.html
"""

import sys

from ch07.data.data_files import Source
from ch07.data.entries import read_data
from ch07.data.findings import summarize_findings
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.pages.collate_explorer_data import collate_explorer_page
from ch07.utils.atomic_files import write_bytes
from ch07.utils.console import terminal_line
from ch07.utils.paths import check_new_file


def explore(
    out: str,
    *,
    data: Source | None = None,
    rows: int = 40,
    language: str = "en",
    skip_bad_rows: bool = False,
) -> int:
    """Write the page with the first `rows` rows of `data` to choose from; returns 0."""
    check_new_file(out, "--out")
    file = read_data(DATA_FILE if data is None else data, skip_bad_rows)
    for line in summarize_findings(file.findings):
        _print_note(line)
    page = collate_explorer_page(file.entries, rows, language, _print_note)
    write_bytes(out, page.encode(), new=True)
    print(f"{terminal_line(out, width=None)}: open it in a browser; it needs no network")
    return 0


def _print_note(text: str) -> None:
    print(f"data: {terminal_line(text, width=None)}", file=sys.stderr)
