"""Checks of values that come from outside: sizes, types, and how a message quotes them."""

from dataclasses import fields
from pathlib import Path

import psutil

from ch07.utils.errors import DataError

MAX_LISTED = 10  # findings or row numbers listed before "and so on"
# What a byte of JSON can become in memory, as measured: "{}," is three bytes, an empty dict 64, and
# one emoji makes four bytes of every letter of the text.
MEMORY_PER_JSON_BYTE = 40


MAX_CONFIG_BYTES = 5_000_000  # bytes: many times what a config.json or an index of weights has


def has_lone_surrogate(text):
    r"""Whether a text holds a lone surrogate, which no file in UTF-8 can have.

    >>> has_half_character("a\ud83d"), has_half_character("\U0001f600")
    (True, False)
    """
    return any("\ud800" <= letter <= "\udfff" for letter in text)


def check_field_types(kind, values):
    """TypeError unless each value is of the kind that this field of a dataclass has."""
    for field in fields(kind):
        value = values.get(field.name, field.default)
        if not isinstance(value, field.type | int if field.type is float else field.type):
            raise TypeError(f"the option {field.name} is {quoted(str(value))}")


def max_json_bytes():
    """Bytes of JSON that fit into the free memory, whatever they hold."""
    return psutil.virtual_memory().available // MEMORY_PER_JSON_BYTE


def check_size(path, largest=None):
    """DataError for what isn't a plain file of at most so many bytes (None: what fits into memory).

    What is read whole is looked at first: a stranger's folder may hold pipes, devices, or
    gigabytes. A file that isn't there is left to whoever opens it.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise DataError(f"{path} is no file")
    largest = max_json_bytes() if largest is None else largest
    if path.exists() and path.stat().st_size > largest:
        raise DataError(f"{path} is too large to be read: more than {largest / 1e6:,.0f} MB")


def quoted(text, most=60):
    """A file's own words in a message, in quotes; what is longer than a name is cut."""
    return repr(text if len(text) <= most else f"{text[:most]} ...")


def type_name(value):
    """What JSON calls the type of a value."""
    if isinstance(value, float) and value != value:
        return "NaN"
    names = {dict: "object", list: "list", bool: "boolean", type(None): "null", str: "text"}
    number = "number" if isinstance(value, int | float) else type(value).__name__
    return names.get(type(value), number)
