"""`make room`: what the folder holds is all that a classroom without a network needs."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tools import make_room

ROOT = Path(__file__).resolve().parent.parent
NO_NETWORK = ROOT / "tests" / "no_network"
POSIX = pytest.mark.skipif(os.name != "posix", reason="runs the script for Linux and macOS")


def write_wheel(folder, name, version="1.0", requires=(), tag="py3-none-any"):
    """A package of one module, which has nothing in it."""
    path = folder / f"{name}-{version}-{tag}.whl"
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    metadata += [f"Requires-Dist: {requirement}" for requirement in requires]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{info}/METADATA", "\n".join(metadata) + "\n")
        archive.writestr(
            f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n"
        )
        archive.writestr(f"{info}/RECORD", "")


@pytest.fixture
def small_project(tmp_path, monkeypatch):
    """A project of one command, and a folder of wheels in the place of PyPI."""
    pypi = tmp_path / "pypi"
    pypi.mkdir()
    write_wheel(pypi, "torch", "2.0+cpu")
    write_wheel(pypi, "torch", "2.0+cpu", tag="cp311-cp311-win_amd64")
    write_wheel(pypi, "plain", requires=["coloured; platform_system == 'Windows'", "deep"])
    write_wheel(pypi, "deep")
    write_wheel(pypi, "coloured", requires=["deeper; sys_platform == 'win32'"])
    write_wheel(pypi, "deeper")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(pypi))
    project = tmp_path / "project"
    (project / "ch07").mkdir(parents=True)
    (project / "requirements.txt").write_text("torch==2.0  # why\nplain\n", encoding="utf-8")
    command = "import sys, torch, plain, deep\nprint('READY', *sys.argv[1:])\n"
    (project / "ch07" / "__main__.py").write_text(command, encoding="utf-8")
    (project / ".gitignore").write_text("secret\n", encoding="utf-8")
    (project / "secret").write_text("mine", encoding="utf-8")
    subprocess.run(["git", "init", "--quiet"], cwd=project, check=True)
    monkeypatch.setattr(make_room, "PROJECT", project)
    monkeypatch.setattr(make_room, "BOOK", project / "build" / "book")
    return project


def offline(tmp_path):
    """An environment in which Python refuses every connection, and pip knows nothing of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    return {
        **kept,
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_CACHE_DIR": str(tmp_path / "empty cache"),
        "PYTHONPATH": str(NO_NETWORK),
        "PYTHON": sys.executable,
        "HOME": str(tmp_path / "home"),
        "OMP_NUM_THREADS": "1",
    }


def install(room, target, tmp_path):
    """Run the room's own script."""
    return subprocess.run(
        ["sh", room / "install.sh", target],
        cwd=tmp_path,
        env=offline(tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )


@POSIX
@pytest.mark.slow
def test_a_small_room_is_complete_and_installs_without_a_network(small_project, tmp_path, capsys):
    """Takes 10 seconds: several calls of pip, and a virtual environment."""
    room = tmp_path / "a room"
    assert make_room.main(["--out", str(room), "--no-notebooks"]) == 0, capsys.readouterr().err
    assert "is complete: 3 wheels" in capsys.readouterr().out
    assert not (room / "project" / "secret").exists() and not (room / "book").exists()
    target = tmp_path / "my class"
    done = install(room, target, tmp_path)
    assert done.returncode == 0 and "READY doctor" in done.stdout, done.stderr
    assert (target / ".venv" / "pyvenv.cfg").is_file()
    done = install(room, target, tmp_path)
    assert done.returncode == 1 and "is there already" in done.stderr
    (room / "wheels" / "deep-1.0-py3-none-any.whl").write_bytes(b"damaged")
    (room / "project" / "requirements.txt").unlink()
    done = install(room, tmp_path / "other", tmp_path)
    assert done.returncode == 1 and not (tmp_path / "other").exists()
    assert "damaged: wheels/deep-1.0-py3-none-any.whl" in done.stdout
    assert "missing: project/requirements.txt" in done.stdout


@pytest.mark.slow
def test_a_room_is_made_again_with_a_book_and_for_another_system(small_project, tmp_path, capsys):
    """What Windows alone requires is there, though pip does not look for it on this system."""
    room = small_project / "my room"  # among the project's files, and not one of them
    book = small_project / "build" / "book"
    book.mkdir(parents=True)
    (book / "index.html").write_text("<title>Book</title>", encoding="utf-8")
    assert make_room.main(["--out", str(room), "--no-notebooks"]) == 0, capsys.readouterr().err
    arguments = ["--out", str(room), "--no-notebooks", "--platforms", "win_amd64"]
    assert make_room.main(arguments) == 0, capsys.readouterr().err
    names = {path.name.split("-")[0] for path in (room / "wheels").iterdir()}
    assert names == {"torch", "plain", "deep", "coloured", "deeper"}
    assert (room / "book" / "index.html").is_file()
    assert not list((room / "project").rglob("wheels"))
    listed = (room / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    files = {str(path.relative_to(room)) for path in room.rglob("*") if path.is_file()}
    assert {line.split("  ", 1)[1] for line in listed} == files - {"SHA256SUMS"}
    assert not list(small_project.glob(".*.new"))


def test_a_room_that_lacks_a_package_is_not_made(small_project, tmp_path, capsys):
    (small_project / "requirements.txt").write_text("torch==2.0\nnowhere\n", encoding="utf-8")
    assert make_room.main(["--out", str(tmp_path / "room"), "--no-notebooks"]) == 1
    error = capsys.readouterr().err
    assert "nowhere" in error and "error: pip could not do its part" in error
    assert not (tmp_path / "room").exists()


def test_what_is_no_room_is_left_alone(small_project, tmp_path, capsys):
    mine = tmp_path / "room" / "mine"
    mine.mkdir(parents=True)
    assert make_room.main(["--out", str(mine.parent)]) == 1
    assert "is no room" in capsys.readouterr().err and mine.is_dir()


def test_a_platform_that_pip_does_not_have_is_refused(tmp_path):
    with pytest.raises(make_room.RoomError, match="amiga is no platform"):
        make_room.fetch_for_platform(tmp_path, [], [], "amiga")


@pytest.mark.parametrize("smollm2", [False, True])
def test_texts_have_no_gaps_and_name_the_real_model_only_if_it_is_there(tmp_path, smollm2):
    make_room.write_texts(tmp_path, notebooks=True, smollm2=smollm2)
    for template in make_room.TEMPLATES.iterdir():
        text = (tmp_path / template.name).read_text(encoding="utf-8")
        assert not re.search(r"@[A-Z]", text), template.name
        if template.name != "check_room.py":
            assert ("requirements-smollm2.txt" in text) == smollm2
            assert "-r requirements.txt jupyterlab" in text


@POSIX
@pytest.mark.skipif(
    "CH07_ROOM" not in os.environ,
    reason="downloads 200 MB and takes minutes: run it with CH07_ROOM=1",
)
def test_the_real_room_installs_and_runs_without_a_network(tmp_path):
    """CH07_ROOM=1 makes one; CH07_ROOM=FOLDER takes the room that is there."""
    room = Path(os.environ["CH07_ROOM"])
    if not room.is_dir():
        room = tmp_path / "room"
        assert make_room.main(["--out", str(room), "--no-notebooks"]) == 0
    target = tmp_path / "class"
    done = install(room, target, tmp_path)
    assert done.returncode == 0 and "READY" in done.stdout, done.stderr
    commands = (["grid"], ["check", "--start", "mine"], ["check", "mine"])
    for command in commands:
        done = subprocess.run(
            [target / ".venv" / "bin" / "python", "-m", "ch07", *command],
            cwd=target,
            env=offline(tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0 and done.stdout, done.stderr
    shutil.rmtree(target)
