"""How much memory, disk and time the processes of a learner's code may take."""

from pathlib import Path

EXERCISE_SECONDS = 10.0  # for one exercise; the reference solutions need less than one
MEMORY_BYTES = 1 << 30  # for the learner's code
FILE_BYTES = 1 << 28  # for each file that it writes
MAX_PROCESSES = 64  # that it may have at a time
START_SECONDS = 60.0  # to import PyTorch, even from a slow disk
REPLY_SECONDS = 5.0  # for a fork server to end and report a job that ran out of time
POLL_SECONDS = 0.005


def limit_process() -> None:
    """Limit this process, and each that it starts.

    Memory (beyond what it has now) is limited on Linux, the size of files on macOS as well.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    _lower(resource.RLIMIT_FSIZE, FILE_BYTES)
    _lower(resource.RLIMIT_CORE, 0)
    try:
        used_pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    except OSError:  # not Linux
        return
    _lower(resource.RLIMIT_AS, used_pages * resource.getpagesize() + MEMORY_BYTES)


def _lower(kind: int, limit: int) -> None:
    """Set a limit for good, unless there is a lower one already."""
    import resource

    current = resource.getrlimit(kind)[1]
    if current == resource.RLIM_INFINITY or limit < current:
        resource.setrlimit(kind, (limit, limit))
