"""`pip install` takes along what the project needs, and gives a `ch07` command."""

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built offline from what git knows or would add."""
    pytest.importorskip("setuptools", minversion="77", reason="needs setuptools to build a wheel")
    source = tmp_path_factory.mktemp("source")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the project's folder is no git repository")
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("notebooks/", "tests/")):
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    build = "from setuptools import build_meta; print(build_meta.build_wheel('dist'))"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (path,) = (source / "dist").glob("*.whl")
    with zipfile.ZipFile(path) as archive:
        yield archive


def test_the_wheel_has_every_file_that_the_program_reads(wheel):
    packed = set(wheel.namelist())
    wanted = {path.name for path in ROOT.glob("*.py")} - {"conftest.py"}
    for path in (ROOT / "ch07").rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            wanted.add(str(path.relative_to(ROOT)))
    assert wanted <= packed
    assert {"gpt_model.py", "train_loop.py", "ch07/exercises/exercises.json"} <= wanted
    others = {name for name in packed - wanted if ".dist-info/" not in name}
    assert others == set()


def test_its_metadata_is_what_the_project_says_elsewhere(wheel):
    from ch07 import __version__

    def read(name):
        (path,) = (n for n in wheel.namelist() if n.endswith(f".dist-info/{name}"))
        return wheel.read(path).decode()

    metadata = read("METADATA")
    assert f"\nVersion: {__version__}\n" in metadata
    assert "ch07 = ch07.commands.cli:main" in read("entry_points.txt")
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    wanted = [re.match(r"[\w.-]+", line).group() for line in lines if line[:1].isalnum()]
    required = re.findall(r"^Requires-Dist: ([\w.-]+)[^;\n]*$", metadata, flags=re.M)
    assert required == wanted


def test_the_version_is_the_newest_in_the_changelog():
    from ch07 import __version__

    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changes, flags=re.M).group(1) == __version__


def test_the_extras_are_the_versions_that_the_tests_use():
    extras = re.search(r"\[project\.optional-dependencies\]\n(.*?)\n\n", PYPROJECT, flags=re.S)
    tested = (ROOT / "requirements-dev.txt").read_text(encoding="utf-8")
    pinned = re.findall(r'"(\w+==[\d.]+)"', extras.group(1))
    assert len(pinned) == 5
    for requirement in pinned:
        assert re.search(rf"^{re.escape(requirement)}\s", tested, flags=re.M), requirement
