"""The processes in which learners' files run: one for each job, so that none can harm another.

The one idea: most of a check's time goes into importing PyTorch. On Linux a fork server imports it
once and then forks for each job, so that every file still gets a fresh process with its own
memory, time limit and modules. Elsewhere each job starts a new interpreter: Windows has no fork,
and Apple's libraries do not support using a fork of a process that has loaded them.
"""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ch07.exercises import sandbox_limits

ROOT = Path(__file__).resolve().parents[2]
WORKER = (sys.executable, "-m", "ch07.exercises.sandbox_worker")
CAN_FORK = sys.platform.startswith("linux")


@dataclass(frozen=True)
class Job:
    """Exercises of one file to check, and the files in which the process leaves its results."""

    path: Path
    names: list[str]
    seconds: float  # for each exercise
    reports: Path  # a line of JSON for each report
    trace: Path  # where the code was when its time ran out

    def to_json(self) -> str:
        """The job as one line."""
        values = {name: str(getattr(self, name)) for name in ("path", "reports", "trace")}
        return json.dumps({**values, "names": self.names, "seconds": self.seconds})

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """The job that `to_json` wrote."""
        values = json.loads(text)
        paths = {name: Path(values.pop(name)) for name in ("path", "reports", "trace")}
        return cls(**paths, **values)

    def time_limit(self) -> float:
        """Seconds for the whole job; only code that disables its own timer ever reaches it."""
        return 2 * self.seconds * (1 + len(self.names))

    def clean(self) -> None:
        """Delete the results."""
        self.reports.unlink(missing_ok=True)
        self.trace.unlink(missing_ok=True)


class Runner(Protocol):
    """Runs jobs, each in a process of its own."""

    def run(self, job: Job) -> int | None:
        """The process's exit code, minus a signal's number, or None if its time ran out."""
        ...

    def close(self) -> None:
        """End what is still running."""
        ...


def start_runner() -> Runner:
    """The fastest runner of this system."""
    return ForkServer() if CAN_FORK else FreshInterpreters()


class FreshInterpreters:
    """Starts a new interpreter for each job."""

    def run(self, job: Job) -> int | None:
        """The process's exit code, minus a signal's number, or None if its time ran out."""
        try:
            return subprocess.run(
                [*WORKER, job.to_json()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
                env=_environment(),
                timeout=sandbox_limits.START_SECONDS + job.time_limit(),
            ).returncode
        except subprocess.TimeoutExpired:
            return None

    def close(self) -> None:
        """Nothing is left running."""


class ForkServer:
    """One process that has imported PyTorch and forks a child for each job.

    It reads a job from its standard input and writes the child's exit code to its standard output.
    A child may kill or stop the server: then the next job gets a new one.
    """

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None

    def run(self, job: Job) -> int | None:
        """The process's exit code, minus a signal's number, or None if its time ran out."""
        server = self._running_server()
        assert server.stdin is not None and server.stdout is not None
        try:
            server.stdin.write(job.to_json().encode() + b"\n")
            server.stdin.flush()
        except BrokenPipeError:  # the server died: its exit code is the answer
            return self._end(server)
        limit = sandbox_limits.START_SECONDS + job.time_limit() + sandbox_limits.REPLY_SECONDS
        if not select.select([server.stdout], [], [], limit)[0]:
            self._end(server)
            return None
        answer = server.stdout.readline()
        if not answer:
            return self._end(server)
        return json.loads(answer)

    def close(self) -> None:
        """End the server and its child."""
        if self._server is not None:
            self._end(self._server)

    def _running_server(self) -> subprocess.Popen[bytes]:
        if self._server is not None and self._server.poll() is not None:
            self._end(self._server)
        return self._server or self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self._server = subprocess.Popen(
            [*WORKER, "--serve"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=ROOT,
            env=_environment(),
            start_new_session=True,  # a signal to its own process group does not reach this process
        )
        return self._server

    def _end(self, server: subprocess.Popen[bytes]) -> int:
        """Kill the server's process group; returns the server's exit code."""
        self._server = None
        died = server.poll()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        for pipe in (server.stdin, server.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # unread jobs are dropped
                    pipe.close()
        exit_code = server.wait()
        return exit_code if died is None else died


def _environment() -> dict[str, str]:
    """This project is found first, wherever the command was started."""
    search = [str(ROOT)]
    if os.environ.get("PYTHONPATH"):
        search.append(os.environ["PYTHONPATH"])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search)}
