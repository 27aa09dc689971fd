"""What the project needs, and whether it is here: requirements.txt against what is installed.

The one idea: this file imports nothing that might be missing, so it can say what is.
"""

from importlib import import_module, metadata
from pathlib import Path

REQUIREMENTS_FILE = Path(__file__).resolve().parents[2] / "requirements.txt"
INSTALL_COMMAND = "python -m pip install -r requirements.txt"


class MissingPackage(RuntimeError):
    """An optional package isn't installed; the message says how to get it."""


def import_optional(name, purpose, install):
    """A module that only some readers need; MissingPackage says what to install for it."""
    try:
        return import_module(name)
    except ImportError:
        raise MissingPackage(
            f"{purpose} needs a package that is not installed: pip install {install}"
        ) from None


def read_requirements():
    """The lines of requirements.txt, without comments."""
    lines = REQUIREMENTS_FILE.read_text(encoding="utf-8").splitlines()
    return [line.split("#")[0].strip() for line in lines if line.split("#")[0].strip()]


def unmet_requirements():
    """A sentence for each requirement that isn't installed, or in another version."""
    try:
        from packaging.requirements import Requirement
    except ModuleNotFoundError:  # it comes with matplotlib, so hardly anything is installed
        return ["packaging is not installed"]
    found = []
    for line in read_requirements():
        requirement = Requirement(line)
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            found.append(f"{requirement.name} is not installed")
            continue
        if not requirement.specifier.contains(version, prereleases=True):
            found.append(f"{requirement.name} is {version}, wanted {requirement.specifier}")
    return found
