"""Commands that die at a chosen moment: before any change to the disk, or half-way through a write.

The one idea is SQLite's (sqlite.org/testing.html, section 3): number every operation that a run
does on the disk, let it fail at operation N, look at what is left, and do so for many N. A process
that has imported PyTorch but computed nothing forks a child for each command, so that a hundred
crashes cost no hundred imports.

Run as a script it serves such commands: JSON lines in, exit codes out.
"""

import errno
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHANGES = (
    "replace",
    "link",
    "mkdir",
    "unlink",
    "rmdir",
    "fsync",
)  # of the module os, as ours call them


def die():
    """What `kill -9` does: nothing is caught, flushed or cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def disk_full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupt():
    """Ctrl-C twice: the first asks a run that trains to stop, the second ends it at once."""
    for _ in range(2):
        os.kill(os.getpid(), signal.SIGINT)


def asked(name):
    return lambda: os.kill(os.getpid(), getattr(signal, name))


FAULTS = {"kill": die, "full": disk_full, "interrupt": interrupt}  # and "time": after `at` ms
FAULTS |= {name: asked(name) for name in ("SIGINT", "SIGTERM", "SIGHUP")}


class Countdown:
    """Counts operations on the disk; at number `at` the fault happens ("full": and ever after)."""

    def __init__(self, fault, at):
        self.fault, self.at, self.count = fault, at, 0

    def __call__(self):
        self.count += 1
        later = self.fault == "full" and self.at and self.count > self.at
        if self.fault in FAULTS and (self.count == self.at or later):
            FAULTS[self.fault]()


def rig(countdown, patch=setattr):
    """Let every change to the disk pass by the countdown first; whole-file writes twice."""
    import ch07.utils.atomic_files

    def counted(function):
        def wrapped(*args, **kwargs):
            freed = function.__name__ in ("unlink", "rmdir") and countdown.fault == "full"
            if not freed:  # what is taken away needs no room
                countdown()
            return function(*args, **kwargs)

        return wrapped

    def torn(function, name_of):
        def wrapped(*args, **kwargs):
            countdown()
            result = function(*args, **kwargs)
            path = Path(name_of(args))
            whole = path.read_bytes()
            with open(path, "wb") as file:
                file.write(whole[: len(whole) // 2])
                file.flush()
                countdown()  # half of it is on the disk
                file.write(whole[len(whole) // 2 :])
            return result

        return wrapped

    for name in CHANGES:
        patch(os, name, counted(getattr(os, name)))
    patch(
        ch07.utils.atomic_files,
        "save_file",
        torn(ch07.utils.atomic_files.save_file, lambda args: args[1]),
    )
    patch(ch07.utils.atomic_files.Path, "write_bytes", half_written(countdown))


def half_written(countdown):
    def write_bytes(path, data):
        countdown()
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            countdown()
            return file.write(data[len(data) // 2 :])

    return write_bytes


def serve():
    """Read commands as JSON lines, run each in a forked child, answer with how it ended."""
    sys.path.insert(0, str(ROOT))
    import ch07.commands.finetune  # noqa: F401
    from ch07.commands.cli import main
    from ch07.data.tokenizer import load_tokenizer

    load_tokenizer()

    for line in sys.stdin:
        command = json.loads(line)
        child = os.fork()
        if not child:
            log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            countdown = Countdown(command["fault"], command["at"])
            rig(countdown)
            code = main(command["argv"])
            left = {"count": countdown.count, "modules": list(sys.modules)}
            with open(command["log"] + ".json", "w", encoding="utf-8") as file:
                json.dump(left, file)
            sys.stdout.flush()
            os._exit(code)
        if command["fault"] == "time":
            time.sleep(command["at"] / 1000)
            os.kill(child, signal.SIGKILL)  # not waited for yet, so it is ours, dead or alive
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
        if status == 0:  # the next child shall find loaded what this one had to load
            for name in json.loads(Path(command["log"] + ".json").read_text("utf-8"))["modules"]:
                with suppress(Exception):
                    importlib.import_module(name)


class Forks:
    """`forks(argv, fault, at)` runs a command of ch07 in a fork; returns its exit code."""

    def __init__(self, log, environment=None):
        self.log = str(log)
        self.process = subprocess.Popen(
            [sys.executable, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __call__(self, argv, fault="kill", at=0):
        command = {
            "argv": [str(a) for a in argv],
            "fault": fault,
            "at": at if isinstance(at, int) else str(at),
            "log": self.log,
        }
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def counted(self):
        """Operations of the last command that came to its end."""
        return json.loads(Path(self.log + ".json").read_text(encoding="utf-8"))["count"]

    def said(self):
        return Path(self.log).read_text(encoding="utf-8")

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


if __name__ == "__main__":
    serve()
