"""How much memory and time the process of a learner's code may take."""

from pathlib import Path

EXERCISE_SECONDS = 10.0  # for one exercise; the reference solutions need less than one
MEMORY_BYTES = 1 << 30  # for the learner's code
START_SECONDS = 60.0  # to import PyTorch, even from a slow disk
REPLY_SECONDS = 5.0  # for a fork server to report a job that ran out of time


def limit_memory() -> None:
    """Limit what this process may take, beyond what it has now, to `MEMORY_BYTES` (Linux only)."""
    try:
        import resource

        used_pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    except (ImportError, OSError):  # not Linux
        return
    limit = used_pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
