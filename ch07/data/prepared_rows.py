"""A file of any size and form -> checked entries, one by one."""

from collections.abc import Iterator
from itertools import islice

from ch07.data.data_files import Source, source_name, source_rows
from ch07.data.entry_checks import Entry, check_row
from ch07.data.field_names import KNOWN_KEYS
from ch07.data.findings import FindingCounts, no_usable_row, raise_faulty_rows
from ch07.data.opened_file import Digest


def usable_rows(
    source: Source,
    findings: FindingCounts,
    *,
    limit: int | None = None,
    skip_bad_rows: bool = False,
    digest: Digest | None = None,
) -> Iterator[tuple[str, Entry]]:
    """(place, entry) for each of the first `limit` rows, or of all, that can be used.

    What was noticed goes to `findings`. After the last row a DataError lists the rows that can't be
    used, unless `skip_bad_rows` leaves them out.
    """
    name = source_name(source)
    rows = source_rows(source, findings, in_memory=False, digest=digest)
    n = 0
    for form, place, row in islice(rows, limit):
        entry = check_row(place, row, findings, form)
        if entry is not None:
            n += 1
            yield place, entry
    if findings.n_errors and not skip_bad_rows:
        raise_faulty_rows(name, findings)
    if n == 0:
        raise no_usable_row(name, findings.lines())


def prepared_rows(
    source: Source,
    findings: FindingCounts,
    limit: int | None = None,
    skip_bad_rows: bool = False,
) -> Iterator[Entry]:
    """The entries of `usable_rows` with known keys only, as `prepare-data` writes them."""
    rows = usable_rows(source, findings, limit=limit, skip_bad_rows=skip_bad_rows)
    for _, entry in rows:
        yield {key: entry[key] for key in KNOWN_KEYS if key in entry}
