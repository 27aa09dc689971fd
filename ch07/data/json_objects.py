"""JSON objects that remember a key which appears twice: Python's dicts would keep one value unsaid.

The one idea: such an object is a dict of its own type, so whoever reads a row can refuse it.
"""

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any


class ObjectWithRepeatedKey(dict[str, Any]):
    """A JSON object in which a key appears twice; it holds the last value."""

    repeated_key: str = ""


def _mark_repeated_key(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) == len(pairs):
        return row
    counts = Counter(key for key, _ in pairs)
    return _marked(row, next(key for key, n in counts.items() if n > 1))


def _marked(row: dict[str, Any], key: str) -> ObjectWithRepeatedKey:
    marked = ObjectWithRepeatedKey(row)
    marked.repeated_key = key
    return marked


DECODER = json.JSONDecoder(object_pairs_hook=_mark_repeated_key)


def merged(*rows: Mapping[str, Any]) -> dict[str, Any]:
    """One object of several, the later values counting; marked if one of them is."""
    result: dict[str, Any] = {}
    for row in rows:
        result.update(row)
    for row in rows:
        if isinstance(row, ObjectWithRepeatedKey):
            return _marked(result, row.repeated_key)
    return result


def repeated_key_in(value: Any) -> str | None:
    """A key that appears twice in an object somewhere within a value."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, ObjectWithRepeatedKey):
            return part.repeated_key
        if isinstance(part, dict):
            pending += part.values()
        elif isinstance(part, list):
            pending += part
    return None
