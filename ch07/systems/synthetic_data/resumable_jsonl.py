"""A JSONL file of rows that grows request by request and can be resumed after any interruption.

The one idea: request k depends only on its number, the settings and the rows before it, and its
result is on disk before the next request starts. So a run that was stopped, or killed, resumes
where it was, and ends with the same file as an uninterrupted run. The last request's rows are all
kept, so a smaller file is always a prefix of a larger one.

Beside FILE.jsonl there is a log, FILE.requests.jsonl: a line with the settings, then a line per
request with the rejected rows and the reasons. Knows nothing of models: the requests are made in
`ch07.systems.synthetic_data.row_generators`.
"""

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ch07.utils.console import count
from ch07.utils.errors import DataError
from ch07.utils.plain_files import read_plain

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = dict[str, Any]  # has "instruction" and "request", the number of the request that made it
# Has "request", "accepted" (a count of rows) and "rejected"; and "new_instructions" where an
# instruction can be accepted without a row.
Request = dict[str, Any]

# Makes request number k: (new rows, record of the request).
MakeRequest = Callable[[int], tuple[list[Row], Request]]

ROW_START = b'{"instruction": "'  # how every row's line begins


@dataclass(frozen=True)
class Limits:
    """When a file is long enough, and when the attempt is given up."""

    number: int  # of rows
    patience: int = 10  # consecutive requests without a new row
    max_requests: int | None = None  # in all, those before a resume included; None: any number

    def reason_to_give_up(self, requests: Sequence[Request]) -> str | None:
        """Why no further request is made, or None."""
        if self.max_requests is not None and len(requests) >= self.max_requests:
            return f"{count(self.max_requests, 'request')} made, as --max-requests allows"
        latest = requests[-self.patience :]
        if len(latest) == self.patience and not any(request["accepted"] for request in latest):
            return f"the last {count(self.patience, 'request')} gave no new row"
        return None


def grow_file(
    file: "ResumableJsonl",
    make_request: MakeRequest,
    limits: Limits,
    on_request: Callable[[Request], None] = lambda request: None,
) -> str | None:
    """Make requests until the file has all rows; if it is given up before, returns why.

    `make_request(k)` makes request number k and returns (new rows, record of the request). An
    exception in `make_request` also ends it; everything before is in the file.
    """
    while len(file.rows) < limits.number:
        reason = limits.reason_to_give_up(file.requests)
        if reason is not None:
            return reason
        rows, request = make_request(len(file.requests))
        file.append(rows, request)
        on_request(request)
    return None


def count_reasons(requests: Iterable[Request]) -> dict[str, int]:
    """How many rows were rejected, by reason, the most frequent first."""
    reasons = (rejected["reason"] for request in requests for rejected in request["rejected"])
    return dict(Counter(reasons).most_common())


class ResumableJsonl:
    """The rows and requests so far, in memory and on disk; nothing is written before `append`.

    An incomplete last line, and the rows of an incomplete request, are cut off. DataError if the
    file was not written by this class, was changed since, or was made with other settings.
    """

    def __init__(self, path: str | Path, settings: "DataclassInstance") -> None:
        self.path = Path(path)
        self.settings = settings
        if self.path.suffix != ".jsonl":  # so that no other file has the same log
            raise DataError(f"{self.path} must have a name that ends in .jsonl")
        self.log = self.path.with_suffix(".requests.jsonl")
        rows = _complete_lines(self.path)
        log = _complete_lines(self.log)
        if log:
            self._check_settings(log[0][0])
            self._check_last_line(len(log) - 1)
        else:
            self._check_not_foreign()
        self.requests: list[Request] = [value for value, _ in log[1:]]
        if not all(_is_row(row) for row, _ in rows) or not all(map(_is_request, self.requests)):
            raise DataError(f"{self.path} was not written by this command: choose another --out")
        expected = sum(request["accepted"] for request in self.requests)
        incomplete = len(self.requests)  # a request whose rows may be in the file, but not the log
        complete_rows = list(takewhile(lambda row: row[0]["request"] < incomplete, rows))
        extra_rows = rows[expected:]
        if len(complete_rows) != expected or any(
            row["request"] != incomplete for row, _ in extra_rows
        ):
            raise DataError(
                f"{self.path} has {len(complete_rows)} of the {expected} rows that were written: "
                "it was changed since; choose another --out"
            )
        self.rows: list[Row] = [value for value, _ in complete_rows]
        self._sizes = {
            self.path: sum(n_bytes for _, n_bytes in complete_rows),
            self.log: sum(n_bytes for _, n_bytes in log),
        }

    def _check_not_foreign(self) -> None:
        """Never write to, or cut, a file that is not ours."""
        # part of our first line, or b""
        begun = read_plain(self.log) if self.log.exists() else b""
        if self.path.exists() and self.path.stat().st_size:
            raise DataError(
                f"{self.path} already exists, without {self.log.name} beside it: choose another "
                "--out"
            )
        if not _to_jsonl([asdict(self.settings)]).startswith(begun):
            raise DataError(f"{self.log} already exists: choose another --out")

    def _check_last_line(self, request: int) -> None:
        """An incomplete last line may be cut off only if it is the beginning of a row of ours."""
        tail = read_plain(self.path).rsplit(b"\n", 1)[-1] if self.path.exists() else b""
        try:
            ours = json.loads(tail).get("request") == request
        except (ValueError, AttributeError, RecursionError):
            ours = tail.startswith(ROW_START) or ROW_START.startswith(tail)
        if not ours:
            raise DataError(
                f"{self.path} ends in a line that this command did not write: it was changed "
                "since; choose another --out"
            )

    def _check_settings(self, before: Any) -> None:
        now = asdict(self.settings)
        if not isinstance(before, dict) or before.keys() != now.keys():
            raise DataError(
                f"{self.path} was started by another command, or by another version of this one: "
                "choose another --out"
            )
        for name, value in now.items():
            if before[name] != value:
                raise DataError(
                    f"{self.path} was started with {name} {before[name]!r}, but now it is "
                    f"{value!r}: use the same value, or choose another --out"
                )

    def append(self, rows: list[Row], request: Request) -> None:
        """Write the rows of a request, then its record, which makes the rows valid."""
        if not self._sizes[self.log]:
            self._write(self.log, [asdict(self.settings)])
        self._write(self.path, rows)
        self._write(self.log, [request])
        self.rows += rows
        self.requests.append(request)

    def _write(self, path: Path, values: Iterable[Row]) -> None:
        """Add lines after the last valid one; whatever follows it is cut off."""
        data = _to_jsonl(values)
        with open(path, "ab") as file:
            file.truncate(self._sizes[path])
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        self._sizes[path] += len(data)


def _is_row(row: Any) -> bool:
    types = {"request": int, "instruction": str}
    return isinstance(row, dict) and all(type(row.get(name)) is types[name] for name in types)


def _is_request(request: Any) -> bool:
    """Whether a line of the log has the fields that are read from it, with the right types."""
    if not isinstance(request, dict) or type(request.get("accepted")) is not int:
        return False
    rejected = request.get("rejected")
    if type(request.get("answers", 1)) is not int or not isinstance(rejected, list):
        return False
    new_instructions = request.get("new_instructions", [])
    if not isinstance(new_instructions, list):
        return False
    if not all(isinstance(instruction, str) for instruction in new_instructions):
        return False
    return all(isinstance(one, dict) and isinstance(one.get("reason"), str) for one in rejected)


def _to_jsonl(values: Iterable[Row]) -> bytes:
    r"""Values as JSONL; a lone surrogate is written as a \u escape."""
    text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values)
    return text.encode(errors="backslashreplace")


def _complete_lines(path: Path) -> list[tuple[Any, int]]:
    """[(value, size of its line in bytes)] of a JSONL file, without an incomplete last line."""
    lines = read_plain(path).split(b"\n")[:-1] if path.exists() else []
    try:
        return [(json.loads(line), len(line) + 1) for line in lines]
    except (ValueError, RecursionError):
        raise DataError(f"{path} has a line that is not JSON: choose another --out") from None
