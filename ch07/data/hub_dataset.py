"""A dataset that Hugging Face's `datasets` loads by name -> rows.

The one idea: "hf:NAME" may be given wherever a data file may, and its rows pass the same checks.
Such data is recognised by a hash of what is trained on, so a run is repeated or resumed only with
the rows that it had. The package `datasets` is optional; it is imported when a dataset is loaded.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ch07.data.field_names import READ_NAMES, SPLITS
from ch07.data.findings import Finding, FindingSink
from ch07.data.opened_file import Digest
from ch07.utils.dependencies import import_optional
from ch07.utils.errors import DataError
from ch07.utils.validation import max_json_bytes, quote

HUB_PREFIX = "hf:"


def hub_rows(
    source: str, findings: FindingSink, digest: Digest | None = None
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) for each row of "hf:NAME" or "hf:NAME:SPLIT"; NAME may be a folder.

    Without SPLIT all splits are read, and each row says which it is in ("train", "test" or
    "validation"). `digest` is updated with what may be trained on of each row. DataError says what
    can't be loaded, MissingPackage what must be installed.
    """
    for place, row in _rows_of_splits(source, findings):
        if digest is not None:
            digest.update(json.dumps(row, sort_keys=True, default=str).encode() + b"\n")
        yield place, row


def _rows_of_splits(source: str, findings: FindingSink) -> Iterator[tuple[str, dict[str, Any]]]:
    """(place, row) for each row, with the columns that may be read."""
    name, split = _name_and_split(source)
    parts = _load_dataset(source, name, split)
    other = [part for part in parts if part not in SPLITS]
    if len(parts) > 1 and other:
        raise DataError(
            f"{source} has the splits {', '.join(map(quote, parts))}: choose one, as in "
            f"{HUB_PREFIX}{name}:{other[0]}"
        )
    if sum(part.data.nbytes for part in parts.values()) > max_json_bytes():
        raise DataError(
            f"{source} may not fit into the free memory: choose one split, or a part of it"
        )
    for part, dataset in parts.items():
        unread = [column for column in dataset.column_names if column.casefold() not in READ_NAMES]
        for column in unread:
            text = f"the key {quote(column)} is not trained on"
            findings.append(Finding("all rows", "note", text))
        if len(parts) > 1 and "split" in dataset.column_names:
            raise DataError(f"{source} has splits and also a column 'split': choose one split")
        for i, row in enumerate(dataset.remove_columns(unread), start=1):
            if len(parts) > 1:
                yield f"{part} row {i}", row | {"split": part}
            else:
                yield f"row {i}", row


def _name_and_split(source: str) -> tuple[str, str | None]:
    """("NAME", "SPLIT" or None); DataError for what can't be a dataset's name."""
    # a colon inside a path does not begin a split, which looks like "train" or "train[:100]"
    match = re.fullmatch(r"(.+?)(?::([\w.+-]+(?:\[.*\])?))?", source.removeprefix(HUB_PREFIX))
    name, split = match.groups() if match else ("", None)
    if name and Path(name).is_dir():
        return name, split
    if name.startswith((".", "/", "~")):
        raise DataError(f"{source}: there is no folder {name}")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):  # "json" alone would load all JSON files here
        raise DataError(
            f"{source!r} is not the name of a dataset: write {HUB_PREFIX}OWNER/NAME or "
            f"{HUB_PREFIX}OWNER/NAME:SPLIT, as in {HUB_PREFIX}lamini/lamini_docs"
        )
    return name, split


def _load_dataset(source: str, name: str, split: str | None) -> dict[str, Any]:
    """{split: `datasets.Dataset`}; DataError in one sentence, whatever `datasets` raises."""
    datasets = import_optional("datasets", f"loading {source}", "datasets==5.2.0")
    try:
        loaded = datasets.load_dataset(name, split=split)
        if _comes_from_csv(loaded):
            # pandas has taken `NA` and `007` for something else: read them again, as text
            loaded = datasets.load_dataset(name, split=split, dtype=str, keep_default_na=False)
        return {split: loaded} if split else dict(loaded)
    except datasets.exceptions.DatasetNotFoundError:
        raise DataError(
            f"{source}: the Hub has no dataset {name!r}, or it requires a login"
        ) from None
    except ConnectionError:
        raise DataError(
            f"{source} can't be reached: no network, or HF_HUB_OFFLINE forbids it, and no copy of "
            "it is on this disk"
        ) from None
    except Exception as error:  # datasets, pyarrow and the network share no exception type
        cause = str(error.__cause__ or error).strip().split("\n")[0]
        raise DataError(f"{source} can't be loaded: {cause or type(error).__name__}") from None


def _comes_from_csv(loaded: Any) -> bool:
    """Whether `datasets` made these rows of CSV files."""
    parts = loaded.values() if isinstance(loaded, dict) else [loaded]
    return any(part.info.builder_name == "csv" for part in parts)
