"""Whatever a reader names as data -> (place, row) pairs: the one way in, for every command.

The one idea: a file is opened, unpacked and recognised by its content in the same way for all
commands, so none reads what another refuses. Several files, a folder or a pattern are read one
after the other; "hf:NAME" is a dataset of Hugging Face.
"""

import glob
import io
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from ch07.data.field_names import SPLIT_NAMES
from ch07.data.file_formats import COLUMNAR, TEXT
from ch07.data.findings import Finding, FindingSink
from ch07.data.hub_dataset import HUB_PREFIX, hub_rows
from ch07.data.json_objects import ObjectWithRepeatedKey, merged
from ch07.data.json_reader import decode_json, json_rows
from ch07.data.opened_file import (
    STANDARD_INPUT,
    WORKBOOK,
    Digest,
    OpenedFile,
    PeekableFile,
    display_name,
    open_unpacked,
)
from ch07.data.row_forms import FileForm, form_of_file
from ch07.data.table_reader import columnar_rows, csv_rows, delimiter_of, workbook_rows
from ch07.data.text_lines import TextLines
from ch07.utils.console import count
from ch07.utils.errors import DataError, InputError
from ch07.utils.validation import a_type, max_json_bytes, quote

TOY_PREFIX = "toy:"
TOY_FILES = {"instructions": "data.json", "conversations": "conversations.json"}  # bundled
SUFFIXES = {
    ".json",
    ".jsonl",
    ".jsonlines",
    ".ndjson",
    ".csv",
    ".tsv",
    ".tab",
    ".parquet",
    ".arrow",
    ".xlsx",
}
PACKED_SUFFIXES = {".gz", ".bz2", ".xz", ".zst", ".zip"}
STORE_FILE = "store.json"  # of a token store, which only `finetune` reads
# What `datasets` writes beside the rows (`save_to_disk`), and "cache-..." of what was computed.
METADATA_FILES = {"dataset_info.json", "dataset_dict.json", "state.json", "dataset_infos.json"}

Source = Path | str | Sequence[str]
T = TypeVar("T")


# --- rows of one file -----------------------------------------------------------------------------
def file_rows(
    source: Path | str | PeekableFile,
    findings: FindingSink,
    max_bytes: int | None = None,
    digest: Digest | None = None,
) -> Iterator[tuple[str, Any]]:
    """("line 3" or "row 3", row) for each row of a file, read as they are asked for.

    Lines that can't be read go to `findings`. `max_bytes` and `digest` are those of
    `open_unpacked`.
    """
    with open_unpacked(source, max_bytes, digest) as opened:
        yield from rows_of_file(opened, findings)


def rows_of_file(opened: OpenedFile, findings: FindingSink) -> Iterator[tuple[str, Any]]:
    """The rows of a file that was opened, as `file_rows` gives them."""
    if opened.format in COLUMNAR:
        return columnar_rows(opened)
    if opened.format == WORKBOOK:
        return workbook_rows(opened, findings)
    lines = TextLines(opened)
    start = lines.skip_blank_lines()
    if not start:
        raise DataError(f"{opened.name}: the file is empty")
    if start not in "[{":
        header = next(lines)
        lines.put_back(header)
        delimiter = delimiter_of(header[1], Path(opened.name).name)
        if delimiter is not None:
            return csv_rows(lines, delimiter, findings)
    return json_rows(lines, start, findings)


def rows_in_text(text: str, name: str, findings: FindingSink) -> Iterator[tuple[str, Any]] | None:
    """The rows of a text that is JSON, JSON Lines or CSV; None for prose."""
    beginning = text.lstrip()
    first = beginning.split("\n", 1)[0].rstrip()
    if beginning[:1] in ("[", "{"):
        value, problem = decode_json(first.removesuffix(","))
        if problem is not None:
            value, problem = decode_json(text)
        is_data = problem is None and isinstance(value, dict | list)
    else:
        is_data = delimiter_of(first, Path(name).name) is not None
    if not is_data:
        return None
    file = io.BufferedReader(io.BytesIO(text.encode()))  # type: ignore[arg-type]
    return rows_of_file(OpenedFile(name, file, TEXT, max_json_bytes()), findings)


def stream_rows(
    source: Path | str | PeekableFile, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    r"""The first `limit` rows of a file, or all, as dicts, read as they are asked for.

    `source` is a path or a buffered binary file. Its first bytes tell its format. DataError names
    the line that isn't a JSON object.

    >>> from io import BufferedReader, BytesIO
    >>> file = BufferedReader(BytesIO(b'{"text": "one"}\n{"text": "two"}\n'))
    >>> list(stream_rows(file, limit=1))
    [{'text': 'one'}]
    """
    return islice(_objects(source), limit)


def in_batches(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of `size` rows, of which the last may be shorter; ValueError for a size below 1.

    >>> list(in_batches(range(5), 2))
    [[0, 1], [2, 3], [4]]
    """
    if size < 1:
        raise InputError(f"a batch has {size} rows, but must have at least 1")
    remaining = iter(rows)
    return iter(lambda: list(islice(remaining, size)), [])


def _objects(source: Path | str | PeekableFile) -> Iterator[dict[str, Any]]:
    """The rows; DataError for the first that isn't an object."""
    name = display_name(source)
    for place, row in file_rows(source, _RaiseFindings(name)):
        if not isinstance(row, dict):
            raise DataError(f"{name}: {place}: expected an object, found {a_type(row)}")
        if isinstance(row, ObjectWithRepeatedKey):
            raise DataError(f"{name}: {place}: the key {quote(row.repeated_key)} appears twice")
        yield row


class _RaiseFindings:
    """Stands in for a list of findings, and raises the first fault as a DataError."""

    def __init__(self, name: str) -> None:
        self._name = name

    def append(self, finding: Finding, /) -> None:
        if finding.level != "note":
            raise DataError(f"{self._name}: {finding.place}: {finding.text}")


# --- several files --------------------------------------------------------------------------------
@dataclass(frozen=True)
class DataPart:
    """One of the files that are read, what its places begin with, and the split it is for."""

    path: str
    prefix: str = ""
    split: str | None = None


def source_rows(
    source: Source, findings: FindingSink, *, in_memory: bool, digest: Digest | None = None
) -> Iterator[tuple[FileForm, str, Any]]:
    """(form of its file, place, row) for each row of what is named: files, a folder, a pattern,
    hf:NAME or toy:NAME.

    With `in_memory`, a file is refused if its rows may not fit into the free memory. Places name
    the file where there are several. Rows of files called train, test and so on say so in "split".
    """
    for part in find_parts(source):
        sink = _PrefixedFindings(findings, part.prefix) if part.prefix else findings
        if part.path.startswith(HUB_PREFIX):
            rows = hub_rows(part.path, sink, digest)
        else:
            max_bytes = max_json_bytes() if in_memory else None
            rows = file_rows(part.path, sink, max_bytes, digest)
        if part.split is not None:
            text = f"its rows go to the split {part.split!r}, as its name says"
            sink.append(Finding("the file", "note", text))
        is_file = part.path != STANDARD_INPUT and not part.path.startswith(HUB_PREFIX)
        form, rows = form_of_file(part.path if is_file else "FILE", rows)
        for place, row in rows:
            if part.split is not None and isinstance(row, dict) and not row.get("split"):
                row = merged(row, {"split": part.split})
            yield form, part.prefix + place, row


class _PrefixedFindings:
    """Passes findings on, with the file's name in front of their places."""

    def __init__(self, findings: FindingSink, prefix: str) -> None:
        self._findings = findings
        self._prefix = prefix

    def append(self, finding: Finding, /) -> None:
        self._findings.append(replace(finding, place=self._prefix + finding.place))


def source_name(source: Source) -> str:
    """What messages call the data: a path, or the first of several and how many more."""
    if isinstance(source, str | Path):
        return display_name(source)
    if not source:
        return "data"
    first, *others = source
    if not others:
        return display_name(first)
    return f"{first} and {count(len(others), 'other file')}"


def find_parts(source: Source) -> list[DataPart]:
    """The files of a source, in order; DataError if there is none."""
    sources = [str(source)] if isinstance(source, str | Path) else [str(item) for item in source]
    found = [pair for item in sources for pair in _paths_of(item)]
    if not found:
        raise DataError("no data file is given")
    paths = [path for path, _ in found]
    if len(paths) == 1:
        return [DataPart(paths[0])]
    splits = [_split_named_by(name) for _, name in found]
    if "train" not in splits or set(splits) <= {"train", None}:
        splits = [None] * len(paths)
    names = _short_names(paths)
    return [
        DataPart(path, f"{name} ", split)
        for path, name, split in zip(paths, names, splits, strict=True)
    ]


def _paths_of(item: str) -> list[tuple[str, str]]:
    """(path, name) of the file itself, or of the files of a folder or pattern.

    The name is the path within the folder, or for a file its name alone: it may name a split.
    """
    if item.startswith(TOY_PREFIX):
        return [(_toy_file(item), item)]
    if item == STANDARD_INPUT or item.startswith(HUB_PREFIX):
        return [(item, item)]
    if not item or "\0" in item:
        raise DataError(f"{item!r} is not the name of a file")
    path = Path(item)
    try:
        is_folder = path.is_dir()
        exists = is_folder or path.exists()
    except OSError as error:  # such as a name of a thousand letters
        raise DataError(f"{quote(item)}: {error.strerror or error}") from None
    if is_folder:
        return [(str(file), str(file.relative_to(path))) for file in _files_in(path)]
    if not exists and glob.has_magic(item):
        return _paths_of_pattern(item)
    return [(item, path.name)]


def _paths_of_pattern(item: str) -> list[tuple[str, str]]:
    """The files that a pattern fits; a folder that is called like one is taken by its name."""
    parent, name = os.path.split(item)
    pattern = os.path.join(glob.escape(parent), name) if os.path.isdir(parent) else item
    found = sorted(glob.glob(pattern, recursive=True))
    if not found:
        raise DataError(f"{item}: no file has such a name")
    return [inner for path in found for inner in _paths_of(path)]


def _toy_file(item: str) -> str:
    name = item.removeprefix(TOY_PREFIX)
    if name not in TOY_FILES:
        known = ", ".join(TOY_PREFIX + known for known in TOY_FILES)
        raise DataError(f"no bundled data is called {item}; there are {known}")
    return str(Path(__file__).with_name("toy_instructions") / TOY_FILES[name])


def _files_in(folder: Path) -> list[Path]:
    """The data files in a folder and its folders, by name; links are followed."""
    if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
        raise DataError(f"{folder} is a run or a model, not data")
    if (folder / STORE_FILE).is_file():
        raise DataError(f"{folder} is a token store: give the file that it was made from")
    files: list[Path] = []
    seen: set[Path] = set()  # folders, so that a link to one of them doesn't lead in a circle
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if Path(place).resolve() in seen:
            folders.clear()
            continue
        seen.add(Path(place).resolve())
        files += [Path(place, name) for name in names if _is_data_name(Path(name))]
    if not files:
        known = ", ".join(sorted(SUFFIXES))
        raise DataError(f"{folder} is a folder without a data file: none ends in {known}")
    return sorted(files)


def _is_data_name(path: Path) -> bool:
    """Whether a file in a folder is data, as its name says, and nothing that stands beside it."""
    if path.name.startswith((".", "cache-")) or path.name in METADATA_FILES:
        return False
    suffixes = [suffix.casefold() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in PACKED_SUFFIXES:
        suffixes.pop()
    return bool(suffixes) and suffixes[-1] in SUFFIXES


def _split_named_by(name: str) -> str | None:
    """The split that a file is named after ("test-00001.parquet"), or else its folder ("test")."""
    path = Path(name)
    word = re.split(r"[-_. ]", path.name.casefold())[0]
    return SPLIT_NAMES.get(word, SPLIT_NAMES.get(path.parent.name.casefold()))


def _short_names(paths: Sequence[str]) -> list[str]:
    """The files' names if they differ, else their paths."""
    names = [Path(path).name for path in paths]
    return names if len(set(names)) == len(names) else list(paths)
