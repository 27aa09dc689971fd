"""What a learner's process may change: on Linux, its own folder and nothing else.

The one idea: Landlock, a part of Linux since 5.13, lets a process give up rights for good, its
own and those of all that it starts, without being an administrator. Reading stays allowed, and so
does writing to what was open before. An older Linux, macOS and Windows have nothing alike: there,
the process only starts in that folder.

Numbers and structures are those of linux/landlock.h.
"""

import ctypes
import os
import sys
import tempfile
from pathlib import Path

CREATE_RULESET = 444  # system calls, with the same number on every processor
ADD_RULE = 445
RESTRICT_SELF = 446
PR_SET_NO_NEW_PRIVS = 38
ASK_VERSION = 1
PATH_BENEATH = 1

WRITE_FILE = 1 << 1
CHANGE_FOLDERS = sum(1 << bit for bit in range(4, 13))  # remove and make files of every kind
MOVE_BETWEEN_FOLDERS = 1 << 13  # since version 2
TRUNCATE = 1 << 14  # since version 3
BIND_AND_CONNECT = 0b11  # TCP, since version 4
SOCKETS_AND_SIGNALS = 0b11  # to processes outside, since version 6
DEVICES = Path("/dev")  # /dev/null, and the shared memory of a data loader's workers


class _Ruleset(ctypes.Structure):
    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("processes", ctypes.c_uint64),
    )


class _PathRule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("files", ctypes.c_uint64), ("folder", ctypes.c_int32))


def confine_process(folder: Path) -> bool:
    """Move this process into a folder; whether all that it can change now lies in there."""
    os.chdir(folder)
    os.environ["TMPDIR"] = str(folder)
    tempfile.tempdir = None  # forgotten, so that it is looked up again
    return sys.platform.startswith("linux") and _give_up_rights(folder)


def _give_up_rights(folder: Path) -> bool:
    """Whether Linux has taken away the right to write, to use TCP and to signal others."""
    libc = ctypes.CDLL(None)
    version = libc.syscall(CREATE_RULESET, None, 0, ASK_VERSION)
    if version < 1:
        return False
    files = WRITE_FILE | CHANGE_FOLDERS
    if version >= 2:
        files |= MOVE_BETWEEN_FOLDERS
    if version >= 3:
        files |= TRUNCATE
    rules = _Ruleset(files=files)
    size = 8
    if version >= 4:
        rules.network = BIND_AND_CONNECT
        size = 16
    if version >= 6:
        rules.processes = SOCKETS_AND_SIGNALS
        size = 24
    ruleset = libc.syscall(CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return False
    for allowed in (folder, DEVICES):
        _allow(libc, ruleset, allowed, files)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    confined = libc.syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return confined


def _allow(libc: ctypes.CDLL, ruleset: int, folder: Path, files: int) -> None:
    descriptor = os.open(folder, os.O_PATH | os.O_CLOEXEC)
    rule = _PathRule(files=files, folder=descriptor)
    libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0)
    os.close(descriptor)
