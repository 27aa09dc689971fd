"""Types and sizes of values that come from a stranger's file."""

from dataclasses import dataclass, field
from typing import Literal

import pytest

from ch07.utils.validation import check_field_types, quote, runtime_types


@dataclass
class Settings:
    rate: float = 0.1
    steps: int | None = None
    method: Literal["full", "lora"] = "full"
    history: list[dict[str, int]] = field(default_factory=list)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"rate": 1, "steps": None, "history": [{"step": 1}]},
        {"rate": 0.5, "steps": 3, "method": "lora", "history": []},
        {"unknown": object()},
    ],
)
def test_values_of_the_declared_types_pass(values):
    check_field_types(Settings, {"history": [], **values})


@pytest.mark.parametrize(
    ("name", "value"),
    [("rate", "0.1"), ("rate", None), ("steps", 1.5), ("method", 3), ("history", {})],
)
def test_a_value_of_another_type_is_named(name, value):
    with pytest.raises(TypeError, match=f"the option {name} is "):
        check_field_types(Settings, {"history": [], name: value})


def test_the_classes_of_an_annotation():
    assert runtime_types(int) == (int,)
    assert runtime_types(Literal["a", "b"]) == (str, str)
    assert set(runtime_types(dict[str, int] | float | None)) == {dict, float, int, type(None)}


def test_a_quoted_value_is_shortened():
    assert quote("a\n") == r"'a\n'"
    assert quote("x" * 61) == f"'{'x' * 60} ...'"
