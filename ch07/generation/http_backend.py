"""Completions from a server: OpenAI's chat interface or Ollama's, with the standard library alone.

Failures that may be temporary are retried after a wait; all others give a one-line error.
Answers are read up to a limit of size and time, redirects are not followed, and the API key is
neither shown nor stored.
"""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ch07 import __version__
from ch07.generation.completion import (
    Complete,
    Completion,
    CompletionError,
    CompletionOptions,
    PromptRejected,
    check_prompt,
    finished_completion,
)
from ch07.generation.server_protocols import PROTOCOLS, TRANSIENT_STATUS, TransientError
from ch07.utils.console import terminal_line
from ch07.utils.errors import InputError
from ch07.utils.hosts import LOCAL_HOSTS

KEY_VARIABLE = "OPENAI_API_KEY"  # of the environment
PATHS = [path for each in PROTOCOLS.values() for path in (each.chat_path, each.raw_path)]
PROMPT_REJECTED_STATUS = (400, 413, 422)  # too long, most often, or against the server's rules
MAX_ANSWER_BYTES = 10_000_000
MAX_ANSWER_SECONDS = 900  # until an answer is complete, however steadily it arrives
MAX_ERROR_BYTES = 2000  # of the body of an error that are read
VERSION = re.compile(r"/v\d+(?:(?:alpha|beta)\d*)?(?:/|$)")  # in the path of an address
USER_AGENT = f"ch07/{__version__}"  # some servers refuse Python's own name
NO_QUOTA = "insufficient_quota"  # the code of a 429 that no waiting helps
READ_BYTES = 2**16  # of an answer, at a time
FIRST_WAIT_SECONDS = 1.0  # before the first retry; doubled before each further one
MAX_WAIT_SECONDS = 60.0

Fetch = Callable[..., Any]  # urlopen, as of an opener: (request, timeout=) -> response


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Prompt and key only go to the address that was given."""

    def redirect_request(self, *arguments: Any) -> None:
        return None


def complete_at_url(
    url: str,
    model: str,
    *,
    api_key: str | None = None,
    kind: str = "openai",
    timeout: float = 30,
    retries: int = 3,
    stream: bool = False,
    raw: bool = False,
    allow_http: bool = False,
    sleep: Callable[[float], None] = time.sleep,
    report: Callable[[str], None] = lambda text: None,
) -> Complete:
    """A `complete` that asks a server; ValueError for an address or arguments that can't be used.

    `kind` is "openai" (with `api_key`, by default from the environment's OPENAI_API_KEY) or
    "ollama". Ollama can `stream` an answer line by line; `timeout`, in seconds, then applies to
    each line. With `raw`, the prompt is continued as it is, without a chat template. Options that
    the server refuses by name are left out, or renamed, from then on, and `report` is told. The
    function raises CompletionError after `retries` retries, or at once where a retry can't help.
    """
    _check_kind(kind, model, stream)
    host = _validate_host(url, allow_http)
    api_key = _resolve_api_key(url, host, kind, api_key)
    protocol = PROTOCOLS[kind]
    address = _address(url, protocol.raw_path if raw else protocol.chat_path)
    fetch = _fetcher(host)
    headers = _headers(api_key)
    wishes = ServerWishes(protocol.adapt, report)

    def complete(prompt: str, **options: Any) -> Completion:
        limits = CompletionOptions(**options)
        check_prompt(prompt)
        if raw and limits.system is not None:
            raise InputError("a raw prompt is continued as it is: it can't have a system message")
        whole = protocol.request(model, prompt, limits, stream=stream, raw=raw)

        def send(body: dict[str, Any]) -> Completion:
            request = urllib.request.Request(address, json.dumps(body).encode(), headers)
            data = _fetch_answer(fetch, request, timeout=timeout, model=model, api_key=api_key)
            reply = protocol.read(data)
            return finished_completion(reply.text, reply.finish_reason, limits.stop)

        return _with_retries(lambda: wishes.ask(send, whole), host, retries, sleep)

    return complete


def _headers(api_key: str | None) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
    return {**headers, "Authorization": f"Bearer {api_key}"} if api_key else headers


class ServerWishes:
    """What a server has refused in a request, so that later requests don't have it."""

    def __init__(
        self,
        adapt: Callable[[dict[str, Any], str], dict[str, Any] | None],
        report: Callable[[str], None],
    ) -> None:
        self._adapt = adapt
        self._report = report
        self._refusals: list[str] = []  # the messages, in order

    def apply(self, body: dict[str, Any]) -> dict[str, Any]:
        """The request without what was refused so far."""
        for message in self._refusals:
            body = self._adapt(body, message) or body
        return body

    def ask(self, send: Callable[[dict[str, Any]], Completion], body: dict[str, Any]) -> Completion:
        """The answer to a request, which is sent again where a refusal names what to change."""
        while True:
            before = self.apply(body)
            try:
                return send(before)
            except PromptRejected as error:
                after = self._adapt(before, str(error))
                if after is None:  # each change leaves a field fewer to be refused
                    raise
                self._refusals.append(str(error))
                refused = ", ".join(before.keys() - after.keys())
                new = ", ".join(after.keys() - before.keys())
                how = f"with {new} instead" if new else "without it"
                self._report(f"the server refused {refused}; the request is sent again {how}")


def _check_kind(kind: str, model: str, stream: bool) -> None:
    if kind not in PROTOCOLS:
        raise InputError(f"kind is {kind!r}, but must be openai or ollama")
    if kind == "openai" and stream:
        raise InputError("stream is for kind ollama only")
    if not isinstance(model, str) or not model:
        raise InputError("a server needs the name of the model to use")


# --- addresses ----------------------------------------------------------------------------------
def _validate_host(url: str, allow_http: bool) -> str:
    """The host of an address; ValueError unless it is safe to send a prompt there."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
        _ = parts.port  # a ValueError if it isn't a number
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not re.fullmatch("[!-~]+", url):
        raise InputError(
            f"{terminal_line(str(url), 100)!r} is not an address: it must be https://HOST/..."
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise InputError(f"the address of {host} must not contain a password, a ? or a #")
    if parts.scheme == "http" and host not in LOCAL_HOSTS and not allow_http:
        raise InputError(
            f"prompts would go to {host} over http, where anybody could read them: use https, or "
            "pass --allow-http if you trust the network"
        )
    return host


def _resolve_api_key(url: str, host: str, kind: str, api_key: str | None) -> str | None:
    """The key to send, or None; ValueError if the network could read it."""
    is_exposed = urlsplit(url).scheme == "http" and host not in LOCAL_HOSTS
    if kind == "openai" and api_key is None and not is_exposed:
        api_key = os.environ.get(KEY_VARIABLE)
    if api_key and is_exposed:
        raise InputError(
            f"the key isn't sent to {host} over http, where anybody could read it: use https"
        )
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise InputError("the API key contains characters that no key can have: check it")
    return api_key


def _address(url: str, path: str) -> str:
    """The full address, however much of the path was given.

    An address with a version in its path is a base, to which only what follows the version is
    added.

    >>> _address("https://api.openai.com/v1", "/v1/chat/completions")
    'https://api.openai.com/v1/chat/completions'
    >>> _address("https://example.org/v1beta/openai/", "/v1/chat/completions")
    'https://example.org/v1beta/openai/chat/completions'
    """
    url = url.rstrip("/")
    for known_path in PATHS:
        url = url.removesuffix(known_path)
    for ending in ("/chat/completions", "/completions"):
        if path.endswith(ending) and url.endswith(ending):
            url = url.removesuffix(ending)
    names = path.split("/")
    for n in range(len(names), 1, -1):
        beginning = "/".join(names[:n])
        if url.endswith(beginning):
            return url + path.removeprefix(beginning)
    if path.startswith("/v1/") and VERSION.search(urlsplit(url).path):
        return url + path.removeprefix("/v1")
    return url + path


def _fetcher(host: str) -> Fetch:
    """A function like urlopen, without redirects, and without a proxy for this machine."""
    proxies = [urllib.request.ProxyHandler({})] if host in LOCAL_HOSTS else []
    return urllib.request.build_opener(_NoRedirect, *proxies).open


# --- the network --------------------------------------------------------------------------------
def _with_retries(
    ask: Callable[[], Completion], host: str, retries: int, sleep: Callable[[float], None]
) -> Completion:
    """What `ask` returns, at once or after some waits; CompletionError if all attempts fail."""
    attempt = 0
    while True:
        try:
            return ask()
        except TransientError as error:
            if attempt >= retries:
                raise CompletionError(
                    f"{host} gave no answer in {retries + 1} attempts; the last error: {error}"
                ) from None
            backoff = FIRST_WAIT_SECONDS * 2**attempt
            sleep(min(MAX_WAIT_SECONDS, max(error.wait, backoff)))
        attempt += 1


def _fetch_answer(
    fetch: Fetch,
    request: urllib.request.Request,
    *,
    timeout: float,
    model: str,
    api_key: str | None,
) -> bytes:
    """The body of the server's answer; TransientError or CompletionError if there is none."""
    host = urlsplit(request.full_url).netloc
    try:
        with fetch(request, timeout=timeout) as response:
            return _read_body(response)
    except urllib.error.HTTPError as error:
        with error:
            raise _error_for_status(error, host, model, api_key) from None
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, ConnectionRefusedError):
            raise CompletionError(f"nothing answers at {host}: is the server running?") from None
        if isinstance(cause, TimeoutError):
            raise TransientError(f"no data for {timeout:g} seconds") from None
        if isinstance(cause, ConnectionError | http.client.HTTPException):
            raise TransientError("the answer was cut off") from None
        raise CompletionError(
            f"{host} can't be reached: {terminal_line(str(cause), 200)}"
        ) from None


def _read_body(response: http.client.HTTPResponse) -> bytes:
    """The whole body, within the limits of size and time."""
    data = bytearray()
    started = time.monotonic()
    while block := response.read1(READ_BYTES):
        data += block
        if len(data) > MAX_ANSWER_BYTES:
            raise CompletionError(f"the answer has more than {MAX_ANSWER_BYTES / 1e6:g} MB")
        if time.monotonic() - started > MAX_ANSWER_SECONDS:
            raise CompletionError(
                f"the answer was still incomplete after {MAX_ANSWER_SECONDS} seconds"
            )
    if response.length:  # bytes that were announced and did not arrive
        raise TransientError("the answer was cut off")
    return bytes(data)


def _error_for_status(
    error: urllib.error.HTTPError, host: str, model: str, api_key: str | None
) -> TransientError | CompletionError:
    """The exception for a status other than 200."""
    status = error.code
    reason = _reason_in_body(error, api_key)
    said = f": {reason}" if reason else ""
    seconds = _seconds_to_wait(error.headers.get("Retry-After"))
    may_retry = seconds is not None or "retry" in reason.casefold()
    is_empty = NO_QUOTA in reason or ("billing" in reason and not may_retry)
    if status in TRANSIENT_STATUS and not is_empty:
        return TransientError(f"status {status}{said}", seconds or 0.0)
    if 300 <= status < 400:
        return CompletionError(f"{host} redirects to another address, which is not followed")
    if status in (401, 403):
        question = f"is {KEY_VARIABLE} set correctly?"
        if status == 403 and reason:  # the key may be right, and something else not allowed
            return CompletionError(f"{host} denies access (status 403){said}")
        return CompletionError(f"{host} denies access (status {status}){said}; {question}")
    if status == 404:
        return CompletionError(
            f"{host} has no model {terminal_line(model, 60)!r}, "
            f"or the address is wrong (status 404){said}"
        )
    error_type = PromptRejected if status in PROMPT_REJECTED_STATUS else CompletionError
    return error_type(f"{host} answers with status {status}{said}")


def _seconds_to_wait(wait: str | None) -> float | None:
    """The seconds of a Retry-After, which may be a date; None if there is none."""
    if not wait:
        return None
    try:
        return max(0.0, float(wait))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(wait).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _reason_in_body(error: urllib.error.HTTPError, api_key: str | None) -> str:
    """What the body of an error says, on one line: its message if it is JSON, else its text."""
    body = b""
    with suppress(OSError, http.client.HTTPException):
        body = error.read(MAX_ERROR_BYTES)
    text = body.decode(errors="replace")
    try:
        value: Any = json.loads(text)
        in_list = isinstance(value, list) and value  # Gemini
        first: Any = value[0] if in_list else value
        inner = first.get("error", first)
        if isinstance(inner, dict):
            parts = [inner.get(name) for name in ("message", "detail", "code", "param")]
            if inner.get("type") == NO_QUOTA != inner.get("code"):
                parts.append(NO_QUOTA)
            text = " ".join(str(part) for part in parts if part) or text
        elif isinstance(inner, str):
            text = inner
    except (ValueError, AttributeError, RecursionError):
        pass  # a page, or a plain sentence
    if api_key:
        text = text.replace(api_key, "[key]")
    return terminal_line(" ".join(text.split()), 300)
