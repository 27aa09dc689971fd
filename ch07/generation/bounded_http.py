"""HTTP requests with one limit of time, and one of size, for all that a server sends.

The one idea: the status line, the headers, every "100 Continue", the sizes of chunks, the trailers
and the body all come through one reader, so limits that are kept there hold for all of them. The
timeout of Python's sockets is one for each read: a server that sends one byte every few seconds
would hold a command for ever.

An exchange has two parts. Until the headers are complete, and for the body of an error, the server
has `timeout` seconds: for the connection, the TLS handshake, the request and its reply together.
The body of an answer may then take MAX_ANSWER_SECONDS, since a slow model writes for minutes, but
no silence in it may be longer than `timeout`. Only the look-up of the host's name is left to the
operating system, which has its own limit.

Everything else is the standard library's `urllib` and `http.client`. The well-known libraries are
no simpler here: the timeouts of requests and httpx are also per read, and aiohttp, which has a
limit for all of it, needs an event loop.
"""

import http.client
import io
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial
from typing import Any, cast

from ch07.generation.completion import CompletionError
from ch07.generation.server_protocols import TransientError
from ch07.utils.hosts import LOCAL_HOSTS

MAX_ANSWER_BYTES = 10_000_000
MAX_ANSWER_SECONDS = 900  # for the body of an answer, however steadily it arrives
MAX_ERROR_BYTES = 64_000  # of the body of an error
MAX_HEADER_BYTES = 256_000  # of all that is no answer: headers, and the body of an error
READ_BYTES = 2**16  # of a body, at a time

Fetch = Callable[..., Any]  # urlopen, as of an opener: (request, timeout=) -> response


def open_url(host: str) -> Fetch:
    """A function like urlopen, with limits, without redirects, and locally without a proxy.

    It returns an `AnswerResponse`, or raises HTTPError with the response of an error; the reading
    of both raises CompletionError beyond a limit, or TransientError where another attempt may help.
    """
    proxies = [urllib.request.ProxyHandler({})] if host in LOCAL_HOSTS else []
    handlers = [_NoRedirect, _HTTPHandler, _HTTPSHandler]
    return urllib.request.build_opener(*handlers, *proxies).open


def read_answer(response: "AnswerResponse") -> bytes:
    """The whole body of an answer; TransientError if it was cut off."""
    response.limits.begin_answer()
    return _read_whole(response, MAX_ANSWER_BYTES)


def read_error(error: urllib.error.HTTPError) -> bytes | None:
    """The whole body of an error; None if it is too long, too slow, or was cut off."""
    try:
        return _read_whole(cast(AnswerResponse, error.fp), MAX_ERROR_BYTES)
    except (OSError, http.client.HTTPException, TransientError, CompletionError):
        return None


def _read_whole(response: http.client.HTTPResponse, max_bytes: int) -> bytes:
    data = bytearray()
    while block := response.read1(READ_BYTES):
        data += block
        if len(data) > max_bytes:
            raise CompletionError(f"the answer has more than {max_bytes / 1e6:g} MB")
    if response.length:  # bytes that were announced and did not arrive
        raise TransientError("the answer was cut off")
    return bytes(data)


class ExchangeLimits:
    """How many seconds and bytes one exchange has left."""

    def __init__(self, timeout: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._timeout = timeout
        self._clock = clock
        self._in_answer = False
        self._is_last_wait = True  # whether the next wait ends with the exchange
        self._deadline = clock() + timeout
        self._bytes_left = MAX_HEADER_BYTES

    def begin_answer(self) -> None:
        """From here on, what arrives is the body of an answer."""
        self._in_answer = True
        self._deadline = self._clock() + MAX_ANSWER_SECONDS
        # Chunk sizes and trailers count, too: they may be as long as what they frame, but not more.
        self._bytes_left = 2 * MAX_ANSWER_BYTES

    def seconds_to_wait(self) -> float:
        """How long the next read may wait; TransientError or CompletionError if no time is left."""
        seconds = self._deadline - self._clock()
        self._is_last_wait = seconds <= self._timeout
        if seconds <= 0:
            raise self.silence()
        return min(seconds, self._timeout)

    def silence(self) -> TransientError | CompletionError:
        """The error for a read that has waited as long as it may."""
        if not self._in_answer:
            return TransientError(f"no complete reply within {self._timeout:g} seconds")
        if self._is_last_wait:
            return CompletionError(
                f"the answer was still incomplete after {MAX_ANSWER_SECONDS} seconds: "
                "ask for fewer tokens"
            )
        return TransientError(f"no data for {self._timeout:g} seconds")

    def spend(self, n_bytes: int) -> None:
        """Count what arrived; CompletionError if it is too much."""
        self._bytes_left -= n_bytes
        if self._bytes_left >= 0:
            return
        if self._in_answer:
            raise CompletionError(
                f"the answer has more than {MAX_ANSWER_BYTES / 1e6:g} MB, most of them no text"
            )
        raise CompletionError(
            f"the headers of the answer have more than {MAX_HEADER_BYTES / 1000:g} kB: "
            "is the address right?"
        )


class _LimitedReader(io.RawIOBase):
    """The bytes that come from a socket, within the limits of an exchange."""

    def __init__(self, sock: socket.socket, source: io.RawIOBase, limits: ExchangeLimits) -> None:
        self._sock = sock
        self._source = source
        self._limits = limits

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._limits.seconds_to_wait())
        try:
            n_bytes = self._source.readinto(buffer)
        except TimeoutError:
            raise self._limits.silence() from None
        self._limits.spend(n_bytes or 0)
        return n_bytes

    def close(self) -> None:
        self._source.close()
        super().close()


class AnswerResponse(http.client.HTTPResponse):
    """A response that is read through a `_LimitedReader`."""

    def __init__(self, sock: socket.socket, *given: Any, limits: ExchangeLimits, **named: Any):
        super().__init__(sock, *given, **named)
        self.limits = limits
        self.fp = io.BufferedReader(_LimitedReader(sock, self.fp.detach(), limits))


class _LimitedConnection(http.client.HTTPConnection):
    """A connection whose set-up, request and reply together have `timeout` seconds."""

    def __init__(self, host: str, *, timeout: float = 30, **named: Any) -> None:
        super().__init__(host, timeout=timeout, **named)
        self._limits = ExchangeLimits(timeout)
        # Two hooks of http.client: what makes a response, and what makes a socket.
        self.response_class = cast(Any, partial(AnswerResponse, limits=self._limits))
        self._create_connection = self._connect

    def _connect(self, address: tuple[str, int], *unused: Any) -> socket.socket:
        """A socket connected to one of the host's addresses, which share the time that is left."""
        found = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)
        error = OSError(f"{address[0]} has no address")
        for n_tried, (*_, (host, port, *_)) in enumerate(found):
            share = self._limits.seconds_to_wait() / (len(found) - n_tried)
            try:
                sock = socket.create_connection((str(host), int(port)), share)
            except OSError as failure:
                error = failure
                continue
            sock.settimeout(self._limits.seconds_to_wait())  # for the TLS handshake
            return sock
        raise error

    def send(self, data: Any) -> None:
        if self.sock is not None:
            self.sock.settimeout(self._limits.seconds_to_wait())
        super().send(data)


class _LimitedTLSConnection(_LimitedConnection, http.client.HTTPSConnection):
    """The same over TLS."""


class _HTTPHandler(urllib.request.HTTPHandler):
    def http_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_LimitedConnection, req)


class _HTTPSHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: urllib.request.Request) -> Any:
        return self.do_open(_LimitedTLSConnection, req)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Prompt and key only go to the address that was given; another one is not even parsed."""

    def _give_up(self, *arguments: Any) -> None:
        return None

    http_error_301: Any = _give_up
    http_error_302: Any = _give_up
    http_error_303: Any = _give_up
    http_error_307: Any = _give_up
    http_error_308: Any = _give_up
