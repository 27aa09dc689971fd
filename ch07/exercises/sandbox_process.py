"""The processes in which learners' files run: one for each job, so that none can harm another.

The one idea: most of a check's time goes into importing PyTorch. On Linux a fork server imports it
once and then forks for each job, so that every file still gets a fresh process with its own
memory, time limit and modules. Elsewhere each job starts a new interpreter: Windows has no fork,
and Apple's libraries do not support using a fork of a process that has loaded them.

What a learner's code starts ends with its job. On Linux that holds for every process below it, in
whatever session (see `sandbox_tree`), unless it hunts down both processes above it. On macOS it
holds for its process group: a process that opens a session of its own stays. On Windows it holds
for the process of the job alone. Unless a job is confined (see `sandbox_confinement`), no platform
stops it from using its author's files.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Protocol

from ch07.exercises import sandbox_limits

ROOT = Path(__file__).resolve().parents[2]
WORKER = (sys.executable, "-m", "ch07.exercises.sandbox_worker")
SERVER = (sys.executable, "-m", "ch07.exercises.sandbox_server")
CAN_FORK = sys.platform.startswith("linux")
MAX_ANSWER_BYTES = 64


@dataclass(frozen=True)
class Job:
    """Exercises of one file to check."""

    path: str
    names: list[str]
    seconds: float  # for each exercise
    token: str  # signs the reports; never in an argument or variable that all processes can read
    confined: bool = False  # may change nothing but the file's folder (see `sandbox_confinement`)

    def to_json(self) -> str:
        """The job as one line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """The job that `to_json` wrote."""
        return cls(**json.loads(text))

    def time_limit(self) -> float:
        """Seconds for the whole job; only code that disables its own timer ever reaches it."""
        return self.seconds * (1 + len(self.names)) + sandbox_limits.REPLY_SECONDS


class Runner(Protocol):
    """Runs jobs, each in a process of its own.

    The process inherits two files without a name: `reports` takes a signed line for each report,
    `trace` where the code was when its time ran out.
    """

    def run(self, job: Job, reports: IO[bytes], trace: IO[bytes]) -> int | None:
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

    def run(self, job: Job, reports: IO[bytes], trace: IO[bytes]) -> int | None:
        """The process's exit code, minus a signal's number, or None if its time ran out."""
        process = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=reports,
            stderr=trace,
            cwd=ROOT,
            env=_environment(),
            start_new_session=True,
        )
        limit = sandbox_limits.START_SECONDS + job.time_limit()
        try:
            process.communicate(job.to_json().encode() + b"\n", limit)
        except subprocess.TimeoutExpired:
            return None
        finally:
            exit_code = _end_group(process)
        return exit_code

    def close(self) -> None:
        """Nothing is left running."""


class ForkServer:
    """One process that has imported PyTorch and forks a child for each job.

    It gets a job and its two files over a socket, and answers with the child's exit code. Unlike a
    pipe, a socket can't be opened by the learner's code through /proc. A child may kill or stop the
    server: then the next job gets a new one.
    """

    def __init__(self) -> None:
        self._server: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def run(self, job: Job, reports: IO[bytes], trace: IO[bytes]) -> int | None:
        """The process's exit code, minus a signal's number, or None if its time ran out."""
        if self._server is not None and self._server.poll() is not None:
            self.close()
        try:
            channel = self._channel or self._start()
            channel.settimeout(job.time_limit() + sandbox_limits.REPLY_SECONDS)
            files = [reports.fileno(), trace.fileno()]
            socket.send_fds(channel, [job.to_json().encode()], files)
            answer = channel.recv(MAX_ANSWER_BYTES)
        except TimeoutError:
            self.close()
            return None
        except ConnectionError:
            answer = b""
        return json.loads(answer) if answer else self._end()

    def close(self) -> None:
        """End the server and all processes below it."""
        if self._server is not None:
            self._end()

    def _start(self) -> socket.socket:
        """Start a server; returns when it has imported PyTorch, or has died."""
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._server = subprocess.Popen(
                SERVER,
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=ROOT,
                env=_environment(),
                start_new_session=True,  # a signal to its own group does not reach this process
            )
        self._channel.settimeout(sandbox_limits.START_SECONDS)
        self._channel.recv(MAX_ANSWER_BYTES)
        return self._channel

    def _end(self) -> int:
        """End the server, which ends what is below it; returns its exit code."""
        server = self._server
        channel = self._channel
        assert server is not None and channel is not None
        self._server = None
        self._channel = None
        channel.close()
        died = server.poll()
        server.terminate()
        server.send_signal(signal.SIGCONT)  # a learner's code may have stopped it
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(2 * sandbox_limits.REPLY_SECONDS)
        exit_code = _end_group(server)
        return exit_code if died is None else died


def _end_group(process: subprocess.Popen[bytes]) -> int:
    """Kill a process and, where there are such, its process group; returns its exit code."""
    if os.name == "posix":
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: only zombies
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    return process.wait()


def _environment() -> dict[str, str]:
    """This project is found first, wherever the command was started; sets keep their order."""
    search = [str(ROOT)]
    if os.environ.get("PYTHONPATH"):
        search.append(os.environ["PYTHONPATH"])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(search), "PYTHONHASHSEED": "0"}
