"""A file of rows that grows, request by request, until it has enough of them.

The one idea: request k depends on its number, the settings and the rows before it, and on nothing
else that is random; what came of it is written down before the next one is made. So a run that was
stopped, or killed, goes on where it was, and ends with the file of a run that never stopped. The
last request is used whole: a smaller file is the beginning of a larger one.

Beside FILE.jsonl stands FILE.requests.jsonl: a line with the settings, then a line for each request
with what was thrown away and why. Knows nothing of models: what a request asks stands in
`ch07.systems.synthetic_data.row_generators`.
"""

import json
import os
from collections import Counter
from dataclasses import asdict
from itertools import takewhile
from pathlib import Path

from ch07.utils.errors import DataError
from ch07.utils.validation import check_size

BEGIN = b'{"instruction": "'  # of a row


def grow_file(file, ask, number, patience=10, on_request=lambda request: None):
    """Make requests until the `ResumableJsonl` has so many rows; True, or False if nothing comes.

    `ask(k)` makes request number k: (rows, what came of it). It gives up after `patience` requests
    in a row that brought no row. What `ask` raises ends it too; all that came before is in the
    file.
    """
    while len(file.rows) < number:
        latest = file.requests[-patience:]
        if len(latest) == patience and not any(request["accepted"] for request in latest):
            return False
        rows, request = ask(len(file.requests))
        file.append(rows, request)
        on_request(request)
    return True


def count_reasons(requests):
    """How many tasks were thrown away, by reason, the most frequent first."""
    return dict(Counter(r["reason"] for q in requests for r in q["rejected"]).most_common())


class ResumableJsonl:
    """The rows and requests so far, in memory and on disk; nothing is written before `append`.

    A last line that was only half written, and rows of a request that isn't whole, are cut off.
    DataError if the file isn't one of these, was changed since, or has other settings.
    """

    def __init__(self, path, settings):
        self.path, self.settings = Path(path), settings
        if self.path.suffix != ".jsonl":  # so that no other file has the same log
            raise DataError(f"{self.path} must have a name that ends in .jsonl")
        self.log = self.path.with_suffix(".requests.jsonl")
        rows, log = _whole_lines(self.path), _whole_lines(self.log)
        if log:
            self._check_settings(log[0][0])
            self._check_last_line(len(log) - 1)
        else:
            self._check_untouched()
        self.requests = [value for value, _ in log[1:]]
        if not all(_is_row(row) for row, _ in rows) or not all(map(_is_request, self.requests)):
            raise DataError(f"{self.path} wasn't written by this command: choose another")
        expected = sum(request["accepted"] for request in self.requests)
        last = len(self.requests)  # of which rows may stand there, but not that it was made
        kept = list(takewhile(lambda row: row[0]["request"] < last, rows))
        if len(kept) != expected or any(row["request"] != last for row, _ in rows[expected:]):
            raise DataError(
                f"{self.path} has {len(kept)} rows of the {expected} that were written: it was "
                "changed since; choose another --out"
            )
        self.rows = [value for value, _ in kept]
        self._sizes = {self.path: sum(n for _, n in kept), self.log: sum(n for _, n in log)}

    def _check_untouched(self):
        """Somebody else's file is never written to, nor cut."""
        begun = self.log.read_bytes() if self.log.exists() else b""  # at most half of our own line
        if self.path.exists() and self.path.stat().st_size:
            raise DataError(
                f"{self.path} is there already, and no {self.log.name} beside it: choose another "
                "--out"
            )
        if not _lines([asdict(self.settings)]).startswith(begun):
            raise DataError(f"{self.log} is there already: choose another --out")

    def _check_last_line(self, request):
        """A line without an end is cut off, if it is the beginning of a row of ours."""
        tail = self.path.read_bytes().rsplit(b"\n", 1)[-1] if self.path.exists() else b""
        try:
            ours = json.loads(tail).get("request") == request
        except (ValueError, AttributeError, RecursionError):
            ours = tail.startswith(BEGIN) or BEGIN.startswith(tail)
        if not ours:
            raise DataError(
                f"{self.path} ends in a line that this command didn't write: it was changed since; "
                "choose another --out"
            )

    def _check_settings(self, before):
        now = asdict(self.settings)
        if not isinstance(before, dict) or before.keys() != now.keys():
            raise DataError(f"{self.path} was begun by another command: choose another --out")
        for name, value in now.items():
            if before[name] != value:
                raise DataError(
                    f"{self.path} was begun with {name} {before[name]!r}, now it is {value!r}: go "
                    "on with the same, or choose another --out"
                )

    def append(self, rows, request):
        """Write the rows of a request, then the request itself, which makes them count."""
        if not self._sizes[self.log]:
            self._write(self.log, [asdict(self.settings)])
        self._write(self.path, rows)
        self._write(self.log, [request])
        self.rows += rows
        self.requests.append(request)

    def _write(self, path, values):
        """Add lines after the last one that counts; what stands behind it is no whole line."""
        data = _lines(values)
        with open(path, "ab") as file:
            file.truncate(self._sizes[path])
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._sizes[path] += len(data)


def _is_row(row):
    kinds = {"request": int, "instruction": str}
    return isinstance(row, dict) and all(type(row.get(name)) is kinds[name] for name in kinds)


def _is_request(request):
    """Whether a line of the log has what is read from it, each of its kind."""
    if not isinstance(request, dict) or type(request.get("accepted")) is not int:
        return False
    rejected = request.get("rejected")
    if type(request.get("answers", 1)) is not int or not isinstance(rejected, list):
        return False
    return all(isinstance(one, dict) and isinstance(one.get("reason"), str) for one in rejected)


def _lines(values):
    """As JSONL; half a character is written as JSON writes it, with a backslash."""
    text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    return text.encode(errors="backslashreplace")


def _whole_lines(path):
    """[(value, bytes of its line)] of a JSONL file, without a last line that has no end."""
    check_size(path)
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    try:
        return [(json.loads(line), len(line) + 1) for line in lines]
    except (ValueError, RecursionError):
        raise DataError(f"{path} holds a line that isn't JSON: choose another --out") from None
