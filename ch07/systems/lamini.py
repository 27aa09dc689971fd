r"""Data preparation as the course of Lamini and DeepLearning.AI does it, and its two templates.

The one idea: whatever a data set calls its columns, a row is a question and an answer; which
columns these are is looked up in an order. Source: "Finetuning Large Language Models", lessons
"Where finetuning fits in" and "Data preparation" (course notebooks).

Two things in the course's code go wrong, and stand here to be seen. A row in Alpaca form has the
columns input and output, so its instruction is lost. And one cell makes two outputs that differ at
the seam: the text has a newline between "### Answer:" and the answer, but in the pair question and
answer are joined without any. So what is trained on is not what was looked at. Our `QUESTION_STYLE`
has one template for both. Knows nothing of models or training.
"""

from itertools import islice

from ch07.data import CONTEXT, KNOWN, SCHEMAS, DataError, checked_row, refuse
from ch07.json_rows import SHOWN, Finding, named
from ch07.prompts import QUESTION_STYLE
from ch07.systems.streaming import numbered_rows

TEXT = "text"
SWAPPED = ("input", "output")  # an input that asks; in Alpaca form it is what a question is about
COURSE_ORDER = (*SCHEMAS[:2], SWAPPED)  # and after these, text
OUR_ORDER = (("instruction", "output"), *COURSE_ORDER, *SCHEMAS[2:])


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
    found = ", ".join(map(named, list(columns)[:SHOWN])) or "none"
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
    about = CONTEXT if "input" in names or "input" not in record else "input"
    values = (record[names[0]], record.get(about) or "", record[names[1]])
    return dict(zip(("instruction", "input", "output"), values, strict=True))


def joined_text(record, order=COURSE_ORDER):
    """What the course trains on: question and answer with nothing between, or the text."""
    return "".join(record[name] for name in detect_columns(record, order))


# --- the two outputs of one cell ----------------------------------------------------------------


def question_text(entry):
    r"""The course's first output: prompt and answer as one text, a newline before the answer.

    >>> question_text({"instruction": "Who?", "output": "Anna"})
    '### Question:\nWho?\n\n### Answer:\nAnna'
    """
    return QUESTION_STYLE.prompt(entry) + entry["output"]


def question_pair(entry):
    r"""Its second: prompt and answer apart. The prompt has lost its last newline.

    >>> question_pair({"instruction": "Who?", "output": "Anna"})
    {'question': '### Question:\nWho?\n\n### Answer:', 'answer': 'Anna'}
    """
    prompt = QUESTION_STYLE.prompt(entry).removesuffix("\n")
    return {"question": prompt, "answer": entry["output"]}


# --- a file in any of these forms ---------------------------------------------------------------


def prepared_rows(path, findings, limit=None, skip_bad_rows=False):
    """The entries of a file of any size, one by one: checked, and with the keys that we know.

    What was seen goes to `findings` (a `Tally`). After the last row a DataError lists those that
    can't be used, unless they shall be left out.
    """
    rows, n = islice(numbered_rows(path, findings), limit), 0
    for where, row in with_instruction(rows, findings):
        entry = checked_row(where, row, findings)
        if entry is not None:
            n += 1
            yield {key: entry[key] for key in KNOWN if key in entry}
    if findings.n_errors and not skip_bad_rows:
        refuse(path, findings.n_errors, findings.errors)
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
