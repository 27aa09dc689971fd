"""Columns under various names -> instruction, input and output.

After the data preparation of the Lamini course.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ch07.data.entries import FindingCounts, no_usable_row, raise_faulty_rows
from ch07.data.entry_checks import Entry, check_row
from ch07.data.field_names import FIELD_ALIASES, INPUT_ALIAS, KNOWN_KEYS
from ch07.data.json_reader import Finding, FindingSink
from ch07.data.streaming import numbered_rows
from ch07.utils.errors import InputError
from ch07.utils.validation import MAX_LISTED, quote

TEXT = "text"
# Here "input" asks the question; in Alpaca's form it is what the question is about.
INPUT_AS_QUESTION = ("input", "output")
COURSE_ORDER = (*FIELD_ALIASES[:2], INPUT_AS_QUESTION)  # and after these, text
OUR_ORDER = (("instruction", "output"), *COURSE_ORDER, *FIELD_ALIASES[2:])


def detect_columns(
    columns: Collection[str], order: Sequence[tuple[str, ...]] = OUR_ORDER
) -> tuple[str, ...]:
    """The names of (question, answer), or ("text",): the first in the order that a row has.

    ValueError lists the columns if none is known. `COURSE_ORDER` is how the course decides.

    >>> detect_columns(["instruction", "input", "output"])
    ('instruction', 'output')
    >>> detect_columns(["instruction", "input", "output"], COURSE_ORDER)  # the instruction is lost
    ('input', 'output')
    """
    for names in (*order, (TEXT,)):
        if all(name in columns for name in names):
            return names
    found = ", ".join(map(quote, list(columns)[:MAX_LISTED])) or "none"
    known = ", ".join("/".join(names) for names in (*order, (TEXT,)))
    raise InputError(f"no known columns; found: {found}; known: {known}")


def normalize_record(record: Mapping[str, Any]) -> Entry:
    """The row as {"instruction", "input", "output"}; ValueError lists columns if none is known.

    A column "input" (unless it is the question) or "context" is the input. A row of plain text has
    no question, so all of it is output.

    >>> normalize_record({"question": "Who?", "context": "Anna sang.", "answer": "Anna"})
    {'instruction': 'Who?', 'input': 'Anna sang.', 'output': 'Anna'}
    """
    names = detect_columns(record)
    if names == (TEXT,):
        return {"instruction": "", "input": "", "output": record[TEXT]}
    question, answer = names
    input_name = INPUT_ALIAS if "input" in names or "input" not in record else "input"
    return {
        "instruction": record[question],
        "input": record.get(input_name) or "",
        "output": record[answer],
    }


def joined_text(record: Mapping[str, str], order: Sequence[tuple[str, ...]] = COURSE_ORDER) -> str:
    """What the course trains on: question and answer with nothing between them, or the text."""
    return "".join(record[name] for name in detect_columns(record, order))


# --- a file in any of these forms -----------------------------------------------------------------
def prepared_rows(
    path: Path | str,
    findings: FindingCounts,
    limit: int | None = None,
    skip_bad_rows: bool = False,
) -> Iterator[Entry]:
    """The entries of a file of any size, one by one: checked, and with known keys only.

    What was noticed goes to `findings`. After the last row a DataError lists the rows that can't be
    used, unless `skip_bad_rows` leaves them out.
    """
    rows = islice(numbered_rows(path, findings), limit)
    n = 0
    for place, row in input_as_instruction(rows, findings):
        entry = check_row(place, row, findings)
        if entry is not None:
            n += 1
            yield {key: entry[key] for key in KNOWN_KEYS if key in entry}
    if findings.n_errors and not skip_bad_rows:
        raise_faulty_rows(path, findings.n_errors, findings.errors)
    if n == 0:
        raise no_usable_row(path, findings.lines())


def input_as_instruction(
    rows: Iterable[tuple[str, Any]], findings: FindingSink
) -> Iterator[tuple[str, Any]]:
    """(place, row) pairs; if "input" asks the question in the first row, it does so in all.

    One row decides for all: in a file of Alpaca's form, a row without instruction is faulty.
    """
    input_asks: bool | None = None
    for place, row in rows:
        if isinstance(row, dict):
            if input_asks is None:
                has_both = all(name in row for name in INPUT_AS_QUESTION)
                input_asks = has_both and detect_columns(row) == INPUT_AS_QUESTION
            if input_asks and "input" in row and "instruction" not in row:
                rest = {key: row[key] for key in row if key != "input"}
                row = {"instruction": row["input"], **rest}
                findings.append(Finding(place, "note", "input/output read as instruction/output"))
        yield place, row
