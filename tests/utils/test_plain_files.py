"""Where a file of a run is expected, nothing else is waited for or read whole."""

import os
import shutil
import threading

import pytest

from ch07.commands.cli import main
from ch07.utils import plain_files
from ch07.utils.atomic_files import read_json, read_tensors, sha256_of
from ch07.utils.errors import DataError
from ch07.utils.plain_files import open_plain, read_plain

READERS = [open_plain, read_plain, read_json, read_tensors, sha256_of]


def put(kind, path):
    """Something at `path` that is no plain file of a few bytes."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        with open(path, "wb") as file:
            file.truncate(1 << 40)
    else:
        path.symlink_to({"zeros": "/dev/zero", "nothing": "/dev/null"}[kind])


@pytest.mark.parametrize("kind", ["pipe", "folder", "zeros", "nothing"])
@pytest.mark.parametrize("read", READERS)
def test_only_regular_files_are_read(tmp_path, read, kind):
    put(kind, tmp_path / "file")
    with pytest.raises(DataError, match=r"is not a regular file|is a folder, but must be a file"):
        read(tmp_path / "file")
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "missing")


def test_a_file_is_read_up_to_its_limit(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"[1, 2, 34]")
    assert read_plain(path, 10) == b"[1, 2, 34]" and read_json(path, 10) == [1, 2, 34]
    for read in (read_plain, read_json):
        with pytest.raises(DataError, match="file is too large to be read: more than 0 MB"):
            read(path, 9)
    put("sparse", path)
    for read in (read_plain, read_json, read_tensors):
        with pytest.raises(DataError, match="is too large to be read"):
            read(path)


def test_a_file_that_grows_while_it_is_read_is_read_to_where_it_ended(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"[1]")
    checked = plain_files._checked_size

    def grow(file, *given):
        size = checked(file, *given)
        with open(path, "ab") as other:
            other.write(b"x" * 100)
        return size

    monkeypatch.setattr(plain_files, "_checked_size", grow)
    assert read_plain(path) == b"[1]"


# --- every command ------------------------------------------------------------------------------
FILES_OF_A_RUN = {  # each with commands that read it
    "config.json": [["respond", "RUN", "Hi"], ["compare", "RUN", "RUN"], ["grid", "--run", "RUN"]],
    "model.safetensors": [["respond", "RUN", "Hi"], ["export", "RUN", "OUT"]],
    "metrics.jsonl": [["compare", "RUN", "RUN"]],
    "responses.json": [["evaluate", "RUN"], ["compare", "RUN", "RUN"], ["export", "RUN", "OUT"]],
    "scores.json": [["export", "RUN", "OUT"]],
}


def in_time(words):
    """[exit code] of a command, which must not hang."""
    done = []
    worker = threading.Thread(target=lambda: done.append(main(words)), daemon=True)
    worker.start()
    worker.join(120)
    assert done, f"{words} hangs"
    return done


@pytest.mark.parametrize("kind", ["pipe", "zeros", "sparse"])
@pytest.mark.parametrize("name", FILES_OF_A_RUN)
def test_a_run_with_something_else_in_it_is_refused_at_once(run, tmp_path, capsys, name, kind):
    strange = tmp_path / "run"
    shutil.copytree(run, strange)
    put(kind, strange / name)
    for command in FILES_OF_A_RUN[name]:
        words = [{"RUN": str(strange), "OUT": str(tmp_path / "out")}.get(w, w) for w in command]
        done = in_time(words)
        said = capsys.readouterr().err
        if done == [0]:  # a card without scores, for instance
            assert name in ("scores.json", "responses.json"), said
        else:
            assert done == [1] and said.count("\n") == 1 and said.startswith("error: "), said
