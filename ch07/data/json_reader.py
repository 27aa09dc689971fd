"""Text -> rows: a JSON list, JSON Lines, objects one after the other, or rows inside one object.

The one idea: the form is recognised by what the text begins with. Lines are read one at a time;
any other form is read whole. Knows nothing of what a row should contain.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from typing import Any

from ch07.data.findings import Finding, FindingSink, RowFault, check_error_count
from ch07.data.json_objects import DECODER
from ch07.data.rows_in_object import may_hold_rows, rows_in_object
from ch07.data.text_lines import Line, TextLines
from ch07.utils.errors import DataError
from ch07.utils.validation import a_type

TOO_DEEP = "brackets within brackets, too deep to be read"
LINES_TRIED = 100  # whether they are JSON decides what a text is whose first line isn't


def json_rows(lines: TextLines, start: str, findings: FindingSink) -> Iterator[tuple[str, Any]]:
    """(place, row) for each row of a text whose first character that isn't blank is `start`.

    Lines that aren't JSON are appended to `findings`; DataError if the whole text isn't.
    """
    if start == "[" or (start == "{" and lines.next_is_too_long()):
        return _rows_of_value(_decode_whole(lines), lines.name, findings)
    first = next((line for line in lines if line[1].strip()), None)
    if first is None:
        raise DataError(f"{lines.name}: the file is empty")
    lines.put_back(first)
    value, problem = decode_json(first[1].rstrip().removesuffix(","))
    if problem is None and isinstance(value, dict):
        return _rows_of_lines(lines, findings)
    if problem is None and not start == "{":
        raise DataError(f"{lines.name}: expected a list of entries, found {a_type(value)}")
    goes_on = start == "{" and first[1].rstrip()[-1:] in ("{", "[", ",", ":")
    if not goes_on and _are_json_lines(lines):
        return parse_jsonl_lines(lines, lines.name, findings)
    text = lines.rest()
    if start == "{":
        return _rows_of_objects(text, lines.name, findings)
    _, problem = decode_json(text)
    raise DataError(f"{lines.name}: not JSON: {problem}")


def _decode_whole(lines: TextLines) -> Any:
    value, problem = decode_json(lines.rest())
    if problem is not None:
        raise DataError(f"{lines.name}: not JSON: {problem}")
    return value


def _rows_of_value(value: Any, name: str, findings: FindingSink) -> Iterator[tuple[str, Any]]:
    """The rows of a whole text: a list of them, or an object that is one or holds them."""
    if isinstance(value, dict):
        return rows_in_object(value, name, findings)
    if not isinstance(value, list):
        raise DataError(f"{name}: expected a list of entries, found {a_type(value)}")
    return ((f"row {i}", row) for i, row in enumerate(value, start=1))


# --- one object on each line ----------------------------------------------------------------------
def _rows_of_lines(lines: TextLines, findings: FindingSink) -> Iterator[tuple[str, Any]]:
    """JSONL; a single line may be an object that holds all rows."""
    texts = (line for line in lines if line[1].strip())
    first = next(texts)
    value, _ = decode_json(first[1].rstrip().removesuffix(","))
    if not may_hold_rows(value):
        lines.put_back(first)
        return parse_jsonl_lines(lines, lines.name, findings)
    second = next(texts, None)
    if second is None:
        return rows_in_object(value, lines.name, findings)
    lines.put_back(first, second)
    return parse_jsonl_lines(lines, lines.name, findings)


def parse_jsonl_lines(
    lines: Iterable[Line], name: str, findings: FindingSink
) -> Iterator[tuple[str, Any]]:
    """("line 3", row) for each object of each line; blank lines are skipped."""
    n_good = 0
    n_bad = 0
    for number, line in lines:
        if not line.strip():
            continue
        place = f"line {number}"
        try:
            values = _decode_line(line, place, findings)
        except RowFault as fault:
            n_bad += 1
            findings.append(Finding(place, fault.level, str(fault), fault.kind))
            check_error_count(name, n_bad, n_good)
            continue
        for value in values:
            n_good += 1
            yield place, value


def _decode_line(line: str, place: str, findings: FindingSink) -> list[Any]:
    """The objects of a line: usually one, perhaps with a comma after it; RowFault for no JSON."""
    text = line.rstrip().lstrip("\ufeff")  # a byte-order mark stands where files were joined
    value, problem = decode_json(text.removesuffix(","), with_line=False)
    if problem is None:
        if text.endswith(","):
            findings.append(Finding(place, "note", "the comma after the object was ignored"))
        return [value]
    objects = _decode_objects(text)
    if objects is None:
        problem = decode_json(text, with_line=False)[1] or problem
        raise RowFault(f"not JSON: {problem}", kind=f"not JSON: {problem.split(':')[0]}")
    return objects


def _decode_objects(text: str) -> list[dict[str, Any]] | None:
    """The objects that stand one after the other in a text; None if that isn't all it holds."""
    objects: list[dict[str, Any]] = []
    try:
        for value in _consecutive_objects(text):
            objects.append(value)
    except (ValueError, RecursionError):
        return None
    return objects


def _are_json_lines(lines: TextLines) -> bool:
    """Whether at least half of the next lines are objects; the lines stay to be read."""
    tried = list(islice(lines, LINES_TRIED))
    lines.put_back(*tried)
    texts = [text.rstrip().removesuffix(",") for _, text in tried if text.strip()]
    values = [decode_json(text)[0] for text in texts]
    n_objects = sum(isinstance(value, dict) for value in values)
    return n_objects > 0 and 2 * n_objects >= len(texts)


# --- objects over several lines -------------------------------------------------------------------
def _rows_of_objects(text: str, name: str, findings: FindingSink) -> Iterator[tuple[str, Any]]:
    """Rows of objects that are written over several lines, with or without commas between them."""
    objects = _or_data_error(_consecutive_objects(text), name)
    first_two = list(islice(objects, 2))
    if len(first_two) == 1:
        return rows_in_object(first_two[0], name, findings)
    rows = chain(first_two, objects)
    return ((f"row {i}", row) for i, row in enumerate(rows, start=1))


def _or_data_error(objects: Iterator[Any], name: str) -> Iterator[Any]:
    try:
        yield from objects
    except json.JSONDecodeError as error:
        raise DataError(f"{name}: not JSON: {_explain(error, with_line=True)}") from None
    except RecursionError:
        raise DataError(f"{name}: not JSON: {TOO_DEEP}") from None
    except ValueError as error:
        raise DataError(f"{name}: not JSON: {error}") from None


def _consecutive_objects(text: str) -> Iterator[dict[str, Any]]:
    """Each object of a text that holds nothing else; ValueError where something else stands."""
    between = re.compile(r"[\s\ufeff]*,?[\s\ufeff]*")  # a mark stands where files were joined
    position = between.match(text).end()  # type: ignore[union-attr]  # it matches nothing, too
    while position < len(text):
        if text[position] != "{":
            raise json.JSONDecodeError("Expecting an object", text, position)
        value, position = DECODER.raw_decode(text, position)
        yield value
        position = between.match(text, position).end()  # type: ignore[union-attr]


# --- JSON -----------------------------------------------------------------------------------------
def decode_json(text: str, with_line: bool = True) -> tuple[Any, str | None]:
    """(value, None), or (None, what is wrong and where).

    `with_line` names the line as well; in JSONL it is known already.
    """
    try:
        return DECODER.decode(text), None
    except json.JSONDecodeError as error:
        return None, _explain(error, with_line)
    except RecursionError:  # 100,000 brackets
        return None, TOO_DEEP
    except ValueError:
        return None, "a number has too many digits to be read"


def _explain(error: json.JSONDecodeError, with_line: bool) -> str:
    snippet = error.doc[max(0, error.pos - 20) : error.pos + 20]
    line = f"line {error.lineno}, " if with_line else ""
    problem = f"{error.msg}: {line}column {error.colno}, near {snippet!r}"
    if "'" in snippet and "double quotes" in error.msg:
        return f"{problem} (JSON wants \" where Python also takes ')"
    if _closes_after_comma(error.doc, error.pos):
        return f"{problem} (is there a comma too many?)"
    return problem


def _closes_after_comma(text: str, position: int) -> bool:
    """Whether a bracket or brace closes here after a comma; Python 3.13 points at the comma."""
    at_comma = text[position : position + 1] == ","
    start = position if at_comma else len(text[:position].rstrip()) - 1
    return re.compile(r",\s*[\]}]").match(text, max(0, start)) is not None
