"""Completions from a server: OpenAI's chat interface or Ollama's, with the standard library alone.

Failures that may be temporary are retried after a wait; all others give a one-line error.
Limits of size and time hold for all that a server sends, and redirects are not followed
(`bounded_http`). Whatever arrives is searched for the API key first, which is neither shown nor
stored (`key_mask`).
"""

import http.client
import json
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ch07 import __version__
from ch07.generation.bounded_http import MAX_ERROR_BYTES, Fetch, open_url, read_answer, read_error
from ch07.generation.completion import (
    Complete,
    Completion,
    CompletionError,
    CompletionOptions,
    PromptRejected,
    SchemaUnsupported,
    check_prompt,
    finished_completion,
    refuse_schema,
)
from ch07.generation.key_mask import KeyMasks, key_masks
from ch07.generation.server_protocols import PROTOCOLS, TRANSIENT_STATUS, Reply, TransientError
from ch07.utils.console import count, terminal_line
from ch07.utils.errors import InputError
from ch07.utils.hosts import LOCAL_HOSTS

KEY_VARIABLE = "OPENAI_API_KEY"  # of the environment
KEY_CHARACTERS = re.compile(r"[!-\[\]-~]+")  # letters, digits and signs, but no backslash
PATHS = [path for each in PROTOCOLS.values() for path in (each.chat_path, each.raw_path)]
PROMPT_REJECTED_STATUS = (400, 413, 422)  # too long, most often, or against the server's rules
MAX_TOKEN_CHARACTERS = 128  # of the longest tokens: runs of spaces, or of dashes
MAX_WAIT_CHARACTERS = 100  # of a Retry-After
VERSION = re.compile(r"/v\d+(?:(?:alpha|beta)\d*)?(?:/|$)")  # in the path of an address
USER_AGENT = f"ch07/{__version__}"  # some servers refuse Python's own name
NO_QUOTA = "insufficient_quota"  # the code of a 429 that no waiting helps
CUT_OFF = (ConnectionError, http.client.IncompleteRead, http.client.BadStatusLine)
FIRST_WAIT_SECONDS = 1.0  # before the first retry; doubled before each further one
MAX_WAIT_SECONDS = 60.0


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
    "ollama". A reply must begin within `timeout` seconds, and no silence in it may be longer (more
    in `bounded_http`). Ollama can `stream` an answer line by line. With `raw`, the prompt is
    continued as it is, without a chat template. Options that the server refuses by name are left
    out, or renamed, from then on, and `report` is told; a refused schema is `SchemaUnsupported`.
    The function raises CompletionError after `retries` retries, or at once where none can help.
    """
    _check_kind(kind, model, stream)
    host = _validate_host(url, allow_http)
    api_key = _resolve_api_key(url, host, kind, api_key)
    protocol = PROTOCOLS[kind]
    address = _address(url, protocol.raw_path if raw else protocol.chat_path)
    fetch = open_url(host)
    headers = _headers(api_key)
    masks = key_masks(api_key)
    wishes = ServerWishes(protocol.adapt, report)

    def complete(prompt: str, **options: Any) -> Completion:
        limits = CompletionOptions(**options)
        check_prompt(prompt)
        _check_options(limits, raw)
        whole = protocol.request(model, prompt, limits, stream=stream, raw=raw)

        def send(body: dict[str, Any]) -> Completion:
            if limits.schema is not None and protocol.schema_field not in body:
                raise SchemaUnsupported(f"{host} takes no JSON schema: ask without one")
            request = urllib.request.Request(address, json.dumps(body).encode(), headers)
            answer = _fetch_answer(fetch, request, timeout=timeout, model=model, masks=masks)
            reply = _cut(protocol.read(answer), limits.max_new_tokens)
            return finished_completion(reply.text, reply.finish_reason, limits.stop)

        return _with_retries(lambda: wishes.ask(send, whole), host, retries, sleep)

    return complete


def _check_options(options: CompletionOptions, raw: bool) -> None:
    """InputError or `SchemaUnsupported` for what a raw prompt can't have."""
    if raw and options.system is not None:
        raise InputError("a raw prompt is continued as it is: it can't have a system message")
    if raw:
        refuse_schema(options)


def _cut(reply: Reply, max_new_tokens: int) -> Reply:
    """The reply without what is certainly beyond the limit of tokens, which a server may ignore."""
    max_characters = MAX_TOKEN_CHARACTERS * max_new_tokens
    if len(reply.text) <= max_characters:
        return reply
    return Reply(reply.text[:max_characters], "length")


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
                if after is None:  # each change leaves less to be refused
                    raise
                self._refusals.append(str(error))
                self._report(_describe_change(before, after))


def _describe_change(before: dict[str, Any], after: dict[str, Any]) -> str:
    """What a server refused in a request, and what is sent in its place."""
    changed = [name for name in before if before[name] != after.get(name)]
    new = after.keys() - before.keys()
    if new:
        how = f"with {', '.join(new)} instead"
    elif all(name in after for name in changed):
        how = "with a simpler one"
    else:
        how = "without it"
    return f"the server refused {', '.join(changed)}; the request is sent again {how}"


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
    if api_key and not KEY_CHARACTERS.fullmatch(api_key):
        raise InputError(
            "the API key contains a space or another character that no key can have: check it"
        )
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
                attempts = count(retries + 1, "attempt")
                raise CompletionError(
                    f"{host} gave no answer in {attempts}; the last error: {error}"
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
    masks: KeyMasks,
) -> str:
    """The server's answer, without the key; TransientError or CompletionError if there is none."""
    host = urlsplit(request.full_url).netloc
    try:
        with fetch(request, timeout=timeout) as response:
            return masks.answer(_decode(read_answer(response)))
    except urllib.error.HTTPError as error:
        with error:
            raise _error_for_status(error, host, model, masks.error) from None
    except (urllib.error.URLError, OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, ConnectionRefusedError):
            raise CompletionError(f"nothing answers at {host}: is the server running?") from None
        if isinstance(cause, TimeoutError):
            raise TransientError(f"no complete reply within {timeout:g} seconds") from None
        if isinstance(cause, CUT_OFF):
            raise TransientError("the answer was cut off") from None
        if isinstance(cause, http.client.HTTPException):
            raise CompletionError(
                f"{host} sends headers that no answer has, or too many: is the address right?"
            ) from None
        raise CompletionError(
            f"{host} can't be reached: {terminal_line(masks.error(str(cause)), 200)}"
        ) from None


def _decode(body: bytes) -> str:
    """The text of a body, in any of the encodings of JSON."""
    try:
        return body.decode(json.detect_encoding(body), "surrogatepass")
    except UnicodeDecodeError:
        return body.decode(errors="replace")


def _error_for_status(
    error: urllib.error.HTTPError, host: str, model: str, mask: Callable[[str], str]
) -> TransientError | CompletionError:
    """The exception for a status other than 200."""
    status = error.code
    reason = _reason_in_body(read_error(error), mask)
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
    if not wait or len(wait) > MAX_WAIT_CHARACTERS:
        return None
    try:
        return max(0.0, float(wait))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(wait).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def _reason_in_body(body: bytes | None, mask: Callable[[str], str]) -> str:
    """What the body of an error says, on one line: its message if it is JSON, else its text.

    Nothing of an incomplete body is shown, since half a key at its end could not be recognised.
    """
    if body is None:
        return f"its explanation is incomplete, or longer than {MAX_ERROR_BYTES / 1000:g} kB"
    text = mask(_decode(body))
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
    return terminal_line(" ".join(mask(text).split()), 300)
