"""What strangers may try: other origins, other names, bodies without end, and no key."""

import json
import socket
import time

import pytest
from served import PausedBatch, chat_body, serving, trained, wait_until

from ch07.serving import http_server, security
from ch07.serving.security import names_of_this_machine

KEY = "sk-a-key-of-this-test"
JSON = {"Content-Type": "application/json"}
CHAT = "/v1/chat/completions"
SAFE = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


@pytest.fixture(scope="module")
def served(tokenizer):
    with serving() as server:
        yield server


@pytest.fixture(scope="module")
def locked(tokenizer):
    with serving(key=KEY) as server:
        yield server


def body(**options):
    return json.dumps(chat_body("Hello", max_tokens=2, **options)).encode()


def refused(served, status, code=None, *, method="POST", path=CHAT, data=None, **headers):
    """Check that a request is refused, in OpenAI's form, and that nobody else may read why."""
    sent = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    data = body() if data is None and method == "POST" else data
    got, answer_headers, answer = served.request(method, path, data, sent)
    assert got == status, answer
    error = json.loads(answer)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert code is None or error["code"] == code
    check_headers(answer_headers)
    return error["message"]


def check_headers(headers):
    for name, value in SAFE.items():
        assert headers[name] == value
    assert not any(name.lower().startswith("access-control") for name in headers)
    assert "server" not in {name.lower() for name in headers}


# --- other names and origins --------------------------------------------------------------------
@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "127.0.0.1.evil.example"])
@pytest.mark.parametrize("path", ["/", "/v1/models", "/chat/about", "/nowhere"])
def test_another_name_of_this_server_is_refused(served, host, path):
    """DNS rebinding: a stranger's name that suddenly means this machine."""
    refused(served, 403, "wrong_host", method="GET", path=path, Host=host)


@pytest.mark.parametrize("host", ["192.168.1.5:8000", "10.0.0.1", "[::2]", "0.0.0.0"])
def test_an_address_that_is_not_ours_is_refused_without_a_key(served, host):
    refused(served, 403, "wrong_host", method="GET", path="/v1/models", Host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:9000", "[::1]:8000", "LOCALHOST"])
def test_every_name_of_this_machine_is_right(served, host):
    assert served.request("GET", "/v1/models", headers={"Host": host})[0] == 200


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "", "http://127.0.0.1:1", "http://localhost", "file://"],
)
def test_a_page_of_another_origin_is_refused(served, origin):
    refused(served, 403, "wrong_origin", Origin=origin)
    refused(served, 403, "wrong_origin", method="GET", path="/v1/models", Origin=origin)
    refused(served, 403, "wrong_origin", method="GET", path="/", Origin=origin)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_browser_says_for_whom_it_asks(served, site):
    refused(served, 403, "wrong_origin", Sec_Fetch_Site=site)
    link = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "navigate"}
    assert served.request("GET", "/", headers=link)[0] == 200  # a link to the page may be followed


def test_our_own_page_and_programs_are_served(served):
    own = {**JSON, "Origin": served.url, "Sec-Fetch-Site": "same-origin"}
    for headers in (JSON, own):
        status, got, _ = served.request("POST", CHAT, body(), headers)
        assert status == 200
        check_headers(got)


def test_a_preflight_allows_nothing(served):
    status, headers, _ = served.request(
        "OPTIONS",
        CHAT,
        headers={"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"},
    )
    assert status == 403
    check_headers(headers)


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "json"]
)
def test_json_that_does_not_say_so_is_refused(served, kind):
    """A page of another origin can send these kinds without asking first."""
    refused(served, 415, Content_Type=kind)


def test_a_charset_may_be_named(served):
    assert (
        served.request("POST", CHAT, body(), {"Content-Type": "application/json; charset=utf-8"})[0]
        == 200
    )


def test_the_page_can_stand_in_no_frame_and_says_what_may_run(served):
    status, headers, page = served.request("GET", "/")
    assert status == 200 and b"Content-Security-Policy" in page
    check_headers(headers)


# --- the key ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "given", [None, "", KEY, "Bearer", "Bearer wrong", f"Basic {KEY}", "Bearer é"]
)
def test_without_the_right_key_nothing_is_told(locked, given):
    headers = {} if given is None else {"Authorization": given}
    for method, path in (("GET", "/v1/models"), ("GET", "/chat/about"), ("POST", CHAT)):
        refused(locked, 401, "invalid_api_key", method=method, path=path, **headers)
    refused(locked, 401, method="POST", path="/chat/prompt", **headers)


def test_with_the_key_everything_is(locked):
    headers = {"Authorization": f"Bearer {KEY}"}
    assert locked.request("GET", "/chat/about", headers=headers)[0] == 200
    assert locked.request("POST", CHAT, body(), {**JSON, **headers})[0] == 200
    assert locked.request("GET", "/v1/models", headers={**headers, "Host": "192.168.1.5"})[0] == 200


def test_the_page_asks_for_the_key_and_holds_nothing(locked):
    status, _, page = locked.request("GET", "/")
    assert status == 200 and KEY.encode() not in page and b"small" not in page


def test_names_of_this_machine():
    assert names_of_this_machine("127.0.0.1") == {"localhost", "127.0.0.1", "::1"}
    assert "192.0.2.7" in names_of_this_machine("192.0.2.7")


# --- bodies -------------------------------------------------------------------------------------
def test_a_large_body_is_refused(served):
    refused(served, 413, data=b'{"model": "' + b"x" * security.MAX_BODY_BYTES + b'"}')


@pytest.mark.parametrize("path", ["/v1/completions", "/chat/prompt", "/v1/models"])
def test_on_every_path(served, path):
    refused(served, 413, path=path, data=b"x" * (security.MAX_BODY_BYTES + 1))


def test_many_messages_are_refused(served):
    messages = [{"role": "user", "content": ""}] * 10_000
    message = refused(
        served, 400, data=json.dumps({"model": "small", "messages": messages}).encode()
    )
    assert "at most 1,000" in message
    messages *= 10
    refused(served, 413, data=json.dumps({"model": "small", "messages": messages}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 500_000,
        b'{"a":' * 100_000,
        b'{"messages": NaN}',
        b'\xff\xfe{"a": 1}',
        b'{"model": "small", "messages": [{"role": "user", "content": "\\ud83d"}]}',
        b'{"model": "\\ud83d", "messages": [{"role": "user", "content": "a"}]}',
        b'{"\\ud83d": 1}',
        b'{"model": "small", "messages": [{"role": "user", "content": "a"}], "max_tokens": 1e999}',
        b'{"model": "small", "messages": [{"role": "user", "content": "a"}], "max_tokens": -5}',
        b'{"model": "small", "messages": [{"role": "user", "content": {"a": []}}]}',
    ],
    ids=range(10),
)
def test_odd_json_is_refused_and_the_server_lives(served, data):
    status = 404 if b'"model": "\\ud83d"' in data else 400
    refused(served, status, data=data)
    assert served.chat("Hello", max_tokens=1)[0] == 200


def test_a_word_that_is_slow_to_tokenize_stops_nobody(served):
    """100,000 letters without a space: read aside, while others are answered."""
    started = time.monotonic()
    refused(
        served, 400, "context_length_exceeded", data=json.dumps(chat_body("a" * 99_999)).encode()
    )
    assert time.monotonic() - started < 30


def connect(served):
    opened = socket.create_connection(("127.0.0.1", served.port), timeout=60)
    return opened


def send_slowly(served, *parts):
    """What the server says, if anything, before it closes the connection."""
    with connect(served) as opened:
        for part in parts:
            opened.sendall(part)
        received = b""
        try:
            while piece := opened.recv(65536):
                received += piece
        except ConnectionError:
            pass
        return received


HEAD = f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n".encode()


def test_a_chunked_body_without_end_is_cut_off(served):
    with connect(served) as opened:
        opened.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        sent = 0
        answer = b""
        opened.settimeout(60)
        try:
            while sent < 50_000_000:
                opened.sendall(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
                sent += 0x10000
        except OSError:
            pass
        try:
            answer = opened.recv(65536)
        except OSError:
            answer = b"HTTP/1.1 413"  # the connection was closed before it could be read
    assert sent < 20_000_000 and answer.startswith(b"HTTP/1.1 413")


def test_a_body_that_never_comes_is_not_waited_for(served, monkeypatch):
    monkeypatch.setattr(security, "BODY_SECONDS", 0.2)
    answer = send_slowly(served, HEAD + b"Content-Length: 50\r\n\r\n{")
    assert answer.startswith(b"HTTP/1.1 408") and b"did not arrive within 0.2 seconds" in answer


@pytest.mark.parametrize("start", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: loc"])
def test_a_head_that_never_ends_is_not_waited_for(served, monkeypatch, start):
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.2)
    assert send_slowly(served, *([start] if start else [])) == b""


def test_a_second_head_that_never_ends_is_not_waited_for_either(served, monkeypatch):
    whole = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.3)
    answer = send_slowly(served, whole + b"GET / HT")
    assert answer.count(b"HTTP/1.1") == 1 and answer.startswith(b"HTTP/1.1 200")


def test_a_request_that_takes_longer_than_a_head_may_is_served(monkeypatch):
    monkeypatch.setattr(http_server, "HEAD_SECONDS", 0.2)
    run = trained()
    batch = PausedBatch(run)
    with serving(run, batch=batch) as served, connect(served) as opened:
        data = body()
        opened.sendall(HEAD + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        wait_until(lambda: served.engine.n_open == 1)
        time.sleep(0.5)
        batch.allow(10)
        assert opened.recv(65536).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "request_text",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10**6 + b"\r\n\r\n",
        b"POST /v1/models HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"GET http://[ HTTP/1.1\r\nHost: [\r\n\r\n",
    ],
    ids=range(6),
)
def test_what_is_no_http_is_refused_and_the_server_lives(served, request_text):
    answer = send_slowly(served, request_text)
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 403", b"HTTP/1.1 431"))
    assert served.chat("Hello", max_tokens=1)[0] == 200


def test_a_client_that_does_not_read_stops_nobody(monkeypatch):
    """Its answer is written and kept; when its time is over, its connection is closed."""
    monkeypatch.setattr("ch07.serving.app.SENDING_SECONDS", 0.2)
    with serving(time_limit=1) as served, connect(served) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        data = json.dumps(chat_body("Hello", max_tokens=200, stream=True)).encode()
        opened.sendall(HEAD + f"Content-Length: {len(data)}\r\n\r\n".encode() + data)
        assert served.chat("Hello", max_tokens=5)[0] == 200
        served.wait_until_idle()


@pytest.mark.parametrize(
    "path", ["/../etc/passwd", "/%2e%2e/", "/v1/models/%00", "//evil.example/"]
)
def test_there_is_nothing_at_other_addresses(served, path):
    refused(served, 404, method="GET", path=path)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_refused(served, method):
    refused(served, 405, method=method)


def test_many_idle_connections_leave_room_for_others(served):
    idle = [connect(served) for _ in range(100)]
    try:
        assert served.chat("Hello", max_tokens=1)[0] == 200
    finally:
        for one in idle:
            one.close()
