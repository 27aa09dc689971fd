"""Checks of values that come from outside: limits, field types, and how messages quote them."""

import types
import typing
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from ch07.utils.memory import free_memory

MAX_LISTED = 10  # findings or row numbers listed before "and so on"
MAX_QUOTED_CHARACTERS = 60  # of a value quoted in a message
MAX_CONFIG_BYTES = 5_000_000  # many times the size of any config.json or index of weights
# How many bytes of memory one byte of JSON can need, as measured: "{}," is three bytes and an empty
# dict 64, and a single emoji makes Python store every letter of its text in four bytes.
MEMORY_PER_JSON_BYTE = 40


def has_lone_surrogate(text: str) -> bool:
    r"""Whether a text holds a lone surrogate, which a UTF-8 file can't hold.

    >>> has_lone_surrogate("a\ud83d"), has_lone_surrogate("\U0001f600")
    (True, False)
    """
    return not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text)


def runtime_types(annotation: Any) -> tuple[type, ...]:
    """The classes that values of a field with this annotation have; a float may be a whole number.

    >>> runtime_types(float), runtime_types(list[dict] | None)
    ((<class 'float'>, <class 'int'>), (<class 'list'>, <class 'NoneType'>))
    """
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        members = [runtime_types(member) for member in typing.get_args(annotation)]
        return tuple(kind for member in members for kind in member)
    if origin is typing.Literal:
        return tuple(type(choice) for choice in typing.get_args(annotation))
    if annotation is float:
        return (float, int)
    return (origin or annotation,)


def check_field_types(dataclass_type: type, values: Mapping[str, Any]) -> None:
    """TypeError unless each value has the type that this dataclass declares for its field."""
    annotations = typing.get_type_hints(dataclass_type)
    for field in fields(dataclass_type):
        value = values.get(field.name, field.default)
        is_valid = type(value) in runtime_types(annotations[field.name])  # True is no number
        if isinstance(value, list) and list[str] in typing.get_args(annotations[field.name]):
            is_valid = bool(value) and all(isinstance(item, str) for item in value)
        if not is_valid:
            raise TypeError(f"the option {field.name} is {quote(str(value))}")


def max_json_bytes() -> int:
    """The size in bytes of the largest JSON text that fits into the free memory when parsed."""
    return free_memory() // MEMORY_PER_JSON_BYTE


def quote(text: str, max_characters: int = MAX_QUOTED_CHARACTERS) -> str:
    """A value from a file as a message shows it: in quotes, and shortened if it is long."""
    return repr(text if len(text) <= max_characters else f"{text[:max_characters]} ...")


def type_name(value: Any) -> str:
    """What JSON calls the type of a value."""
    if isinstance(value, float) and value != value:
        return "NaN"
    if isinstance(value, dict):
        return "object"
    names = {list: "list", bool: "boolean", type(None): "null", str: "text"}
    number = "number" if isinstance(value, int | float) else type(value).__name__
    return names.get(type(value), number)


def a_type(value: Any) -> str:
    """The same with its article.

    >>> a_type({}), a_type([])
    ('an object', 'a list')
    """
    name = type_name(value)
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"
