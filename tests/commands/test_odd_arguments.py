"""Odd words on the command line: a sentence and an exit code, never a traceback or a hang.

The flags are those of the parsers themselves, so a new one is tried as well. All are parsed with
all values; the commands that take a moment are run with them, too.
"""

import argparse
import json
import os
import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest
from strangers import a_run

from ch07.commands.cli import main
from ch07.commands.parser import make_parser
from ch07.config import FinetuneOptions, PreferOptions
from ch07.utils.errors import OptionError

ODD_VALUES = [
    "", "--", "-", "-1", "0", "1e999", "nan", "inf", "x" * 5000, "9" * 5000, "a\0b", "a\nb",
    "\x1b[31m", "\U0001f600", "\udcff", "folder", "file/x", " ", "1_0", "\u0661", "true", "[]",
    "~", "*", "hf:", "toy:x", "%s", "{}",
]  # fmt: skip
# Never a path outside of the test's own folder, since a command may write there.
MAX_LINES = 6
MAX_CHARACTERS = 12_000  # a message may quote a path of 5,000 characters twice


def parsers():
    (commands,) = (
        action.choices
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    return commands


PARSERS = parsers()


def flags_with_values(name):
    return [a for a in PARSERS[name]._actions if a.option_strings and a.nargs != 0]


def ended(capsys, words):
    """The exit code of a command, after a look at what it printed."""
    try:
        code = main(words)
    except SystemExit as error:
        code = error.code
    error = capsys.readouterr().err
    assert code in (0, 1, 2), (words, code)
    assert "Traceback" not in error, (words, error)
    assert error.count("\n") <= MAX_LINES and len(error) < MAX_CHARACTERS, (words, error)
    assert all(c.isprintable() or c == "\n" for c in error), (words, error)
    return code


# --- parsed only --------------------------------------------------------------------------------
@pytest.mark.parametrize("name", PARSERS)
def test_every_flag_refuses_the_two_dashes(name, capsys):
    """`--out=--`, of which argparse makes an empty list."""
    parser = PARSERS[name]
    for action in flags_with_values(name):
        flag = action.option_strings[-1]
        with pytest.raises(SystemExit) as caught:
            parser.parse_args([f"{flag}=--"])
        assert caught.value.code == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and flag in error, error


@pytest.mark.parametrize("name", PARSERS)
def test_every_flag_and_argument_survives_odd_values(name, capsys):
    """Values that a parser takes are of the type that the flag has."""
    parser = PARSERS[name]
    kinds = {"finetune": FinetuneOptions, "pretrain": FinetuneOptions, "prefer": PreferOptions}
    for action in flags_with_values(name):
        flag = action.option_strings[-1]
        for value in ODD_VALUES:
            namespace = argparse.Namespace()
            try:  # without the required arguments, which is an error after the flag was parsed
                parser.parse_args([f"{flag}={value}"], namespace)
            except SystemExit as error:
                assert error.code == 2, (flag, value)
            given = {k: v for k, v in vars(namespace).items() if k == action.dest}
            if name in kinds and given:
                whole = {"model": "run", **given} if name == "prefer" else given
                options = {k: v for k, v in whole.items() if k not in ("like", "resume")}
                with suppress(OptionError):
                    kinds[name](**options)
    error = capsys.readouterr().err
    assert "Traceback" not in error
    assert all(len(line) < 2000 for line in error.splitlines())


@pytest.mark.parametrize(
    "words", [["grid", "a\0b"], ["export", "run", "a\0b"], ["check", "--start=\0"]]
)
def test_no_path_holds_nul(words, capsys):
    assert ended(capsys, words) == 2


# --- what a picture may replace -------------------------------------------------------------------
@pytest.mark.skipif(os.name != "posix", reason="pipes as POSIX has them")
@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a pipe", "below a file"])
def test_a_picture_replaces_no_device_and_no_folder(tmp_path, capsys, kind):
    """A pipe stands for a device: who draws to /dev/null as root must not lose it."""
    pipe, target = tmp_path / "pipe", tmp_path / "target"
    os.mkfifo(pipe)
    match kind:
        case "pipe":
            target = pipe
        case "folder":
            target.mkdir()
        case "link to a pipe":
            target.symlink_to(pipe)
        case "below a file":
            (tmp_path / "file").write_text("", encoding="utf-8")
            target = tmp_path / "file" / "x.png"
    before = {path: path.lstat().st_mode for path in tmp_path.iterdir()}
    assert main(["grid", "--rows", "1", "--png", str(target)]) == 2
    assert capsys.readouterr().err.startswith("error: ")
    assert {path: path.lstat().st_mode for path in tmp_path.iterdir()} == before


# --- run, in a folder of a few small files --------------------------------------------------------
ROWS = [{"instruction": "Name a colour.", "output": "Red"}, {"instruction": "Two?", "output": "2"}]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    a_run(folder / "run")
    (folder / "folder").mkdir()
    (folder / "file").write_text("", encoding="utf-8")
    (folder / "rows.json").write_text(json.dumps(ROWS), encoding="utf-8")
    return folder


# Commands that take a moment, as far as they go without a value to try.
CHEAP = {
    "grid": ["rows.json"],
    "prepare-data": ["rows.json", "new.jsonl"],
    "curate": ["rows.json", "new.json", "--keep", "1"],
    "compare": ["run", "run"],
    "check": [],
    "api-calls": ["run"],
    "respond": ["run", "Hi", "--max-new-tokens", "1"],
    "evaluate": ["run", "--data", "rows.json", "--max-new-tokens", "1"],
    "tokenize": ["rows.json", "store"],
    "export": ["run", "exported"],
    "self-instruct": ["--backend", "scripted:rows.json", "--out", "new.jsonl"],
}
SLOW_FLAGS = ("--device", "--judge", "--judge-model", "--timeout", "--seconds")
TRIED = 3  # odd values of each flag in one run of the suite


def cases():
    dice = random.Random(7)  # the same ones each time, so that a failure comes back
    for name, words in CHEAP.items():
        for action in flags_with_values(name):
            flag = action.option_strings[-1]
            if flag in SLOW_FLAGS or flag in words:
                continue
            for value in dice.sample(ODD_VALUES, TRIED):
                yield name, [*words, f"{flag}={value}"]
        for place in range(len(words)):
            if not words[place].startswith("--"):
                for value in dice.sample(ODD_VALUES, TRIED):
                    yield name, [*words[:place], value, *words[place + 1 :]]


@pytest.mark.parametrize("name", CHEAP)
def test_cheap_commands_survive_odd_values(name, made, tmp_path, monkeypatch, capsys):
    place = Path(shutil.copytree(made, tmp_path / "place"))
    monkeypatch.chdir(place)
    before = {path.name for path in place.iterdir()}
    for command, words in cases():
        if command == name:
            ended(capsys, [command, *words])
            for path in place.iterdir():
                if path.name not in before:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
