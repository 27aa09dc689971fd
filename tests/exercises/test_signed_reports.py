"""Reports from a learner's process: a line is believed whole and signed, or not at all."""

import io
import json
from dataclasses import asdict

import pytest

from ch07.exercises.report import Report
from ch07.exercises.signed_reports import MAX_LINE_BYTES, _signature, read_reports, signed_line

TOKEN = "f00d" * 16
RIGHT = Report("format_input", "passed", sentence="right.")
WRONG = Report("generate", "mistake", "raised", "It broke.", "a | b", "printed \ud800\n", "a hint")
NAMES = [RIGHT.exercise, WRONG.exercise]


def read(*lines, names=NAMES):
    return read_reports(io.BytesIO(b"".join(lines)), TOKEN, names, "mine.py")


def signed(text):
    """A line with a right signature, as code that found the token would write it."""
    return _signature(text, TOKEN) + b" " + text + b"\n"


def test_what_is_written_is_read():
    lines = [signed_line(report, TOKEN) for report in (RIGHT, WRONG)]
    assert read(*lines) == ([RIGHT, WRONG], False)
    assert read(lines[0], lines[1][:-2]) == ([RIGHT], False)  # died while writing
    assert read() == ([], False)


def test_there_are_never_more_reports_than_names():
    lines = [signed_line(report, TOKEN) for report in (RIGHT, WRONG)]
    assert read(*lines, *lines * 50, b"\n" * 50) == ([RIGHT, WRONG], False)
    assert read(lines[0], lines[0], lines[1]) == ([RIGHT], True)
    assert read(lines[1], lines[0]) == ([], True)


def test_a_report_on_the_whole_file_stands_alone_and_is_never_good():
    whole = Report("mine.py", "mistake", "import", "It can't be imported.")
    right = signed_line(RIGHT, TOKEN)
    assert read(signed_line(whole, TOKEN), right) == ([whole], False)
    assert read(right, signed_line(whole, TOKEN)) == ([RIGHT], True)
    assert read(signed_line(Report("mine.py", "passed"), TOKEN)) == ([], True)


VALUES = asdict(RIGHT)


@pytest.mark.parametrize(
    "line",
    [
        b"\n" * 50,
        b"\0" * MAX_LINE_BYTES,
        json.dumps(VALUES).encode() + b"\n",
        b"0" * 64 + b" " + json.dumps(VALUES).encode() + b"\n",
        signed_line(RIGHT, "another token"),
        signed_line(RIGHT, TOKEN).replace(b"right.", b"wrong."),
        b"x" + signed_line(RIGHT, TOKEN),
        "é ü\n".encode(),
        signed(b""),
        signed(b"\xff"),
        signed(b"[" * 60_000),
        signed(b"[]"),
        signed(b"9" * 5000),
        signed(json.dumps([VALUES]).encode()),
        signed(json.dumps({**VALUES, "more": ""}).encode()),
        signed(json.dumps({"exercise": "format_input", "status": "passed"}).encode()),
        signed(json.dumps({**VALUES, "table": None}).encode()),
        signed(json.dumps({**VALUES, "status": "excellent"}).encode()),
        signed(json.dumps({**VALUES, "status": {"a": 1}}).encode()),
        signed(json.dumps({**VALUES, "exercise": "rotate"}).encode()),
    ],
)
def test_what_is_no_report_ends_the_reading(line):
    assert read(line, signed_line(RIGHT, TOKEN)) == ([], True)
    assert read(signed_line(RIGHT, TOKEN), line) == ([RIGHT], True)


def test_of_endless_lines_only_a_beginning_is_read():
    class Endless(io.RawIOBase):
        n_read = 0

        def readable(self):
            return True

        def seek(self, *_):
            return 0

        def readinto(self, buffer):
            self.n_read += len(buffer)
            buffer[:] = b"x" * len(buffer)
            return len(buffer)

    file = Endless()
    assert read_reports(file, TOKEN, NAMES * 10, "mine.py") == ([], True)
    assert file.n_read <= MAX_LINE_BYTES
