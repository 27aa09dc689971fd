"""`check --watch` looks at what files contain, however an editor writes them."""

import os
from datetime import datetime
from pathlib import Path

import pytest

from ch07.commands import check_watch
from ch07.commands.check_watch import watch_files
from ch07.commands.cli import main
from ch07.exercises import saved_files as saved_files_module
from ch07.exercises.report import Report
from ch07.exercises.report_summary import difference
from ch07.exercises.saved_files import PATIENCE, saved_files
from ch07.utils.errors import InputError


class Typist:
    """Does one thing at each look, in the place of waiting, and presses Ctrl-C at the end."""

    def __init__(self, *actions):
        self.actions = list(actions)

    def __call__(self, seconds):
        if not self.actions:
            raise KeyboardInterrupt
        action = self.actions.pop(0)
        if action is not None:
            action()


def write(path, text):
    return lambda: path.write_text(text, encoding="utf-8")


def rename_over(path, text):
    def save():
        new = path.with_name("new.tmp")
        new.write_text(text, encoding="utf-8")
        os.replace(new, path)

    return save


QUIET = [None] * 3  # looks at which nothing happens


def events(path, *actions):
    """What is reported until the end: (names to check, names gone) each."""
    found = []
    with pytest.raises(KeyboardInterrupt):
        for saved in saved_files(path, Typist(*actions, *QUIET)):
            found.append(([f.name for f in saved.to_check], [f.name for f in saved.gone]))
    return found


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("x = 1\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("save", [write, rename_over])
def test_each_save_is_one_event(mine, save):
    first = (["mine.py"], [])
    assert events(mine) == [first]
    assert events(mine, save(mine, "x = 2\n"), *QUIET, save(mine, "x = 3\n")) == [first] * 3


def test_a_save_that_changes_nothing_is_no_event(mine):
    assert events(mine, write(mine, "x = 1\n"), *QUIET, mine.touch) == [(["mine.py"], [])]


def test_a_change_of_the_same_size_and_time_is_an_event(mine):
    before = mine.stat()

    def save():
        mine.write_text("x = 9\n", encoding="utf-8")
        os.utime(mine, ns=(before.st_atime_ns, before.st_mtime_ns))

    assert len(events(mine, save)) == 2


def test_a_file_is_waited_for_while_it_is_written(mine):
    """Emptied, written in pieces, and absent between being deleted and renamed: one event."""
    pieces = [write(mine, ""), None, None, write(mine, "x ="), write(mine, "x = 2"), None]
    assert len(events(mine, *pieces)) == 2
    away = [mine.unlink, None, None, None, write(mine, "x = 3\n")]
    assert len(events(mine, *away)) == 2
    assert len(events(mine, mine.unlink, None, None, write(mine, "x = 3\n"))) == 1


def test_a_file_that_stays_away_or_empty_is_said_once_and_checked_once_it_is_back(mine):
    long = [None] * (PATIENCE + 5)
    assert events(mine, mine.unlink, *long, write(mine, "x = 2\n")) == [
        (["mine.py"], []),
        ([], ["mine.py"]),
        (["mine.py"], []),
    ]
    assert len(events(mine, write(mine, ""), *long)) == 2


def test_a_file_that_is_too_large_is_there_and_checked(mine, monkeypatch):
    monkeypatch.setattr(saved_files_module, "MAX_FILE_BYTES", 3)
    assert events(mine) == [(["mine.py"], [])]


def test_in_a_folder_only_what_changed_and_what_imports_it_is_checked(tmp_path):
    texts = {"a": "", "b": "import helper", "c": "from b import x", "helper": "x = 1", "d": "("}
    for name, text in texts.items():
        write(tmp_path / f"{name}.py", f"{text}\n")()
    everything = (["a.py", "b.py", "c.py", "d.py", "helper.py"], [])
    changes = [
        write(tmp_path / "a.py", "x = 2\n"),
        *QUIET,
        write(tmp_path / "helper.py", "x = 2\n"),
        *QUIET,
        write(tmp_path / "new.py", "x = 2\n"),
        *QUIET,
        (tmp_path / "helper.py").unlink,
        *[None] * (PATIENCE + 5),
    ]
    assert events(tmp_path, *changes) == [
        everything,
        (["a.py"], []),
        (["b.py", "c.py", "helper.py"], []),
        (["new.py"], []),
        (["b.py", "c.py"], ["helper.py"]),
    ]


def test_one_file_is_checked_again_if_one_that_it_imports_is_saved(mine, tmp_path):
    write(tmp_path / "helper.py", "y = 1\n")()
    write(tmp_path / "other.py", "y = 1\n")()
    mine.write_text("from helper import y\n", encoding="utf-8")
    first = (["mine.py"], [])
    assert events(mine, write(tmp_path / "other.py", "y = 2\n")) == [first]
    assert events(mine, write(tmp_path / "helper.py", "y = 2\n")) == [first, first]


@pytest.mark.parametrize("text", ["x = 1\n", "from helper import\n"])
def test_a_helper_that_is_imported_no_more_is_not_gone(mine, tmp_path, text):
    write(tmp_path / "helper.py", "y = 1\n")()
    mine.write_text("from helper import y\n", encoding="utf-8")
    assert events(mine, write(mine, text), *[None] * (PATIENCE + 5)) == [(["mine.py"], [])] * 2


# --- the command --------------------------------------------------------------------------------


class FakeSandbox:
    """Believes what a file says about itself: "name diagnosis", or "name ok"."""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def check_file(self, path, seconds):
        words = path.read_text(encoding="utf-8").split()
        if not words:
            raise InputError(f"{path} defines none")
        name, diagnosis = words
        status = "passed" if diagnosis == "ok" else "mistake"
        return [Report(name, status, "" if diagnosis == "ok" else diagnosis)]


@pytest.fixture
def watched(monkeypatch, capsys):
    """Watch a path while a typist works; returns the exit code and the lines printed."""
    monkeypatch.setattr(check_watch, "open_sandbox", FakeSandbox)

    def watch(path, *actions):
        typist = Typist(*actions, *QUIET)
        code = watch_files(path, 1.0, typist, lambda: datetime(2026, 1, 2, 3, 4, 5))
        return code, capsys.readouterr().out.splitlines()

    return watch


def test_each_check_shows_its_time_and_what_it_changed(watched, tmp_path):
    for name, state in [("a", "ok"), ("b", "no-shift"), ("c", "pad-left")]:
        write(tmp_path / f"{name}.py", f"{name} {state}")()
    code, lines = watched(tmp_path, write(tmp_path / "b.py", "b ok"))
    assert code == 0 and lines[-1] == "No longer watching."
    assert [line for line in lines if line.startswith("---")] == [
        "--- 03:04:05  3 files",
        "--- 03:04:05  b.py",
    ]
    assert "2 of 3 now pass (1 before). b: no-shift -> right" in lines
    assert "\x1b" not in "".join(lines)


def test_a_file_that_has_no_exercise_for_now_does_not_end_the_watch(watched, tmp_path):
    path = tmp_path / "a.py"
    write(path, "a ok")()
    long = [None] * (PATIENCE + 5)
    away = [path.unlink, *long, write(path, "a pad-left")]
    code, lines = watched(path, write(path, ""), *long, write(path, "a ok"), *QUIET, *away)
    assert code == 0
    assert any(line.startswith("skipped: ") for line in lines)
    assert "a.py is gone." in lines
    assert "0 right, 1 with a mistake, 0 not started." in lines


def test_a_terminal_is_cleared_and_nothing_else(watched, tmp_path, monkeypatch):
    write(tmp_path / "a.py", "a ok")()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    _, lines = watched(tmp_path)
    assert lines[0].startswith(check_watch.CLEAR_SCREEN)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nothing.py"], "nothing.py does not exist"),
        (["."], "contains no Python file"),
        ([], "neither a file, nor a folder"),
        (["book.ipynb"], "is a notebook"),
        (["nothing.py", "--json"], "leave one of them out"),
    ],
)
def test_what_can_not_be_watched_is_said_at_once(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    Path("book.ipynb").touch()
    assert main(["check", *arguments, "--watch"]) in (1, 2)
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1


def test_a_difference_names_the_first_change_and_counts_the_rest():
    wrong = Report("a", "mistake", "no-shift")
    assert difference([wrong], [wrong]) == "0 of 1 pass, as before."
    before = [wrong, Report("b", "not started"), Report("c", "passed")]
    after = [Report("a", "passed"), Report("b", "mistake", "nan")]
    said = "1 of 2 passes, as before. a: no-shift -> right (and 2 more)"
    assert difference(before, after) == said
