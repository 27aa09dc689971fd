"""Commands work in a container without a home or a name for the user, and say it of a lost folder.

Each test runs one process of its own, since matplotlib and tiktoken look once, when imported.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NOBODY = """
import os, pwd, sys

def no_such_user(number):
    raise KeyError(number)

pwd.getpwuid = no_such_user
from ch07.commands.cli import main
sys.exit(main(sys.argv[1:]))
"""


def run(program, *words, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        encoding="utf-8",
        timeout=200,
    )


@pytest.mark.skipif(os.name != "posix", reason="users as POSIX has them")
@pytest.mark.parametrize("home", [None, "missing", "a file"])
def test_a_picture_without_home_user_or_window(tmp_path, home):
    """And nothing is left in the folder for temporary files."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    (tmp_path / "file").write_text("", encoding="utf-8")
    homes = {"missing": tmp_path / "missing" / "x", "a file": tmp_path / "file"}
    environment = {"HOME": str(homes[home])} if home else {}
    done = run(
        *(NOBODY, "grid", "--rows", "1", "--png", "x.png"),
        cwd=tmp_path,
        TMPDIR=str(temporary),
        MPLBACKEND="nonsense",
        **environment,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert not any(temporary.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="Windows keeps a folder that is in use")
@pytest.mark.parametrize("words", [["grid"], ["compare", "a", "b"], ["finetune"]])
def test_a_working_folder_that_was_deleted(tmp_path, words):
    lost = "import os\nos.mkdir('lost')\nos.chdir('lost')\nos.rmdir('../lost')\n"
    done = run(lost + NOBODY, *words, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr == (
        "error: the current folder no longer exists: change to one that does, with cd\n"
    )
