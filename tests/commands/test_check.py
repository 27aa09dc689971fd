"""`check 5`: an exercise by its number or name is the reader's file for it."""

import errno
import os
from contextlib import contextmanager
from pathlib import Path

import pytest

from ch07.commands.cli import main
from ch07.exercises.catalogue import exercises
from ch07.exercises.report import Report

STUB = "05_custom_collate_fn.py"


@pytest.fixture
def checked(monkeypatch, tmp_path):
    """The paths that are checked, in an empty folder; nothing is run."""
    monkeypatch.chdir(tmp_path)
    paths = []

    def check_file(path, seconds):
        paths.append(path)
        return [Report("custom_collate_fn", "passed")]

    monkeypatch.setattr("ch07.commands.check.check_file", check_file)
    return paths


@pytest.mark.parametrize("name", ["5", "custom_collate_fn"])
def test_an_exercise_is_checked_in_my_exercises_or_in_this_folder(checked, name, capsys):
    Path(STUB).touch()
    assert main(["check", name]) == 0
    assert main(["check", "--start", "my_exercises"]) == 0
    assert main(["check", name]) == 0
    assert checked == [Path(STUB), Path("my_exercises", STUB)]
    assert "1 right, 0 with a mistake, 0 not started." in capsys.readouterr().out


@pytest.mark.parametrize("name", ["5", "custom_collate_fn"])
def test_an_exercise_without_a_file_says_how_to_start_it(checked, name, capsys):
    assert main(["check", name]) == 1
    error = capsys.readouterr().err
    assert STUB in error and error.count("\n") == 1
    command = error.split(": ")[-1].split()
    assert command[:3] == ["python", "-m", "ch07"]
    assert main(command[3:]) == 0
    assert main(["check", name]) == 0 and checked == [Path("my_exercises", STUB)]


def test_every_exercise_is_found_by_number_and_by_name(checked):
    main(["check", "--start", "my_exercises"])
    for exercise in exercises():
        assert main(["check", str(exercise.number)]) == main(["check", exercise.name]) == 0
        assert checked[-2:] == [Path("my_exercises", exercise.stub)] * 2


def test_a_file_or_folder_of_that_name_comes_first(checked):
    main(["check", "--start", "my_exercises"])
    Path("5").touch()
    main(["check", "5"])
    assert checked == [Path("5")]


@pytest.mark.parametrize("name", ["99", "custom_collate", "no_such_folder"])
def test_what_is_no_exercise_is_said_in_one_line(checked, name, capsys):
    assert main(["check", name]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {name} is neither a file, nor a folder, nor an exercise")
    assert error.count("\n") == 1 and not checked


# --- the stubs appear whole or not at all -------------------------------------------------------


@contextmanager
def small_disk():
    """No file may have more than 100 bytes: the rest of a write fails, as on a full disk."""
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_no_half_stub(tmp_path, capsys):
    with small_disk():
        assert main(["check", "--start", str(tmp_path / "mine")]) == 1
    error = capsys.readouterr().err
    assert str(tmp_path / "mine" / exercises()[0].stub) in error and error.count("\n") == 1
    assert list((tmp_path / "mine").iterdir()) == []


def test_what_has_a_stubs_name_is_kept_even_if_it_appears_at_the_last_moment(
    tmp_path, monkeypatch, capsys
):
    first, second, third = (tmp_path / exercise.stub for exercise in exercises()[:3])
    first.write_text("mine", encoding="utf-8")
    second.symlink_to(tmp_path / "nowhere")
    link = os.link

    def late(source, target):
        if target == third:
            third.write_text("mine", encoding="utf-8")
        link(source, target)

    monkeypatch.setattr(os, "link", late)
    assert main(["check", "--start", str(tmp_path)]) == 0
    assert "(3 were there already and were not changed)" in capsys.readouterr().out
    assert first.read_text(encoding="utf-8") == third.read_text(encoding="utf-8") == "mine"
    assert second.is_symlink() and not (tmp_path / "nowhere").exists()
    assert len(list(tmp_path.iterdir())) == len(exercises())


def test_stubs_are_written_where_files_have_no_links(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    first, *others = exercises()
    (tmp_path / first.stub).symlink_to(tmp_path / "nowhere")
    assert main(["check", "--start", str(tmp_path)]) == 0
    assert (tmp_path / first.stub).is_symlink()
    for exercise in others:
        assert (tmp_path / exercise.stub).read_bytes() == exercise.stub_file.read_bytes()
    assert len(list(tmp_path.iterdir())) == len(exercises())
