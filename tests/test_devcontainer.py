"""The development container's files, as far as they can be checked without starting one."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".devcontainer"
SCRIPT = FOLDER / "post_create.sh"


def settings():
    """devcontainer.json, which may have lines of comments."""
    text = (FOLDER / "devcontainer.json").read_text(encoding="utf-8")
    return json.loads(re.sub(r"^\s*//.*$", "", text, flags=re.M))


def pinned_torch():
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    (line,) = (line for line in lines if line.startswith("torch=="))
    return line.split()[0]


def test_it_names_a_python_that_the_project_and_its_docs_run_on():
    version = re.fullmatch(
        r"mcr\.microsoft\.com/devcontainers/python:3\.(\d+)", settings()["image"]
    )
    assert int(version[1]) >= 11  # what requirements-docs.txt asks for


def test_editor_make_and_script_use_one_environment():
    content = settings()
    venv = content["containerEnv"]["VENV"]
    editor = content["customizations"]["vscode"]
    assert editor["settings"]["python.defaultInterpreterPath"] == f"{venv}/bin/python"
    assert set(editor["extensions"]) == {"ms-python.python", "ms-toolsai.jupyter"}
    assert "VENV ?= " in (ROOT / "Makefile").read_text(encoding="utf-8")
    command = content["postCreateCommand"].split()
    assert command[0] == "bash" and ROOT / command[1] == SCRIPT


@pytest.mark.skipif(sys.platform == "win32", reason="a script for Linux")
def test_the_script_installs_small_torch_first_and_then_the_rest(tmp_path):
    """Run with a `python3` and a `sudo` that only write down what they are asked for."""
    fakes = tmp_path / "fakes"
    fakes.mkdir()
    log = tmp_path / "log"
    venv = tmp_path / "a folder with spaces"
    write = f'echo "$(basename "$0") $*" >> "{log}"\n'
    # `python3 -m venv` leaves a `python`; from then on, that one is asked.
    make = f'[ "$2" != venv ] || (mkdir -p "{venv}/bin"; cp "$0" "{venv}/bin/python")\n'
    for name, body in {"python3": write + make, "sudo": write}.items():
        (fakes / name).write_text(f"#!/bin/sh\n{body}", encoding="utf-8")
        (fakes / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{fakes}:{os.environ['PATH']}", "VENV": str(venv)}
    subprocess.run(["bash", str(SCRIPT)], cwd=tmp_path, env=environment, check=True)
    first, torch, rest, *others = log.read_text(encoding="utf-8").splitlines()
    assert first == f"python3 -m venv {venv}"
    index = "https://download.pytorch.org/whl/cpu"
    assert torch == f"python -m pip install {pinned_torch()} --index-url {index}"
    assert rest == "python -m pip install -r requirements-dev.txt"
    assert (ROOT / "requirements-dev.txt").exists()
    assert others[-1] == "python -m ch07 doctor"
