"""New files and folders: nothing that exists is replaced, and nothing half-written is left."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ch07.commands.cli import main
from ch07.utils import publication
from ch07.utils.atomic_files import write_bytes, write_jsonl
from ch07.utils.errors import OptionError
from ch07.utils.paths import check_new_file
from ch07.utils.publication import (
    atomic_write,
    empty_after_kill,
    filled_folder,
    leftovers,
    new_folder,
    publish,
    temporary_path,
)

ROOT = Path(__file__).resolve().parents[2]
DEAD = 999_999_999  # no process has this number
IN_THE_MEANTIME = "written by something else in the meantime, and was left as it is"


def refuse_links(monkeypatch):
    """As on FAT, where a file has one name."""

    def link(source, target):
        raise OSError(errno.EPERM, "Operation not permitted", str(source))

    monkeypatch.setattr(os, "link", link)


@pytest.mark.parametrize("links", [True, False])
def test_what_appears_while_a_file_is_written_stays(tmp_path, monkeypatch, links):
    if not links:
        refuse_links(monkeypatch)
    path = tmp_path / "new.jsonl"

    def rows():
        yield {"row": 1}
        path.write_text("precious", encoding="utf-8")

    with pytest.raises(OptionError, match=IN_THE_MEANTIME):
        write_jsonl(path, rows(), new=True)
    assert path.read_text(encoding="utf-8") == "precious"
    assert [file.name for file in tmp_path.iterdir()] == ["new.jsonl"]
    path.unlink()
    write_bytes(path, b"new", new=True)
    assert path.read_bytes() == b"new" and len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", ["file", "folder", "link", "dangling", "fifo", "device"])
def test_whatever_has_the_name_stays(tmp_path, kind):
    path = tmp_path / "taken"
    if kind == "file":
        path.write_bytes(b"old")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        target = {"link": __file__, "dangling": "nowhere", "device": os.devnull}[kind]
        path.symlink_to(target)
    before = path.lstat()
    with pytest.raises(OptionError, match="exists: choose another name for --out"):
        check_new_file(path, "--out")
    temporary = temporary_path(path)
    temporary.write_bytes(b"new")
    with pytest.raises(OptionError, match=IN_THE_MEANTIME):
        publish(temporary, path)
    assert path.lstat() == before


def test_an_empty_name_is_called_empty():
    with pytest.raises(OptionError, match="--out is empty: give the name of a new file"):
        check_new_file("", "--out")


COMMANDS = {  # each with the place of the new file
    "grid": ["grid", "--rows", "1", "--png", "NEW"],
    "prepare-data": ["prepare-data", "DATA", "NEW"],
    "curate": ["curate", "DATA", "NEW", "--keep", "2"],
    "doctor": ["doctor", "DATA", "--write-clean", "NEW"],
    "api-calls": ["api-calls", "--write", "NEW"],
}


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "data.json"
    rows = [
        {"instruction": f"Name number {i}.", "input": "", "output": f"It is {i}."}
        for i in range(12)
    ]
    path.write_text(json.dumps(rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_replaces_what_exists_or_appears(command, data, tmp_path, monkeypatch, capsys):
    target = tmp_path / "new.jsonl"
    words = [{"NEW": str(target), "DATA": str(data)}.get(word, word) for word in COMMANDS[command]]
    target.write_bytes(b"precious")
    assert main(words) == 2
    assert "exists: choose another name" in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    target.unlink()

    def appears(temporary, path):
        path.write_bytes(b"precious")
        publish(temporary, path)

    monkeypatch.setattr("ch07.utils.publication.publish", appears)
    assert main(words) == 2
    assert IN_THE_MEANTIME in capsys.readouterr().err
    assert target.read_bytes() == b"precious"
    assert {file.name for file in tmp_path.iterdir()} == {"data.json", "new.jsonl"}


def test_of_several_that_write_one_name_exactly_one_succeeds(tmp_path):
    """All start from nothing; whoever comes later says so and changes nothing."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ch07.utils.publication import publish, temporary_path\n"
        "path = Path(sys.argv[1])\n"
        "temporary = temporary_path(path)\n"
        "temporary.write_bytes(sys.argv[2].encode() * 10**6)\n"
        "(path.parent / sys.argv[2]).touch()\n"
        "while len(list(path.parent.glob('[a-d]'))) < 4: pass\n"
        "publish(temporary, path)"
    )
    path = tmp_path / "new"
    writers = {
        name: subprocess.Popen(
            [sys.executable, "-c", program, str(path), name],
            cwd=ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in "abcd"
    }
    said = [writer.communicate()[1] for writer in writers.values()]
    (won,) = (name for name, writer in writers.items() if not writer.returncode)
    assert path.read_bytes() == won.encode() * 10**6
    assert sum(IN_THE_MEANTIME in text for text in said) == 3


def test_a_full_disk_is_reported_with_the_file_that_was_asked_for(tmp_path):
    path = tmp_path / "new"
    with pytest.raises(OSError, match=r"No space left on device: '.*/new'"), atomic_write(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/missing/new'"):
        write_bytes(tmp_path / "missing" / "new", b"")
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_write(path):
        (tmp_path / "elsewhere").read_bytes()  # an input: it is named, not the output
    assert list(tmp_path.iterdir()) == []


# --- what a killed process left -------------------------------------------------------------------
def test_leftovers_are_those_of_this_name_and_of_processes_that_ended(tmp_path):
    path = tmp_path / "a[1].json"
    ours = [tmp_path / f".a[1].json.{DEAD}.new"]
    others = [
        tmp_path / f".a1.json.{DEAD}.new",  # what a pattern would take for the same
        tmp_path / f".a[1].json.{os.getppid()}.new",
        tmp_path / ".a[1].json.notes.new",
        tmp_path / f"a[1].json.{DEAD}.new",
    ]
    for file in (*ours, *others):
        file.write_bytes(b"")
    assert leftovers(path) == ours
    write_bytes(path, b"new", new=True)
    assert sorted(tmp_path.iterdir()) == sorted([path, *others])


def test_a_folder_is_complete_or_absent(tmp_path):
    path = tmp_path / "new"
    (tmp_path / f".new.{DEAD}.new").mkdir()
    with pytest.raises(KeyError), new_folder(path) as temporary:
        (temporary / "half").write_bytes(b"1")
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with new_folder(path) as temporary:
        (temporary / "whole").write_bytes(b"2")
    assert [file.name for file in path.iterdir()] == ["whole"]
    with pytest.raises(OSError, match=r"not empty|exist"), new_folder(path) as temporary:
        (temporary / "other").write_bytes(b"3")
    assert [file.name for file in tmp_path.rglob("*")] == ["new", "whole"]


def fill(folder):
    with filled_folder(folder, "config.json") as temporary:
        (temporary / "inner").mkdir()
        for name in ("config.json", "weights", "inner/more"):
            (temporary / name).write_text(name, encoding="utf-8")


@pytest.mark.parametrize("n_published", range(4))
def test_an_existing_folder_is_emptied_of_what_a_killed_command_left(
    tmp_path, monkeypatch, n_published
):
    """Killed after each of its steps; what somebody else put there since then stays."""
    names = []

    def killed(temporary, path):
        if len(names) == n_published:
            os._exit(9)
        names.append(path.name)
        publish(temporary, path)

    monkeypatch.setattr(publication, "publish", killed)
    child = os.fork()
    if child == 0:
        fill(tmp_path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == (9 if n_published < 3 else 0)
    monkeypatch.undo()
    if n_published == 3:
        assert (tmp_path / "config.json").exists()
        return
    assert any(tmp_path.iterdir()) and not (tmp_path / "config.json").exists()
    notes = tmp_path / "weights.txt"
    notes.write_text("precious", encoding="utf-8")
    empty_after_kill(tmp_path)
    assert list(tmp_path.iterdir()) == [notes]
    notes.unlink()
    fill(tmp_path)
    found = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*"))
    assert found == ["config.json", "inner", "inner/more", "weights"]


def test_a_file_that_appears_in_the_folder_stays_and_the_rest_is_taken_back(tmp_path):
    refused = pytest.raises(OptionError, match=IN_THE_MEANTIME)
    with refused, filled_folder(tmp_path, "config.json") as temporary:
        for name in ("a", "b", "config.json"):
            (temporary / name).write_text(name, encoding="utf-8")
        (tmp_path / "b").write_text("precious", encoding="utf-8")
    assert [file.name for file in tmp_path.iterdir()] == ["b"]
    assert (tmp_path / "b").read_text(encoding="utf-8") == "precious"
