"""The server around the application: its socket, its limits, and how it ends.

The one idea: whoever stops the server gets his terminal back within seconds, and whoever waits for
an answer gets what was written so far, with the reason why it ends. uvicorn speaks HTTP; it has no
limit for the time that a request's head may take, so that is added here.
"""

import asyncio
import errno
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from ch07.utils.errors import OptionError

HEAD_SECONDS = 10.0  # that a request's first line and headers may take
KEEP_ALIVE_SECONDS = 15  # that a connection may be idle
SHUTDOWN_SECONDS = 3  # that running answers have to be sent, once they were ended
MAX_HEAD_BYTES = 32_768
MAX_CONNECTIONS = 500


class PunctualProtocol(H11Protocol):
    """HTTP/1.1 as uvicorn speaks it, with a limit for the time that a request's head takes."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for a first request, but not for ever."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def data_received(self, data: bytes) -> None:
        """Stop the clock when a head is complete; start it when another one begins."""
        super().data_received(data)
        is_reading_head = self.conn.their_state is h11.IDLE
        if self._deadline is not None and not is_reading_head:
            self._deadline.cancel()
            self._deadline = None
        if self._deadline is None and is_reading_head:
            self._deadline = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server, which first ends the answers that are being written."""

    def __init__(
        self,
        config: uvicorn.Config,
        end_answers: Callable[[], None],
        on_start: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(config)
        self.stopped_by: int | None = None  # the number of a signal
        self._end_answers = end_answers
        self._on_start = on_start

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell that it does."""
        await super().startup(sockets=sockets)
        self._on_start()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """End the answers, send their last parts, and close all connections."""
        self._end_answers()
        await super().shutdown(sockets=sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A first signal ends the server in good order, a second Ctrl-C at once."""
        if self.stopped_by is not None and sig == signal.SIGINT:
            self.force_exit = True
        self.stopped_by = self.stopped_by or sig
        self.should_exit = True


def open_socket(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address; OptionError if it can't be."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = addresses[0]
    except OSError:
        raise OptionError(f"--host {host} is no address of this machine") from None
    opened = socket.socket(family, kind, protocol)
    if hasattr(socket, "SO_REUSEPORT"):  # not on Windows, where the option means something else
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        opened.bind(address)
        opened.listen(128)
    except OSError as error:
        opened.close()
        raise OptionError(_why_not_bound(error, host, port)) from None
    return opened


def _why_not_bound(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} is in use: stop the program that uses it, or choose another one with "
            "--port (0: any free one)"
        )
    if error.errno == errno.EACCES:
        return f"port {port} is reserved for the system: choose one from 1024 on with --port"
    return f"can't listen at {host}, port {port}: {error.strerror}"


def make_server(
    app: ASGIApp, end_answers: Callable[[], None], on_start: Callable[[], None] = lambda: None
) -> Server:
    """The server for an application; to be run with `run(sockets=[...])`."""
    config = uvicorn.Config(
        app,
        http=PunctualProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        log_level="error",
        access_log=False,
        proxy_headers=False,  # nobody may claim to be somebody else
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
        h11_max_incomplete_event_size=MAX_HEAD_BYTES,
    )
    return Server(config, end_answers, on_start)


def url_of(opened: socket.socket) -> str:
    """The address of a bound socket, as a browser wants it."""
    host, port = opened.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
