"""A server that is broken, or means harm, can neither hold a command up nor have the key shown."""

import json
import socket
import threading
import time
from contextlib import suppress

import pytest
from completion_server import endless, ollama, openai, serving
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.generation import bounded_http
from ch07.generation.bounded_http import ExchangeLimits
from ch07.generation.completion import Completion, CompletionError
from ch07.generation.http_backend import complete_at_url
from ch07.generation.server_protocols import (
    MAX_JSON_DEPTH,
    MAX_STREAM_PARTS,
    Reply,
    TransientError,
    read_ollama,
    read_openai,
)

KEY = "sk-Proj_a/very+secret=Key&0123456789"
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
PAUSE = 0.02  # seconds between two pieces
LONGEST = 12  # seconds: these servers go on for 20, and a client has half a second


def ask(url, timeout=0.5, **how):
    return complete_at_url(url, "m", **{"timeout": timeout, "retries": 0, **how})("Hello")


@pytest.fixture
def short_answers(monkeypatch):
    """An answer may take a second."""
    monkeypatch.setattr(bounded_http, "MAX_ANSWER_SECONDS", 1)


# --- time ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (endless(b"", b"", PAUSE), "no complete reply within 0.5 seconds"),
        (endless(b"", b"H", PAUSE), "no complete reply within 0.5 seconds"),
        (endless(OK, b"X", PAUSE), "no complete reply within 0.5 seconds"),
        (endless(OK, b"X: y\r\n", PAUSE), "no complete reply within 0.5 seconds"),
        (endless(b"", b"HTTP/1.1 100 \r\n\r\n", PAUSE), "no complete reply within 0.5 seconds"),
        (endless(CHUNKED, b"0", PAUSE), "still incomplete after 1 seconds"),
        (endless(CHUNKED, b"1\r\nx\r\n", PAUSE), "still incomplete after 1 seconds"),
        (endless(CHUNKED + b"0\r\n", b"X: y\r\n", PAUSE), "still incomplete after 1 seconds"),
        (endless(OK + b"\r\n", b" ", PAUSE), "still incomplete after 1 seconds"),
        (endless(OK + b"\r\n", b" ", 5), "no data for 0.5 seconds"),
        (endless(b"HTTP/1.1 400 No\r\n\r\n", b"x", PAUSE), "status 400: its explanation is inc"),
        (endless(b"HTTP/1.1 503 No\r\n\r\n", b"x", PAUSE), "status 503: its explanation is inc"),
    ],
)  # fmt: skip
def test_whatever_a_server_drips_it_is_given_up_in_time(answer, message, short_answers):
    start = time.monotonic()
    with serving(answer) as stub, pytest.raises(CompletionError, match=message):
        ask(stub.url)
    assert time.monotonic() - start < LONGEST


def test_a_slow_model_that_is_never_silent_may_take_longer_than_the_timeout():
    def slowly(handler):
        handler.wfile.write(OK + b"\r\n")
        for line in ollama(*"slowly").splitlines(keepends=True):
            handler.wfile.write(line.encode())
            time.sleep(0.2)
        handler.close_connection = True

    with serving(slowly) as stub:
        assert ask(stub.url, timeout=1, kind="ollama", stream=True) == Completion("slowly")


@pytest.mark.parametrize("hello", [b"", b"\x16\x03\x03\x40\x00"])
def test_a_tls_handshake_that_never_ends_is_given_up(hello):
    """The second server announces a long record, and drips it."""
    server = socket.create_server(("127.0.0.1", 0))
    stopped = threading.Event()

    def drip():
        connection, _ = server.accept()
        with connection:
            while not stopped.wait(PAUSE):
                try:
                    connection.sendall(hello or b"")
                except OSError:
                    return

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    start = time.monotonic()
    try:
        with pytest.raises(CompletionError, match="no complete reply within"):
            ask(f"https://127.0.0.1:{server.getsockname()[1]}")
    finally:
        stopped.set()
        server.close()
        thread.join()
    assert time.monotonic() - start < LONGEST


def test_a_host_with_many_silent_addresses_is_given_up_in_time(monkeypatch):
    waits = []

    def connect(address, timeout):
        waits.append(timeout)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", connect)
    silent = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (f"192.0.2.{n}", 80)) for n in range(8)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *given, **named: silent)
    with pytest.raises(CompletionError, match="no complete reply within 8 seconds"):
        ask("http://localhost", timeout=8)
    assert len(waits) == 8 and all(0 < wait <= 8 / (8 - n) for n, wait in enumerate(waits))


def test_the_limits_of_an_exchange_on_a_clock_of_our_own():
    now = [100.0]
    limits = ExchangeLimits(30, clock=lambda: now[0])
    assert limits.seconds_to_wait() == 30
    now[0] += 29
    assert limits.seconds_to_wait() == 1
    now[0] += 1
    with pytest.raises(TransientError, match="no complete reply within 30 seconds"):
        limits.seconds_to_wait()
    limits.begin_answer()
    assert limits.seconds_to_wait() == 30 and "no data for 30 seconds" in str(limits.silence())
    now[0] += 880
    assert limits.seconds_to_wait() == 20 and "after 900 seconds" in str(limits.silence())
    now[0] += 20
    with pytest.raises(CompletionError, match="still incomplete after 900 seconds"):
        limits.seconds_to_wait()


# --- size ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 999), "headers .* more than 256 kB"),
        (endless(OK, b"X" * 9999), "headers that no answer has, or too many: is the address"),
        (endless(OK, b"X: y\r\n" * 99), "headers that no answer has, or too many"),
        (endless(OK + b"\r\n", b" " * 99_999), "the answer has more than 10 MB"),
        (endless(CHUNKED + b"0\r\n", b"X: y\r\n" * 9999), "more than 10 MB, most of them no text"),
        (
            endless(b"HTTP/1.1 400 No\r\n\r\n", b"x" * 999),
            "its explanation is incomplete, or longer",
        ),
    ],
)
def test_whatever_a_server_pours_out_it_is_too_much(answer, message):
    start = time.monotonic()
    with serving(answer) as stub, pytest.raises(CompletionError, match=message):
        ask(stub.url, timeout=10)
    assert time.monotonic() - start < LONGEST


@pytest.mark.parametrize("form", ["{}", '{{"error": {}}}', '{{"error": {{"message": {}}}}}'])
@pytest.mark.parametrize("marks", [("[", "]"), ('{"a":', "}")])
def test_json_that_is_nested_without_end_is_no_answer(form, marks):
    opening, closing = marks
    for depth in (MAX_JSON_DEPTH + 1, 100_000):
        answer = form.format(opening * depth + "1" + closing * depth)
        for read in (read_openai, read_ollama):
            with pytest.raises(CompletionError, match="nested more than 100 levels deep"):
                read(answer)


@given(st.text(alphabet='[{"\\]}ab ', max_size=30))
def test_brackets_in_a_text_are_no_nesting(text):
    assert read_openai(openai(text + "[" * 300)).text == text + "[" * 300


def test_a_stream_has_a_limited_number_of_parts():
    part = json.dumps({"response": "", "done": False}) + "\n"
    with pytest.raises(CompletionError, match="more than 100,000 parts"):
        read_ollama(part * (MAX_STREAM_PARTS + 1))


def test_a_reply_beyond_any_tokens_is_cut():
    """No token has more than 128 characters."""
    with serving((200, openai("a" * 1000))) as stub:
        complete = complete_at_url(stub.url, "m")
        assert complete("?", max_new_tokens=3) == Completion("a" * 3 * 128, "length")
        assert complete("?", max_new_tokens=8) == Completion("a" * 1000, "stop")


# --- nonsense -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location", ["/v1/chat/completions", "http://[x", "//[", "file:///etc", ""]
)
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_is_followed_wherever_it_leads(location, status):
    with (
        serving((status, "", {"Location": location})) as stub,
        pytest.raises(CompletionError, match="redirects to another address, which is not followed"),
    ):
        ask(stub.url)
    assert len(stub.asked) == 1


NAMES = ["error", "message", "choices", "content", "text", "response", "done", "finish_reason"]
NAMES += ["done_reason", "refusal", "type", "code", "detail", "param"]
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["stop", *NAMES]),
    lambda values: (
        st.lists(values, max_size=3) | st.dictionaries(st.sampled_from(NAMES), values, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=300)
@given(any_json)
def test_any_json_is_a_reply_or_an_error_of_ours(value):
    for read in (read_openai, read_ollama):
        with suppress(CompletionError, TransientError):
            assert isinstance(read(json.dumps(value)), Reply)


PIECES = [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 400 \r\n", b"HTTP/1.1 100 \r\n", b"HTTP/9", b"\r\n"]
PIECES += [b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n"]
PIECES += [b"Retry-After: x\r\n", b"Location: //[\r\n", b"5\r\n", b"-1\r\n", b"0\r\n", b"x" * 99]
PIECES += [openai("ok").encode(), b"\xff\xfe", b"\0", b": ", b"1 \n\n"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=8).map(b"".join))
def test_any_bytes_are_an_answer_or_an_error_of_ours(data):
    def answer(handler):
        handler.close_connection = True
        handler.wfile.write(data)

    with serving(answer) as stub, suppress(CompletionError):
        assert isinstance(ask(stub.url, timeout=10), Completion)
