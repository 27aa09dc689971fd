"""Installs the requirements that are missing, but never torch; for the first cell in Colab."""

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parent.parent / "requirements.txt"


def missing(lines: list[str]) -> list[str]:
    """The requirements that are not installed; installed packages stay, whatever their version.

    Torch is left out, because Colab has the build that fits its machine.
    """
    wanted = [line.split("#")[0].strip() for line in lines]
    names = {need: re.split(r"[=<>~!\[; ]", need)[0] for need in wanted if need}
    return [need for need, name in names.items() if name != "torch" and not _installed(name)]


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    needs = missing(REQUIREMENTS.read_text(encoding="utf-8").splitlines())
    if needs:
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *needs], check=True)
