"""The workshop's plans add up, and what they name exists."""

import re
import shlex
from pathlib import Path

import pytest

from ch07.commands.parser import make_parser
from ch07.exercises.catalogue import exercises

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docs" / "guides" / "workshop.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("minutes", [45, 90])
def test_the_minutes_of_a_plan_are_those_of_its_title(minutes):
    plan = re.search(rf"## {minutes} minutes:.*?(?=\n## )", TEXT, flags=re.S).group()
    assert sum(map(int, re.findall(r"^\| (\d+) \|", plan, flags=re.M))) == minutes


def test_commands_parse():
    commands = re.findall(r"`(python -m ch07[^`]*)`", TEXT)
    commands += re.findall(r"^\S*python (-m ch07.*)$", TEXT, flags=re.M)
    assert len(commands) >= 8
    for command in commands:
        words = shlex.split(command.removeprefix("python "))[2:]
        if not words or words[0].startswith("-"):
            words.insert(0, "finetune")
        make_parser().parse_args(words)


def test_exercises_notebooks_and_puzzles_it_names_exist():
    for number in re.findall(r"[Nn]otebooks? (\d)", TEXT):
        assert list((ROOT / "notebooks").glob(f"0{number}_*.ipynb"))
    numbered = re.findall(r"exercises? (\d+(?:(?:,| to| and) \d+)*)", TEXT)
    numbers = [int(number) for some in numbered for number in re.findall(r"\d+", some)]
    assert len(numbers) >= 8 and max(numbers) <= len(exercises())
    seventh = next((ROOT / "notebooks").glob("07*")).read_text(encoding="utf-8")
    for number in re.findall(r"\d", " ".join(re.findall(r"[Pp]uzzles? (\d[^|);.]*)", TEXT))):
        assert f"### Puzzle {number}" in seventh
    names = re.findall(r"`(custom_[a-z_0-9]+)`", TEXT)
    assert names and set(names) <= {exercise.name for exercise in exercises()}


def test_headings_of_notebooks_that_it_quotes_are_there():
    second = next((ROOT / "notebooks").glob("02*")).read_text(encoding="utf-8")
    assert "## Why exactly one end" in second and "Why exactly one end" in TEXT
