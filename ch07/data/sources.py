"""Where entries come from: a file, or a dataset that Hugging Face's `datasets` loads by its name.

The one idea: "hf:NAME" stands wherever a data file may, and its rows meet the same checks. They
are known by a hash of what is trained on, so a run is done again, or goes on, only with the rows
that it had. The package `datasets` is optional, and imported when a dataset is asked for.
"""

import hashlib
import json
import re
from pathlib import Path

from ch07.data.column_mapping import TEXT, with_instruction
from ch07.data.entries import (
    CHAT_KEYS,
    FIELD_ALIASES,
    INPUT_ALIAS,
    KNOWN_KEYS,
    SPLITS,
    DataError,
    check_rows,
    read_data,
)
from ch07.data.json_reader import Finding
from ch07.utils.dependencies import import_optional
from ch07.utils.validation import max_json_bytes, quoted

HUB_PREFIX = "hf:"
READ = {
    *KNOWN_KEYS,
    *CHAT_KEYS,
    INPUT_ALIAS,
    TEXT,
    *(name for names in FIELD_ALIASES for name in names),
}


def read_source(source, skip_bad_rows=False):
    """The `DataFile` of a file, or of "hf:NAME" or "hf:NAME:SPLIT"; NAME may be a folder.

    Without SPLIT all splits are read, and rows say in which they are ("train", "test" or
    "validation"). DataError says what can't be loaded; MissingPackage what is to be installed.
    """
    if not str(source).startswith(HUB_PREFIX):
        return read_data(source, skip_bad_rows)
    findings, rows, digest = [], [], hashlib.sha256()
    for where, row in _rows_of(source, findings):
        digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
        rows.append((where, row))
    rows = with_instruction(rows, findings)
    return check_rows(source, rows, digest.hexdigest(), findings, skip_bad_rows)


def _rows_of(source, findings):
    """(where, row) for each row, with the columns that may be read."""
    name, split = _name_and_split(source)
    parts = _loaded(source, name, split)
    strange = [part for part in parts if part not in SPLITS]
    if len(parts) > 1 and strange:
        raise DataError(
            f"{source} has the splits {', '.join(map(quoted, parts))}: choose one, as "
            f"{HUB_PREFIX}{name}:{strange[0]}"
        )
    if sum(part.data.nbytes for part in parts.values()) > max_json_bytes():
        raise DataError(f"{source} may not fit into the free memory: choose a split, or a part")
    for part, dataset in parts.items():
        unread = [column for column in dataset.column_names if column not in READ]
        for column in unread:
            what = f"the key {quoted(column)} is not trained on"
            findings.append(Finding("all rows", "note", what))
        own = {"split": part} if len(parts) > 1 else {}
        if own and "split" in dataset.column_names:
            raise DataError(f"{source} has splits, and a column 'split' besides: choose one split")
        for i, row in enumerate(dataset.remove_columns(unread), start=1):
            yield f"{part} row {i}" if own else f"row {i}", row | own


def _name_and_split(source):
    """("NAME", "SPLIT" or None); DataError for what can't be a dataset's name."""
    # a colon within a path is none before a split, which may be "train" or "train[:100]"
    match = re.fullmatch(r"(.+?)(?::([\w.+-]+(?:\[.*\])?))?", source.removeprefix(HUB_PREFIX))
    name, split = match.groups() if match else ("", None)
    if name and Path(name).is_dir():
        return name, split
    if name.startswith((".", "/", "~")):
        raise DataError(f"{source}: there is no folder {name}")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):  # "json" alone would be all such files here
        raise DataError(
            f"{source!r} is no dataset: write {HUB_PREFIX}OWNER/NAME or "
            f"{HUB_PREFIX}OWNER/NAME:SPLIT, as {HUB_PREFIX}lamini/lamini_docs"
        )
    return name, split


def _loaded(source, name, split):
    """{split: dataset}; DataError in one sentence, whatever `datasets` raises."""
    datasets = import_optional("datasets", f"loading {source}", "datasets==5.2.0")
    try:
        loaded = datasets.load_dataset(name, split=split)
        return {split: loaded} if split else dict(loaded)
    except datasets.exceptions.DatasetNotFoundError:
        raise DataError(
            f"{source}: the Hub has no dataset {name!r}, or shows it only to those who log in"
        ) from None
    except ConnectionError:
        raise DataError(
            f"{source} can't be reached: no network, or HF_HUB_OFFLINE forbids it, and no copy of "
            "it is on this disk"
        ) from None
    except Exception as error:  # of its own, of pyarrow, of the network: there is no common type
        why = str(error.__cause__ or error).strip().split("\n")[0]
        raise DataError(f"{source} can't be loaded: {why or type(error).__name__}") from None
