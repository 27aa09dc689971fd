"""What every request must pass before it reaches the application, and what every answer carries.

The one idea: this server is for the people at this machine, and a browser here also shows pages of
strangers. Such a page can send requests to 127.0.0.1, and through a name of its own that suddenly
means 127.0.0.1 (DNS rebinding) it could even read the answers. So the Host must be a name of this
machine, an Origin must be this server's own, JSON must say that it is JSON (which another origin
can't send without asking first), and no answer allows another origin to read it.

Bodies have a limit of size and one of time, however they are sent.
"""

import asyncio
import hmac
import ipaddress
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ch07.serving.api_errors import ApiError, error_response
from ch07.utils.hosts import LOCAL_HOSTS
from ch07.utils.validation import quote

MAX_BODY_BYTES = 1_000_000
MAX_DISCARDED_BYTES = 10_000_000  # of a body that was refused already
BODY_SECONDS = 30.0
OPEN_TO_ALL = ("/",)  # without a key: the page itself, which holds no data
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # the rest is in the page itself
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True)
class AccessRules:
    """Who may ask: by which names the server is called, and with which key."""

    hosts: frozenset[str]  # names, beside addresses in numbers, which can't be rebound
    key: str | None = None


def names_of_this_machine(host: str) -> frozenset[str]:
    """By which names a server that listens at this host may be called.

    >>> "localhost" in names_of_this_machine("127.0.0.1")
    True
    """
    if is_loopback(host):
        return frozenset({*LOCAL_HOSTS, host})
    own = socket.gethostname().casefold()
    return frozenset({*LOCAL_HOSTS, host.casefold(), own, f"{own}.local"})


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a server that listens there.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("0.0.0.0")
    (True, True, False)
    """
    if host in LOCAL_HOSTS:
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """An application behind the checks of this module."""

    def __init__(self, app: ASGIApp, rules: AccessRules) -> None:
        self.app = app
        self.rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check a request, and pass it on or answer it with an error."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(k.lower().encode(), v.encode()) for k, v in HEADERS.items()]
                message = {**message, "headers": [*message.get("headers", []), *own]}
            await send(message)

        body = RequestBody(receive)
        try:
            _check_access(scope, self.rules)
            if scope["method"] == "POST":
                _check_kind(scope)
                await body.read()
        except ApiError as error:
            if not await body.discard():
                error.headers["Connection"] = "close"
            await error_response(error)(scope, receive, send_with_headers)
            return
        await self.app(scope, body.receive, send_with_headers)


# --- who asks -----------------------------------------------------------------------------------
def _check_access(scope: Scope, rules: AccessRules) -> None:
    host = _header(scope, b"host") or ""
    name = _name_of(host)
    if name not in rules.hosts and not (_is_address(name) and rules.key is not None):
        raise ApiError(
            f"this server is not called {quote(host)}: open it as "
            f"{' or '.join(sorted(rules.hosts))}",
            status=403,
            code="wrong_host",
        )
    _check_origin(scope, host)
    if scope["path"] not in OPEN_TO_ALL:
        _check_key(scope, rules.key)


def _check_origin(scope: Scope, host: str) -> None:
    """ApiError for what a page of another origin sent; programs send no Origin at all."""
    origin = _header(scope, b"origin")
    own = (f"http://{host}".casefold(), f"https://{host}".casefold())  # https: behind a proxy
    if origin is not None and origin.casefold() not in own:
        raise ApiError(
            f"pages of {quote(origin)} may not use this server", status=403, code="wrong_origin"
        )
    site = _header(scope, b"sec-fetch-site")
    is_page = scope["method"] in ("GET", "HEAD") and scope["path"] in OPEN_TO_ALL
    if site not in (None, "same-origin", "none") and not is_page:
        raise ApiError(
            "pages of another site may not use this server", status=403, code="wrong_origin"
        )


def _check_key(scope: Scope, key: str | None) -> None:
    if key is None:
        return
    given = _header(scope, b"authorization") or ""
    if not hmac.compare_digest(given.encode(), f"Bearer {key}".encode()):
        raise ApiError(
            "this server wants its key: Authorization: Bearer KEY",
            status=401,
            code="invalid_api_key",
            headers={"WWW-Authenticate": "Bearer"},
        )


def _header(scope: Scope, name: bytes) -> str | None:
    """The value of a header; ApiError if it is given more than once."""
    pairs: Iterable[tuple[bytes, bytes]] = scope["headers"]
    values = [value.decode("latin-1") for key, value in pairs if key == name]
    if len(values) > 1:
        raise ApiError(f"the header {name.decode()} is given twice")
    return values[0] if values else None


def _name_of(host: str) -> str:
    """The name in a Host header, without its port, in small letters; "" if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


# --- the body -----------------------------------------------------------------------------------
def _check_kind(scope: Scope) -> None:
    kind = (_header(scope, b"content-type") or "").partition(";")[0].strip().casefold()
    if kind != "application/json":
        raise ApiError("the header Content-Type must be application/json", status=415)


class RequestBody:
    """The body of a request: read whole, within limits, and then given to the application."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._is_whole = False  # whether its end has come
        self._has_timed_out = False
        self._body = bytearray()
        self._is_given = True

    async def read(self) -> None:
        """Read all of it; ApiError if it is too large, or takes too long."""
        self._is_given = False
        try:
            await asyncio.wait_for(self._read_parts(MAX_BODY_BYTES), BODY_SECONDS)
        except asyncio.TimeoutError:
            self._has_timed_out = True
            message = f"the body did not arrive within {BODY_SECONDS:g} seconds"
            raise ApiError(message, status=408) from None
        if len(self._body) > MAX_BODY_BYTES:
            raise ApiError(f"the body has more than {MAX_BODY_BYTES:,} bytes", status=413)

    async def discard(self) -> bool:
        """Read on and forget it, within limits; returns whether its end has come.

        A client that is still sending would not read why it was refused.
        """
        self._body.clear()
        with suppress(asyncio.TimeoutError):
            if not self._has_timed_out:
                await asyncio.wait_for(self._read_parts(MAX_DISCARDED_BYTES, False), BODY_SECONDS)
        return self._is_whole

    async def receive(self) -> Message:
        """For the application: first the body, and then whatever comes after it."""
        if self._is_given:
            return await self._receive()
        self._is_given = True
        return {"type": "http.request", "body": bytes(self._body), "more_body": False}

    async def _read_parts(self, max_bytes: int, is_kept: bool = True) -> None:
        n_bytes = 0
        while not self._is_whole and n_bytes <= max_bytes:
            message = await self._receive()
            part = message.get("body", b"")
            n_bytes += len(part)
            if is_kept:
                self._body += part
            self._is_whole = not message.get("more_body", False)  # also if the client has gone
