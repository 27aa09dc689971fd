"""The fork server (Linux only): forks a process for each job. `sandbox_process` starts it.

The one idea: two processes, both of which have imported PyTorch. The lower one forks for a job,
waits for the child and ends what it leaves behind. The upper one touches no job: it starts another
server when a learner's code has killed the lower one, and ends what that leaves behind.
"""

import json
import os
import select
import signal
import socket
import time
from typing import NoReturn

from ch07.data.tokenizer import load_tokenizer
from ch07.exercises.sandbox_limits import POLL_SECONDS
from ch07.exercises.sandbox_process import Job
from ch07.exercises.sandbox_tree import (
    adopt_orphans,
    die_with_parent,
    end_descendants,
    exceeds_limits,
    resident_bytes,
)
from ch07.exercises.sandbox_worker import run_job, silence_standard_streams

MAX_JOB_BYTES = 1 << 16


def keep_serving(channel: socket.socket) -> NoReturn:
    """Start servers, one after the other, until nobody is at the other end of the channel."""
    adopt_orphans()
    signal.signal(signal.SIGTERM, _leave)
    try:
        channel.send(b"null")  # ready
        while (exit_code := _run_server(channel)) != 0:
            end_descendants()
            channel.send(json.dumps(exit_code).encode())
    finally:
        _leave()


def _leave(*_signal: object) -> NoReturn:
    end_descendants()
    os._exit(0)  # at once: Python would take a second to unload PyTorch


def _run_server(channel: socket.socket) -> int:
    """Fork a server and wait for its end; returns its exit code, or minus a signal's number.

    One that a learner's code has stopped would wait forever, and so is killed.
    """
    server = os.fork()
    if server == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            _serve(channel)
            os._exit(0)
        finally:
            os._exit(1)
    status = os.waitpid(server, os.WUNTRACED)[1]
    if os.WIFSTOPPED(status):
        os.kill(server, signal.SIGKILL)
        status = os.waitpid(server, 0)[1]
    return os.waitstatus_to_exitcode(status)


def _serve(channel: socket.socket) -> None:
    """Fork a child for each job; answer with its exit code."""
    adopt_orphans()
    while True:
        message, files, _, _ = socket.recv_fds(channel, MAX_JOB_BYTES, 2, socket.MSG_CMSG_CLOEXEC)
        if not message:
            return
        job = Job.from_json(message.decode())
        child = os.fork()
        if child == 0:
            channel.close()
            os.setsid()
            die_with_parent()
            run_job(job, *files)
        for file in files:
            os.close(file)
        exit_code = _exit_code(child, job.time_limit(), channel)
        end_descendants()
        channel.send(json.dumps(exit_code).encode())


def _exit_code(child: int, seconds: float, channel: socket.socket) -> int | None:
    """Wait for a child: its exit code, minus a signal's number, or None if its time ran out."""
    own_bytes = resident_bytes(os.getpid())
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if exceeds_limits(own_bytes):
            return -signal.SIGKILL
        if select.select([channel], [], [], POLL_SECONDS)[0]:
            return None  # the command has ended
    return None


if __name__ == "__main__":
    CHANNEL = socket.socket(fileno=os.dup(0))
    silence_standard_streams()
    load_tokenizer()  # kept, for all children
    keep_serving(CHANNEL)
