"""The packages that the project needs, compared with those that are installed.

This module imports nothing that might be missing, so that it can report what is.
"""

from importlib import import_module, metadata
from pathlib import Path
from types import ModuleType

from ch07.utils.errors import UserError

REQUIREMENTS_FILE = Path(__file__).resolve().parents[2] / "requirements.txt"
INSTALL_COMMAND = "python -m pip install -r requirements.txt"


class MissingPackage(UserError, RuntimeError):
    """An optional package isn't installed; the message says how to install it."""


def import_optional(name: str, purpose: str, install: str) -> ModuleType:
    """Import a module that only some readers need; MissingPackage says how to install it.

    `purpose` is the subject of the message ("writing GGUF"), `install` what pip is given.
    """
    try:
        return import_module(name)
    except ImportError:
        raise MissingPackage(
            f"{purpose} needs a package that is not installed: pip install {install}"
        ) from None


def read_requirements() -> list[str]:
    """The lines of requirements.txt, without comments."""
    lines = REQUIREMENTS_FILE.read_text(encoding="utf-8").splitlines()
    without_comments = [line.split("#")[0].strip() for line in lines]
    return [line for line in without_comments if line]


def unmet_requirements() -> list[str]:
    """A phrase for each requirement that is missing or installed in another version."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:  # matplotlib depends on it, so hardly anything is installed
        return ["packaging is not installed"]
    unmet = []
    for line in read_requirements():
        requirement = Requirement(line)
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            unmet.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            unmet.append(
                f"{requirement.name} {version} is installed, but {requirement.specifier} is needed"
            )
    return unmet
