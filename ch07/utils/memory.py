"""Free memory: of the machine, or of the container that we run in, which may have less."""

from dataclasses import dataclass
from pathlib import Path

import psutil

CONTROL_GROUP = Path("/sys/fs/cgroup")  # where Linux keeps a container's own limits


@dataclass(frozen=True)
class ControlGroupFiles:
    """The files of one version of Linux's control groups, and a name that stands in the last."""

    limit: str
    used: str
    statistics: str
    file_cache: str  # memory that Linux frees when it runs short


CONTROL_GROUP_VERSIONS = (
    ControlGroupFiles("memory.max", "memory.current", "memory.stat", "inactive_file"),
    ControlGroupFiles(
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def free_memory() -> int:
    """Bytes that can be allocated: no more than the machine has, or the container may use."""
    free = psutil.virtual_memory().available
    for files in CONTROL_GROUP_VERSIONS:
        try:
            free = min(free, _free_in_container(files))
        except (OSError, ValueError, KeyError):  # not this version, or its limit is "max": none
            continue
    return max(0, free)


def _free_in_container(files: ControlGroupFiles) -> int:
    statistics = dict(line.split() for line in _read(files.statistics).splitlines())
    used = int(_read(files.used)) - int(statistics[files.file_cache])
    return int(_read(files.limit)) - used


def _read(name: str) -> str:
    return (CONTROL_GROUP / name).read_text(encoding="utf-8")
