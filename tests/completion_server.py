"""A server on this machine that stands in for OpenAI's or Ollama's, and misbehaves on request."""

import json
import time
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler

from local_server import answering


def openai(text, reason="stop"):
    """The body of OpenAI's answer."""
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": reason}]})


def ollama(*pieces, reason="stop", raw=False):
    """The lines of Ollama's answer: one for each piece, and the last."""
    key = (
        (lambda text: {"response": text}) if raw else (lambda text: {"message": {"content": text}})
    )
    rows = [{**key(text), "done": False} for text in pieces]
    rows.append({**key(""), "done": True, "done_reason": reason})
    return "".join(json.dumps(row) + "\n" for row in rows)


class Stub:
    """What the server answers next, in order, the last of them for ever; and what it was asked."""

    def __init__(self, answers):
        self.answers = list(answers)  # (status, body) or (status, body, headers), or a function
        self.asked = []  # (path, headers, body)
        self.url = None


class Handler(BaseHTTPRequestHandler):
    stub: Stub

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.stub.asked.append((self.path, dict(self.headers), None))
        self.reply(200, openai("a redirect was followed"))

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.stub.asked.append((self.path, dict(self.headers), json.loads(body)))
        answers = self.stub.answers
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        answer(self) if callable(answer) else self.reply(*answer)

    def reply(self, code, body, headers=()):
        body = body if isinstance(body, bytes) else body.encode()
        self.send_response(code)
        for name, value in {"Content-Length": len(body), **dict(headers)}.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def hang(self):
        """Say nothing for longer than anybody waits here."""
        time.sleep(0.5)
        self.close_connection = True


def endless(start, piece, pause=0.0, seconds=20):
    """A function that sends some bytes, and then a piece again and again, till nobody listens."""

    def answer(handler):
        handler.close_connection = True
        end = time.monotonic() + seconds
        with suppress(OSError):
            handler.wfile.write(start)
            while time.monotonic() < end:
                handler.wfile.write(piece)
                time.sleep(pause)

    return answer


@contextmanager
def serving(*answers):
    """A `Stub` whose `url` answers while the block lasts."""
    stub = Stub(answers)
    with answering(Handler, stub=stub) as stub.url:
        yield stub
