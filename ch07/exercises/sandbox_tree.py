"""The processes below this one, as Linux lists them: what a learner's code has started.

The one idea: Linux gives a process whose parent has died to the nearest ancestor that asked for
orphans. So none can leave the tree, whatever sessions it opens, and killing children until there
are none ends everything.
"""

import contextlib
import ctypes
import os
import resource
import signal
import time
from pathlib import Path

from ch07.exercises import sandbox_limits

PR_SET_PDEATHSIG = 1  # numbers from linux/prctl.h
PR_SET_CHILD_SUBREAPER = 36


def adopt_orphans() -> None:
    """From now on, a descendant whose parent dies becomes a child of this process."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def die_with_parent() -> None:
    """Have this process killed when its parent dies; its own children won't inherit that."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def end_descendants() -> None:
    """Kill children, each with its process group, until none is left.

    Only children are killed by number: until this process reaps one, its number is not used again.
    Gives up after `REPLY_SECONDS`, for a process that keeps changing its number by forking.
    """
    deadline = time.monotonic() + sandbox_limits.REPLY_SECONDS
    while time.monotonic() < deadline:
        for child in _children(os.getpid()):
            with contextlib.suppress(ProcessLookupError):
                group = os.getpgid(child)
                os.kill(child, signal.SIGKILL)
                if group != os.getpgrp():
                    os.killpg(group, signal.SIGKILL)  # at once, so that it can't outrun us
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(sandbox_limits.POLL_SECONDS)


def exceeds_limits(own_bytes: int) -> bool:
    """Whether the descendants are too many, or take too much memory together.

    `own_bytes` is what each of them shares with this process. One alone has a limit of its own,
    which raises a MemoryError in it.
    """
    processes = _descendants()
    if len(processes) > sandbox_limits.MAX_PROCESSES:
        return True
    used = sum(max(0, resident_bytes(process) - own_bytes) for process in processes)
    return len(processes) > 1 and used > sandbox_limits.MEMORY_BYTES


def resident_bytes(process: int) -> int:
    """The memory of a process; 0 if there is none of this number."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="utf-8").split()[1]
    except OSError:
        return 0
    return int(pages) * resource.getpagesize()


def _descendants() -> list[int]:
    found: list[int] = []
    to_visit = [os.getpid()]
    while to_visit:
        children = _children(to_visit.pop())
        found += children
        to_visit += children
    return found


def _children(process: int) -> list[int]:
    """The children of all threads of a process; none if it has ended."""
    found: list[int] = []
    for thread in Path(f"/proc/{process}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += map(int, thread.read_text(encoding="utf-8").split())
    return found
