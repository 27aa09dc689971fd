"""Settings have one home: the page, the flags and the checks all follow from `ch07/config.py`."""

import dataclasses
import math

import pytest

from ch07.commands.parser import make_parser
from ch07.commands.settings_page import PAGE, settings_page
from ch07.config import FinetuneOptions, PreferOptions, flag_of
from ch07.utils.errors import OptionError

ALL_FIELDS = [
    (config_class, field)
    for config_class in (FinetuneOptions, PreferOptions)
    for field in dataclasses.fields(config_class)
    if field.metadata
]
NUMBERS = [
    (c, f) for c, f in ALL_FIELDS if any(f.metadata[k] is not None for k in ("minimum", "above"))
]


def config_with(config_class, name, value):
    """A config with one setting given, and what that setting needs beside it."""
    given = {name: value}
    method = name.split("_")[0]
    if method in ("lora", "prefix"):  # an adapter needs a model that has been trained
        given.update(method=method, model="gpt2-small")
    if name in ("max_source_length", "max_target_length"):
        given["rows"] = "chatglm"
    if config_class is PreferOptions:
        given["model"] = "runs/1"
    return config_class(**given)


def name_of(case):
    return f"{case[0].__name__}.{case[1].name}"


def test_the_page_is_what_the_settings_say():
    assert PAGE.read_text(encoding="utf-8") == settings_page(), (
        "write it again: python -m ch07.commands.settings_page"
    )


@pytest.mark.parametrize("command", ["finetune", "pretrain", "doctor", "prefer"])
def test_a_command_has_a_flag_for_each_of_its_settings_and_for_no_other(command, capsys):
    with pytest.raises(SystemExit):
        make_parser().parse_args([command, "--help"])
    words = capsys.readouterr().out.replace("[", " ").replace("]", " ").split()
    config_class = PreferOptions if command == "prefer" else FinetuneOptions
    for field in dataclasses.fields(config_class):
        is_own = command in field.metadata.get("commands", ())
        by_hand = field.name == "data" and command in ("finetune", "doctor")
        assert (flag_of(field.name) in words) == (is_own or by_hand), field.name


@pytest.mark.parametrize("case", NUMBERS, ids=name_of)
def test_a_number_is_refused_outside_its_range_and_taken_at_its_limits(case):
    config_class, field = case
    low, above, high = (field.metadata[key] for key in ("minimum", "above", "maximum"))
    outside = [math.nan, math.inf, -1]
    if low is not None:
        assert getattr(config_with(config_class, field.name, low), field.name) == low
        outside.append(low - 1)
    if above is not None:
        outside.append(above)
    if high is not None:
        assert getattr(config_with(config_class, field.name, high), field.name) == high
        outside.append(high + 1)
    for value in outside:
        with pytest.raises(OptionError, match=f"^{field.name} is {value}, but must be "):
            config_with(config_class, field.name, value)


@pytest.mark.parametrize("case", [c for c in ALL_FIELDS if c[1].metadata["choices"]], ids=name_of)
def test_a_choice_that_is_not_offered_is_refused(case):
    config_class, field = case
    with pytest.raises(OptionError, match="'none of these'"):
        config_with(config_class, field.name, "none of these")


@pytest.mark.parametrize("case", ALL_FIELDS, ids=name_of)
def test_every_setting_has_a_help_without_its_default(case):
    _, field = case
    assert field.metadata["help"] and "(default" not in field.metadata["help"]
