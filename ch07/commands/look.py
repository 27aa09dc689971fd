"""Look inside a run: one HTML file with its answers, token losses, predictions and attention.

python -m ch07 look RUN [--out FILE.html] [--answers N] [--max-size MB] [--bits 16|24]
                        [--answers-only]
"""

import sys
from pathlib import Path

from ch07.models.saved_run import load_run
from ch07.pages.look_data import LookOptions, look_page
from ch07.utils.atomic_files import write_bytes
from ch07.utils.console import terminal_line
from ch07.utils.device import choose_device
from ch07.utils.paths import check_new_file

PAGE = "look.html"


def look(
    folder: str,
    out: str | None = None,
    *,
    answers: int | None = None,
    max_size: float = LookOptions.max_megabytes,
    bits: int = LookOptions.bits,
    answers_only: bool = False,
    device: str = "auto",
) -> int:
    """Write the page of the run in `folder` as a new file, RUN/look.html if not named; returns 0.

    `max_size` is in megabytes. Nothing else in the run folder is changed.
    """
    path = Path(folder) / PAGE if out is None else Path(out)
    if out is not None or path.parent.is_dir():  # else it is no run, which `load_run` says
        check_new_file(path if out is None else out, "--out")
    run = load_run(folder, choose_device(device))
    options = LookOptions(answers, max_size, bits, answers_only)
    page = look_page(run, options, _print_note).encode()
    write_bytes(path, page, new=True)
    line = f"{path} has {len(page) / 1e6:,.1f} MB: open it in a browser; it needs no network"
    print(terminal_line(line, width=None))
    return 0


def _print_note(text: str) -> None:
    print(terminal_line(text, width=None), file=sys.stderr)
