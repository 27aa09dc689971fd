"""Columns under various names -> instruction, input and output, as the Lamini course reads them."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from ch07.data.entry_checks import Entry
from ch07.utils.errors import InputError
from ch07.utils.validation import MAX_LISTED, quote

TEXT = "text"
CONTEXT = "context"  # another name for the input
# Here "input" asks the question; in Alpaca's form it is what the question is about.
INPUT_AS_QUESTION = ("input", "output")
# In this order, and after these, text.
COURSE_ORDER = (("question", "answer"), ("instruction", "response"), INPUT_AS_QUESTION)
INSTRUCTION_FIRST = (
    ("instruction", "output"),
    *COURSE_ORDER,
    ("prompt", "response"),
    ("prompt", "completion"),
)


def detect_columns(
    columns: Collection[str], order: Sequence[tuple[str, ...]] = INSTRUCTION_FIRST
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
    input_name = CONTEXT if "input" in names or "input" not in record else "input"
    return {
        "instruction": record[question],
        "input": record.get(input_name) or "",
        "output": record[answer],
    }


def joined_text(record: Mapping[str, str], order: Sequence[tuple[str, ...]] = COURSE_ORDER) -> str:
    """What the course trains on: question and answer with nothing between them, or the text."""
    return "".join(record[name] for name in detect_columns(record, order))
