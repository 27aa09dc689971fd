"""`python -m ch07 tokenize FILE STORE`: write any number of rows as a token store."""

import sys

from ch07.data.prompt_styles import get_style
from ch07.data.token_store import write_store
from ch07.utils.console import shell_path, terminal_line, terminal_safe


def tokenize_data(
    path: str,
    folder: str,
    prompt_style: str | None = None,
    allowed_max_length: int | None = None,
    skip_bad_rows: bool = False,
) -> int:
    """Write the store and say what is in it; returns the exit code.

    Conversations of more than `allowed_max_length` tokens lose their oldest turns.
    """
    style = get_style(prompt_style or "book")
    store = write_store(path, folder, style, skip_bad_rows, allowed_max_length)
    for line in store.about["findings"]:
        print(terminal_safe(f"data: {line}"), file=sys.stderr)
    place = terminal_line(folder, width=None)
    print(f"{len(store):,} rows, {len(store.ids):,} tokens in {place}: train on them with")
    print(f"  python -m ch07 finetune --data {shell_path(folder)}")
    return 0
