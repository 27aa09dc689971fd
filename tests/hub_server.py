"""A server on this machine that stands in for the Hugging Face Hub, and misbehaves on request."""

import hashlib
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler

from local_server import answering

COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"


class Hub:
    """What the server gives, how it behaves, and what it was asked."""

    def __init__(self, content):
        self.content = content
        self.sha256 = hashlib.sha256(content).hexdigest()
        self.asked = []  # (method, path, range)
        self.manner = "good"
        self.breaks = 0  # so many answers end after a third of their bytes
        self.give_up_after = None  # so many downloads; then no answer has a byte
        self.odd = {}  # headers that are not as they should be
        self.url = None

    def names(self):
        """The headers that make an answer a Hub's."""
        return {
            "X-Repo-Commit": COMMIT,
            "X-Linked-Size": str(len(self.content)),
            "X-Linked-Etag": f'"{self.sha256}"',
            "ETag": '"1"',
            **self.odd,
        }


class Handler(BaseHTTPRequestHandler):
    hub: Hub

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        hub = self.hub
        hub.asked.append((self.command, self.path, self.headers.get("Range")))
        if hub.manner in STATUS:
            code, headers = STATUS[hub.manner]
            return self.reply(code, b"sorry" if body else b"", headers)
        if hub.manner == "no hub":  # a page of the hotel's network, say
            return self.reply(200, b"<html>Welcome</html>" if body else b"", {"ETag": '"1"'})
        if hub.manner == "redirect" and "/cdn/" not in self.path:
            return self.reply(302, b"", {**hub.names(), "Location": hub.url + "/cdn/file"})
        start = 0
        if self.headers.get("Range") and hub.manner != "no ranges":
            start = int(self.headers["Range"].removeprefix("bytes=").split("-")[0])
        content = hub.content[start:]
        if hub.manner == "altered":
            content = bytes([content[0] ^ 1]) + content[1:]
        headers = {**hub.names(), "Content-Length": str(len(content))}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(hub.content) - 1}/{len(hub.content)}"
        if body and hub.breaks > 0:
            hub.breaks -= 1
            content = content[: len(content) // 3]
        if body and hub.give_up_after is not None:
            hub.give_up_after -= 1
            content = content if hub.give_up_after >= 0 else b""
        if body and hub.manner == "silent":
            content = b""
        if body and hub.manner == "endless":
            return self.pour(content, {**hub.names(), "Transfer-Encoding": "chunked"})
        self.reply(206 if start else 200, content if body else b"", headers)

    def pour(self, content, headers, n_times=50):
        """The content again and again, without a word on how much will come."""
        self.protocol_version = "HTTP/1.1"
        self.send_response(200)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True
        with suppress(OSError):
            for _ in range(n_times):
                self.wfile.write(b"%x\r\n%b\r\n" % (len(content), content))
            self.wfile.write(b"0\r\n\r\n")

    def reply(self, code, content, headers):
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)
        self.close_connection = True


STATUS = {
    "no repository": (404, {"X-Error-Code": "RepoNotFound", "X-Repo-Commit": COMMIT}),
    "no file": (404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT}),
    "forbidden": (403, {"X-Error-Message": "your address is blocked"}),
    "down": (503, {}),
    "too many": (429, {}),
}


@contextmanager
def serving(content):
    """A `Hub` whose `url` answers while the block lasts."""
    hub = Hub(content)
    with answering(Handler, hub=hub) as hub.url:
        yield hub
