"""One JSON object -> the rows in it: a row itself, a list under a key, a table of pandas.

The one idea: what people save with `json.dump` or `DataFrame.to_json` has few forms, and each is
known by its keys.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from ch07.data.conversations import ROLE_KEYS, is_messages
from ch07.data.field_names import READ_NAMES, SPLIT_NAMES
from ch07.data.findings import Finding, FindingSink
from ch07.data.json_objects import ObjectWithRepeatedKey, merged
from ch07.data.row_forms import is_row
from ch07.utils.errors import DataError
from ch07.utils.validation import MAX_LISTED, quote

CONTAINERS = ("data", "train", "rows")  # the keys under which rows are looked for first
WHOLE_FILE = "the file"


def may_hold_rows(value: Mapping[str, Any]) -> bool:
    """Whether an object has parts that could be rows, or columns of them."""
    return any(isinstance(part, list | dict) for part in value.values())


def rows_in_object(
    value: Mapping[str, Any], name: str, findings: FindingSink
) -> Iterator[tuple[str, Any]]:
    """(place, row) for each row of an object; DataError says what its keys are, if it has none."""
    if isinstance(value, ObjectWithRepeatedKey) and not is_row(value):
        raise DataError(f"{name}: the key {quote(value.repeated_key)} appears twice")
    table = _table_of_columns(value, name) or _table_of_index(value) or _split_table(value, name)
    if table is not None:
        form, rows = table
        findings.append(Finding(WHOLE_FILE, "note", f"read as {form}"))
        return ((f"row {i}", row) for i, row in enumerate(rows, start=1))
    if is_row(value) or not may_hold_rows(value):
        return iter([("row 1", value)])
    return _rows_under_keys(value, name, findings)


# --- tables ---------------------------------------------------------------------------------------
def _table_of_columns(value: Mapping[str, Any], name: str) -> tuple[str, list[dict]] | None:
    """{"instruction": {"0": ..., "1": ...}, ...}, or lists in place of the inner objects."""
    columns = {key: column for key, column in value.items() if column is not None}
    known = [key for key in columns if key.strip().casefold() in READ_NAMES]
    if not known or any(_is_message(column) for column in columns.values()):
        return None
    if all(isinstance(column, dict) for column in columns.values()):
        labels = list(next(iter(columns.values())))
        for key, column in columns.items():
            if isinstance(column, ObjectWithRepeatedKey):
                raise DataError(f"{name}: in the column {quote(key)}, a row appears twice")
            if list(column) != labels:
                raise DataError(f"{name}: the column {quote(key)} has other rows than the first")
        rows = [{key: column[label] for key, column in columns.items()} for label in labels]
        return "the columns of a table (pandas: orient='columns')", rows
    has_columns = len(known) > 1 or known == ["text"] or _is_column_of_chats(columns[known[0]])
    if has_columns and all(map(_is_column, columns.values())):
        lengths = {key: len(column) for key, column in columns.items()}
        if len(set(lengths.values())) > 1:
            found = ", ".join(
                f"{quote(key)} {n:,}" for key, n in list(lengths.items())[:MAX_LISTED]
            )
            raise DataError(f"{name}: the columns have different numbers of rows: {found}")
        keys = list(columns)
        rows = [
            dict(zip(keys, cells, strict=True)) for cells in zip(*columns.values(), strict=True)
        ]
        return "a list of values for each column", rows
    return None


def _is_column(value: Any) -> bool:
    """Whether it is a list of values; a list of objects would be a conversation."""
    return isinstance(value, list) and not any(isinstance(item, dict) for item in value)


def _is_column_of_chats(value: Any) -> bool:
    """Whether each item of a list is a list of messages."""
    return isinstance(value, list) and bool(value) and all(map(is_messages, value))


def _is_message(value: Any) -> bool:
    """Whether an object is a message, or messages stored as an object of lists."""
    return isinstance(value, dict) and any(name in value for name in ROLE_KEYS)


def _table_of_index(value: Mapping[str, Any]) -> tuple[str, list[dict]] | None:
    """{"0": {a row}, "1": {a row}}."""
    rows = list(value.values())
    if rows and all(isinstance(row, dict) and is_row(row) for row in rows):
        return "one row under each key (pandas: orient='index')", rows
    return None


def _split_table(value: Mapping[str, Any], name: str) -> tuple[str, list[dict]] | None:
    """{"columns": [names], "index": [...], "data": [[cells], ...]}."""
    columns = value.get("columns")
    data = value.get("data")
    if not isinstance(columns, list) or not isinstance(data, list):
        return None
    if not all(isinstance(column, str) for column in columns):
        return None
    if not all(isinstance(cells, list) and len(cells) == len(columns) for cells in data):
        return None
    if len(set(columns)) < len(columns):
        raise DataError(f"{name}: a column appears twice among {', '.join(map(quote, columns))}")
    rows = [dict(zip(columns, cells, strict=True)) for cells in data]
    return "the columns and data of a table (pandas: orient='split')", rows


# --- lists under keys -----------------------------------------------------------------------------
def _rows_under_keys(
    value: Mapping[str, Any], name: str, findings: FindingSink
) -> Iterator[tuple[str, Any]]:
    lists = {
        key: item
        for key, item in value.items()
        if isinstance(item, list) and item and all(isinstance(row, dict) for row in item)
    }
    splits = [key for key in lists if key.casefold() in SPLIT_NAMES]
    preferred = [key for key in lists if key in CONTAINERS]
    if len(splits) > 1:
        chosen = splits
    elif len(preferred) == 1:
        chosen = preferred
    elif len(lists) == 1:
        chosen = list(lists)
    else:
        raise DataError(f"{name}: {_explain_object(value)}")
    read = ", ".join(map(quote, chosen))
    findings.append(Finding(WHOLE_FILE, "note", f"the rows under {read} were read"))
    others = [key for key in value if key not in chosen]
    for key in others[:MAX_LISTED]:
        findings.append(Finding(WHOLE_FILE, "note", f"what is under {quote(key)} was not read"))
    return _rows_of_lists({key: lists[key] for key in chosen})


def _rows_of_lists(lists: Mapping[str, list[dict[str, Any]]]) -> Iterator[tuple[str, Any]]:
    """Rows with their places; those of several splits say in which they are."""
    for key, rows in lists.items():
        for i, row in enumerate(rows, start=1):
            if set(row) >= {"row_idx", "row"} and isinstance(row["row"], dict):
                row = row["row"]  # as the server of Hugging Face's dataset viewer gives rows
            if len(lists) > 1:
                yield f"{key} row {i}", merged(row, {"split": SPLIT_NAMES[key.casefold()]})
            else:
                yield f"row {i}", row


def _explain_object(value: Mapping[str, Any]) -> str:
    lists = [key for key, item in value.items() if isinstance(item, list)]
    hint = f"; are the entries in its {quote(lists[0])}?" if lists else ""
    keys = ", ".join(map(quote, list(value)[:MAX_LISTED])) or "none"
    return f"the top level is one object with the keys {keys}; expected a list of entries{hint}"
