"""Columns of many names -> instruction, input and output.

After the data preparation of the Lamini course.
"""

from itertools import islice

from ch07.data.entries import (
    FIELD_ALIASES,
    INPUT_ALIAS,
    KNOWN_KEYS,
    DataError,
    check_row,
    raise_faulty_rows,
)
from ch07.data.json_reader import Finding
from ch07.data.streaming import numbered_rows
from ch07.utils.validation import MAX_LISTED, quoted

TEXT = "text"
SWAPPED = ("input", "output")  # an input that asks; in Alpaca form it is what a question is about
COURSE_ORDER = (*FIELD_ALIASES[:2], SWAPPED)  # and after these, text
OUR_ORDER = (("instruction", "output"), *COURSE_ORDER, *FIELD_ALIASES[2:])


def detect_columns(columns, order=OUR_ORDER):
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
    found = ", ".join(map(quoted, list(columns)[:MAX_LISTED])) or "none"
    known = ", ".join("/".join(names) for names in (*order, (TEXT,)))
    raise ValueError(f"no columns that are known; found: {found}; known: {known}")


def normalize_record(record):
    """The row as {"instruction", "input", "output"}; ValueError lists columns that aren't known.

    A column "input" (where it isn't the question) or "context" is the input. A row of text has
    nothing that asks for it: all of it is output.

    >>> normalize_record({"question": "Who?", "context": "Anna sang.", "answer": "Anna"})
    {'instruction': 'Who?', 'input': 'Anna sang.', 'output': 'Anna'}
    """
    names = detect_columns(record)
    if names == (TEXT,):
        return {"instruction": "", "input": "", "output": record[TEXT]}
    about = INPUT_ALIAS if "input" in names or "input" not in record else "input"
    values = (record[names[0]], record.get(about) or "", record[names[1]])
    return dict(zip(("instruction", "input", "output"), values, strict=True))


def joined_text(record, order=COURSE_ORDER):
    """What the course trains on: question and answer with nothing between, or the text."""
    return "".join(record[name] for name in detect_columns(record, order))


# --- a file in any of these forms ---------------------------------------------------------------
def prepared_rows(path, findings, limit=None, skip_bad_rows=False):
    """The entries of a file of any size, one by one: checked, and with the keys that we know.

    What was seen goes to `findings` (a `Tally`). After the last row a DataError lists those that
    can't be used, unless they shall be left out.
    """
    rows, n = islice(numbered_rows(path, findings), limit), 0
    for where, row in with_instruction(rows, findings):
        entry = check_row(where, row, findings)
        if entry is not None:
            n += 1
            yield {key: entry[key] for key in KNOWN_KEYS if key in entry}
    if findings.n_errors and not skip_bad_rows:
        raise_faulty_rows(path, findings.n_errors, findings.errors)
    if not n:
        raise DataError(f"{path}: no usable row" + "".join(f"\n  {s}" for s in findings.lines()))


def with_instruction(rows, findings):
    """(where, row) pairs; if the first row says that "input" asks, it is the instruction in all.

    One row decides for all: in a file of Alpaca form, a row without instruction is a fault.
    """
    asks = None
    for where, row in rows:
        if isinstance(row, dict):
            if asks is None:
                asks = all(n in row for n in SWAPPED) and detect_columns(row) == SWAPPED
            if asks and "input" in row and "instruction" not in row:
                row = {"instruction": row["input"]} | {k: row[k] for k in row if k != "input"}
                findings.append(Finding(where, "note", "input/output read as instruction/output"))
        yield where, row
