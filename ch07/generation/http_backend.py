"""Completions from a server: OpenAI's chat interface, or Ollama's, by the standard library alone.

The one idea: a server is a stranger. It may be slow, busy, half gone, or no such server at all;
what may pass is tried again after a wait, everything else ends in one sentence. What it sends is
read up to a limit, redirects are not followed, and the key is neither shown nor kept.
"""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from contextlib import suppress
from urllib.parse import urlsplit

from ch07.generation.completion import (
    CompletionError,
    Options,
    Refused,
    check_prompt,
    finished_completion,
)
from ch07.generation.server_protocols import (
    PassesBy,
    ollama_request,
    openai_request,
    read_ollama,
    read_openai,
)
from ch07.utils.console import terminal_line

KEY = "OPENAI_API_KEY"  # the environment variable
HERE = ("localhost", "127.0.0.1", "::1")
NOT_THIS = (400, 413, 422)  # too long, most often, or against the server's rules
MOST = 10_000_000  # bytes of an answer
LONGEST = 900  # seconds in which an answer must be whole, however steadily it drips
WAIT = 1.0
LONGEST_WAIT = 60.0  # seconds before the first new try, doubled each time; at most
BUSY = (408, 429, 500, 502, 503, 504)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None  # the prompt, and the key, go where they were sent


def complete_at_url(
    url,
    model,
    api_key=None,
    kind="openai",
    timeout=30,
    retries=3,
    stream=False,
    raw=False,
    allow_http=False,
    sleep=time.sleep,
):
    """`complete` by a server; ValueError for an address or a combination that can't be used.

    `kind` is "openai" (the key is `api_key`, else the environment's OPENAI_API_KEY) or "ollama",
    which also knows `stream` (line by line, so that `timeout` counts for each). `raw`: the prompt
    is continued as it is, without a chat template. `timeout` is in seconds. CompletionError when
    `retries` new tries didn't help, or at once where none could.
    """
    _check_kind(kind, model, stream)
    host = _checked(url, allow_http)
    api_key = _key(url, host, kind, api_key)
    path = "/v1/completions" if raw else "/v1/chat/completions"
    write, read = openai_request, read_openai
    if kind == "ollama":
        write, read, path = (ollama_request, read_ollama, "/api/generate" if raw else "/api/chat")
    headers = {"Content-Type": "application/json"}
    headers |= {"Authorization": f"Bearer {api_key}"} if api_key else {}
    fetch, address = _fetcher(host), _address(url, path)

    def complete(prompt, **options):
        asked = Options(**options)
        check_prompt(prompt)
        if raw and asked.system is not None:
            raise ValueError("a raw prompt is continued as it is: it can't have a system message")
        body = json.dumps(write(model, prompt, asked, stream, raw)).encode()
        request = urllib.request.Request(address, body, headers)

        def ask():
            text, reason = read(_fetched(fetch, request, timeout, model, api_key))
            return finished_completion(text, reason, asked.stop)

        return _tried(ask, host, retries, sleep)

    return complete


def _check_kind(kind, model, stream):
    if kind not in ("openai", "ollama"):
        raise ValueError(f"kind is {kind!r}, but must be openai or ollama")
    if kind == "openai" and stream:
        raise ValueError("stream is for kind ollama only")
    if not isinstance(model, str) or not model:
        raise ValueError("a server must be told which model to use: give its name")


# --- addresses ----------------------------------------------------------------------------------
def _checked(url, allow_http):
    """The host; ValueError for what isn't an address that is safe to ask."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not re.fullmatch("[!-~]+", url):
        raise ValueError(
            f"{terminal_line(str(url), 100)!r} is no address: it must be https://HOST/..."
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"the address of {host} must not hold a password, a ? or a #")
    if parts.scheme == "http" and host not in HERE and not allow_http:
        raise ValueError(
            f"{host} is asked over http, where anybody could read along: use https, or allow "
            "http (--allow-http) if the network is your own"
        )
    return host


def _key(url, host, kind, api_key):
    """The key that is sent, or None; ValueError where it would go over the network in the open."""
    plain = urlsplit(url).scheme == "http" and host not in HERE
    if kind == "openai" and api_key is None and not plain:
        api_key = os.environ.get(KEY)
    if api_key and plain:
        raise ValueError(f"the key isn't sent to {host} over http, where anybody could read it")
    if api_key and not (api_key.isascii() and api_key.isprintable()):
        raise ValueError("the API key holds signs that no key has")
    return api_key


def _address(url, path):
    """The whole address, however much of the path was given.

    >>> _address("https://api.openai.com/v1", "/v1/chat/completions")
    'https://api.openai.com/v1/chat/completions'
    """
    url, names = url.rstrip("/"), path.split("/")
    for other in ("/v1/chat/completions", "/v1/completions", "/api/chat", "/api/generate"):
        url = url.removesuffix(other)
    for n in range(len(names), 1, -1):
        head = "/".join(names[:n])
        if url.endswith(head):
            return url + path.removeprefix(head)
    return url + path


def _fetcher(host):
    """A function that fetches: without a proxy where the server is on this machine."""
    proxies = [urllib.request.ProxyHandler({})] if host in HERE else []
    return urllib.request.build_opener(_NoRedirect, *proxies).open


# --- the network --------------------------------------------------------------------------------
def _tried(ask, host, retries, sleep):
    """What `ask` returns, now or after a few waits."""
    for attempt in range(retries + 1):
        try:
            return ask()
        except PassesBy as error:
            if attempt == retries:
                raise CompletionError(
                    f"{host} gave no answer in {retries + 1} tries; the last time: {error}"
                ) from None
            sleep(min(LONGEST_WAIT, max(error.wait, WAIT * 2**attempt)))


def _fetched(fetch, request, timeout, model, api_key):
    """The bytes that the server answers with; `PassesBy` or CompletionError."""
    host = urlsplit(request.full_url).netloc
    try:
        with fetch(request, timeout=timeout) as response:
            return _read(response)
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(error, host, model, api_key) from None
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        if isinstance(cause, ConnectionRefusedError):
            raise CompletionError(f"nothing answers at {host}: is the server running?") from None
        if isinstance(cause, TimeoutError):
            raise PassesBy(f"nothing came for {timeout:g} seconds") from None
        if isinstance(cause, ConnectionError | http.client.HTTPException):
            raise PassesBy("the answer broke off") from None
        raise CompletionError(
            f"{host} can't be reached: {terminal_line(str(cause), 200)}"
        ) from None


def _read(response):
    """The whole body, within the limits of size and time."""
    data, started = bytearray(), time.monotonic()
    while block := response.read1(1 << 16):
        data += block
        if len(data) > MOST:
            raise CompletionError(f"the answer has more than {MOST / 1e6:g} MB: it isn't read")
        if time.monotonic() - started > LONGEST:
            raise CompletionError(f"the answer wasn't whole after {LONGEST} seconds")
    if response.length:  # so many bytes were promised, and did not come
        raise PassesBy("the answer broke off")
    return bytes(data)


def _refused(error, host, model, api_key):
    """The exception for a status that isn't 200."""
    code = error.code
    if code in BUSY:
        wait = error.headers.get("Retry-After") or ""
        return PassesBy(f"status {code}", float(wait) if wait.isdecimal() else 0.0)
    if 300 <= code < 400:
        return CompletionError(f"{host} sends on to another address, which is not followed")
    if code in (401, 403):
        return CompletionError(f"{host} refuses (status {code}): is {KEY} set, and right?")
    if code == 404:
        return CompletionError(
            f"{host} has no model {terminal_line(model, 60)!r}, "
            "or the address is wrong (status 404)"
        )
    said = b""
    with suppress(OSError, http.client.HTTPException):
        said = error.read(2000)
    said = said.decode(errors="replace")
    said = said.replace(api_key, "[key]") if api_key else said
    kind = Refused if code in NOT_THIS else CompletionError
    return kind(f"{host} answers with status {code}: {terminal_line(said.strip(), 300)}")
