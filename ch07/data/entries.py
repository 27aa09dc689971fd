"""Reading instruction data: a JSON or JSONL file becomes a list of checked entries, and back.

The one idea: every fault is collected with its row and reported with the others; nothing is
changed, dropped or cut in silence. Knows nothing of tokens or models.
"""

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from ch07.data.json_reader import DUPLICATE_KEY, Finding, check_error_count, parse_rows, read_utf8
from ch07.utils.atomic_files import write_bytes, write_jsonl
from ch07.utils.errors import DataError
from ch07.utils.validation import MAX_LISTED, has_lone_surrogate, quoted, type_name

# Other names for (instruction, output) that are read as such, and reported.
FIELD_ALIASES = [
    ("question", "answer"),
    ("instruction", "response"),
    ("prompt", "response"),
    ("prompt", "completion"),
]
INPUT_ALIAS = "context"  # another name for the input
SPLITS = ("train", "test", "validation")
CHAT_KEYS = ("messages", "conversations")  # keys of rows that can't be read, and get a hint
FIELDS = ("instruction", "input", "output")
KNOWN_KEYS = ("instruction", "input", "output", "family", "split")
PLACEHOLDERS = ("n/a", "<noinput>", "noinput")
MAX_FIELD_CHARACTERS = 100_000  # characters of a field: no model here could read more


@dataclass(frozen=True)
class DataFile:
    """A file that was read: its entries, where each stands in it, and what was seen."""

    path: Path | str  # of the file, or the name of the dataset
    entries: list
    places: list  # "row 3" or "line 3" for each entry
    findings: list
    sha256: str  # of the bytes, or the rows, that were read

    @property
    def by_entry(self):
        """The place of each entry, by its `id`: entries are dicts, and may be equal."""
        return {id(e): place for e, place in zip(self.entries, self.places, strict=True)}


def load_entries(path, skip_bad_rows=False):
    """The file's entries: dicts with "instruction", "input" and "output", other keys kept.

    Faulty rows are a DataError that lists them, or are left out with `skip_bad_rows`; rows with
    an empty answer are left out in any case. Outer white space of fields is stripped.
    """
    return read_data(path, skip_bad_rows).entries


def read_data(path, skip_bad_rows=False):
    """`load_entries`, with the place of each entry and the findings, as a `DataFile`."""
    path, findings = Path(path), []
    text, digest = read_utf8(path)
    return check_rows(
        path, parse_rows(text, path, findings, _is_row), digest, findings, skip_bad_rows
    )


def check_rows(path, rows, sha256, findings, skip_bad_rows=False, check=None, fields=FIELDS):
    """The `DataFile` of (where, row) pairs, as `read_data` has it; `findings` grow.

    `check` is `check_row`, or does as it does; rows with the same `fields` are told.
    """
    check = check or check_row
    entries, places, first_seen, bad = [], [], {}, 0
    for where, row in rows:
        entry = check(where, row, findings)
        if entry is None:
            bad += 1
            check_error_count(path, bad, len(entries))
            continue
        key = tuple(entry[field] for field in fields)
        if first_seen.setdefault(key, where) != where:
            what = f"the same as an earlier row; first as {first_seen[key]}"
            findings.append(Finding(where, "note", what))
        entries.append(entry)
        places.append(where)
    errors = [f for f in findings if f.level == "error"]
    if errors and not skip_bad_rows:
        raise_faulty_rows(path, len(errors), errors[:MAX_LISTED])
    if not entries:
        raise DataError(
            f"{path}: no usable row" + "".join(f"\n  {s}" for s in summarize_findings(findings))
        )
    return DataFile(path, entries, places, findings, sha256)


def write_entries(path, entries):
    """Entries as a file that `load_entries` reads: JSONL if its name says so, else JSON."""
    path = Path(path)
    if path.suffix == ".jsonl":
        write_jsonl(path, entries, strict=False)
    else:
        text = json.dumps(entries, ensure_ascii=False, indent=2) + "\n"
        # half a character, in a key that isn't trained on, is written as the escape that it was
        write_bytes(path, text.encode(errors="backslashreplace"))


def raise_faulty_rows(path, n, errors):
    """DataError about `n` faulty rows, of which the first few are told."""
    lines = "\n".join(f"  {f.where}: {f.what}" for f in errors)
    more = f"\n  ... and {n - len(errors)} more" if n > len(errors) else ""
    raise DataError(
        f"{path}: {count(n, 'faulty row')}; mend the file, or leave such rows out "
        f"with --skip-bad-rows\n{lines}{more}"
    )


def count(n, noun):
    """ "1 row", "2 rows"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def group_by_kind(findings):
    """{(level, what): where it was seen, in order}: findings that say the same, put together."""
    kinds = defaultdict(list)
    for finding in findings:
        kinds[finding.level, finding.what.split("; first as ")[0]].append(finding.where)
    return kinds


def lost_rows(findings):
    """Those findings by which a row is lost; the others are notes."""
    return [finding for finding in findings if finding.level != "note"]


def summarize_findings(findings):
    """Findings in a line for each kind, with their number and the first rows."""
    kinds = group_by_kind(findings).items()
    return [summarize_kind(level, what, len(places), places) for (level, what), places in kinds]


def summarize_kind(level, what, n, places):
    """The line for one kind of finding, seen `n` times."""
    verdict = {"error": "left out: ", "dropped": "left out: ", "note": ""}[level]
    return f"{verdict}{what} ({n}: {', '.join(places[:MAX_LISTED])}" + (
        ", ...)" if n > MAX_LISTED else ")"
    )


class FindingCounts:
    """Findings, counted: of each kind their number and the first few places."""

    def __init__(self):
        self.kinds, self.errors, self.n_errors = {}, [], 0

    def append(self, finding):
        n_places = self.kinds.setdefault((finding.level, finding.what), [0, []])
        n_places[0] += 1
        n_places[1] += [finding.where] * (len(n_places[1]) < MAX_LISTED)
        if finding.level == "error":
            self.n_errors += 1
            self.errors += [finding] * (len(self.errors) < MAX_LISTED)

    def lines(self):
        return [summarize_kind(*kind, n, places) for kind, (n, places) in self.kinds.items()]


# --- from rows to entries -----------------------------------------------------------------------
def _is_row(row):
    """Whether a lone object is a row, perhaps a faulty one, and not what holds the rows."""
    known = (("instruction",), *FIELD_ALIASES, *((key,) for key in CHAT_KEYS))
    return any(all(key in row for key in keys) for keys in known)


def check_row(where, row, findings):
    """The row as an entry with stripped fields, or None; what was seen goes to `findings`."""

    def report(level, what):
        findings.append(Finding(where, level, what))

    if not isinstance(row, dict):
        return report("error", f"expected an object, found a {type_name(row)}")
    if DUPLICATE_KEY in row:
        return report("error", f"the key {quoted(row[DUPLICATE_KEY])} stands twice")
    entry = _with_our_names(row, report)
    if entry is None:
        return None
    if entry.get("input") is None:
        entry["input"] = ""
    for key in ("instruction", "input", "output", *(("family",) if "family" in entry else ())):
        if not isinstance(entry[key], str):
            return report("error", f"{key!r} is a {type_name(entry[key])}, but must be text")
        if len(entry[key]) > MAX_FIELD_CHARACTERS:
            return report("error", f"{key!r} has more than {MAX_FIELD_CHARACTERS:,} characters")
        if has_lone_surrogate(entry[key]):
            return report("error", f"{key!r} holds half a character (a lone surrogate)")
        text = entry[key].replace("\r\n", "\n").strip()
        if text != entry[key]:
            report("note", f"outer white space or CRLF of {key!r} removed")
        entry[key] = text
    if not entry["instruction"]:
        return report("error", "'instruction' is empty")
    if not entry["output"]:
        return report("dropped", "'output' is empty")
    if entry.get("split", "train") not in SPLITS:
        split = quoted(str(entry["split"]))
        return report("error", f"'split' is {split}; choose one of {', '.join(SPLITS)}")
    unknown = [key for key in entry if key not in KNOWN_KEYS]
    for key in unknown[:MAX_LISTED]:
        report("note", f"the key {quoted(key)} is not trained on")
    if len(unknown) > MAX_LISTED:
        report("note", f"{len(unknown) - MAX_LISTED} more keys are not trained on")
    if entry["input"].casefold() in PLACEHOLDERS:
        report("note", f"'input' is the placeholder {entry['input']!r}; leave it empty instead")
    return entry


def _with_our_names(row, report):
    """The row as a new dict with "instruction" and "output", or None if it can't be told."""
    entry = dict(row)
    if not ("instruction" in row and "output" in row):
        names = next((keys for keys in FIELD_ALIASES if all(key in row for key in keys)), None)
        if names is None:
            return report("error", _missing(row))
        both = [key for key in ("instruction", "output") if key in row and key not in names]
        if both:
            return report("error", f"{both[0]!r} stands beside {names[0]!r} and {names[1]!r}")
        entry["instruction"], entry["output"] = (entry.pop(name) for name in names)
        report("note", f"{names[0]}/{names[1]} read as instruction/output")
    if "input" not in entry and isinstance(entry.get(INPUT_ALIAS), str):
        entry["input"] = entry.pop(INPUT_ALIAS)
        report("note", f"{INPUT_ALIAS!r} read as 'input'")
    return entry


def _missing(row):
    keys = ", ".join(map(quoted, list(row)[:MAX_LISTED])) or "none"
    missing = " and ".join(repr(key) for key in ("instruction", "output") if key not in row)
    missing += " are" if " and " in missing else " is"
    chat = next((key for key in CHAT_KEYS if key in row), None)
    hint = f"; {chat!r} looks like a chat: make it one instruction and one output" if chat else ""
    if "input" in row and "output" in row:
        hint = "; if 'input' asks: python -m ch07 prepare-data FILE OUT reads it so"
    elif "text" in row:
        hint = "; 'text' alone is to pre-train on: here each row needs a question and its answer"
    return f"{missing} missing; keys found: {keys}{hint}"
