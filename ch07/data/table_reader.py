"""Tables -> rows: CSV and TSV, Parquet and Arrow, the first sheet of an Excel workbook.

The one idea: a format that a library reads is read by it. Python's csv module reads CSV, because it
leaves every cell the text that it is, where pandas would turn `NA` into nothing and `007` into 7;
pyarrow reads Parquet and Arrow, a few rows at a time; openpyxl reads workbooks.
"""

import csv
import re
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from typing import Any

from ch07.data.columnar_cells import MAX_ROW_BYTES, row_sizes
from ch07.data.field_names import READ_NAMES
from ch07.data.findings import Finding, FindingSink
from ch07.data.opened_file import READ_BYTES, OpenedFile, too_large
from ch07.data.text_lines import Line, TextLines
from ch07.utils.console import count
from ch07.utils.dependencies import import_optional
from ch07.utils.errors import DataError
from ch07.utils.validation import quote

ROWS_PER_BATCH = 16  # rows that are turned into Python objects together
DELIMITERS = (",", "\t", ";", "|")
DELIMITER_OF_SUFFIX = {"csv": ",", "tsv": "\t", "tab": "\t"}
RULE_CELL = re.compile(r"\s*(?::?-+:?\s*)?")  # of Markdown, between header and rows
MAX_CELL_CHARACTERS = 10_000_000

Rows = Iterator[tuple[str, Any]]


# --- CSV and TSV ----------------------------------------------------------------------------------
def delimiter_of(header: str, file_name: str) -> str | None:
    """The character between the cells of a header; None if the line isn't one.

    A header has two known names of columns, or one where the file's name says that it is a table.

    >>> delimiter_of('"instruction",input,output', "rows"), delimiter_of("Dear all,", "rows")
    (',', None)
    """
    if header.casefold().startswith("sep=") and len(header) == 5:
        return header[4]  # Excel's own first line
    suffixes = file_name.casefold().split(".")[1:]
    by_name = [DELIMITER_OF_SUFFIX[suffix] for suffix in suffixes if suffix in DELIMITER_OF_SUFFIX]
    wanted = 1 if by_name else 2
    for delimiter in DELIMITERS:
        try:
            names = next(csv.reader([header], delimiter=delimiter, skipinitialspace=True), [])
        except csv.Error:
            continue
        known = {name.strip().casefold() for name in names} & READ_NAMES
        if len(known) >= wanted:
            return delimiter
    return by_name[0] if by_name else None


def csv_rows(lines: TextLines, delimiter: str, findings: FindingSink) -> Rows:
    """("line 3", row) for each row; every cell is text. DataError where a quote never ends."""
    csv.field_size_limit(max(csv.field_size_limit(), MAX_CELL_CHARACTERS))  # of the whole process
    counted = _CountedLines(lines)
    reader = csv.reader(counted, delimiter=delimiter, skipinitialspace=True, strict=True)
    header: list[str] | None = None
    while True:
        begins = counted.number + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{lines.name}: line {begins}: {_explain(error)}") from None
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if header is None:
            if cells[0].casefold().startswith("sep="):
                continue
            header = _check_header([cell.strip() for cell in cells], lines.name)
            continue
        place = f"line {begins}"
        while len(cells) > len(header) and not cells[-1].strip():
            cells.pop()  # spreadsheets write a row of empty cells at the end
        if delimiter == "|" and all(RULE_CELL.fullmatch(cell) for cell in cells):
            continue  # the line below the header of a Markdown table
        if len(cells) == len(header):
            yield place, dict(zip(header, cells, strict=True))
            continue
        text = f"{count(len(cells), 'cell')}, but the header names {len(header)} columns"
        kind = "a row has fewer cells than the header names columns"
        if len(cells) > len(header):
            hint = "; a cell with a delimiter, quote or line end in it must be quoted"
            text += hint
            kind = "a row has more cells than the header names columns" + hint
        findings.append(Finding(place, "error", text, kind=kind))


class _CountedLines:
    """The lines with their ends, for the csv module, and the number of the last one."""

    def __init__(self, lines: Iterator[Line]) -> None:
        self._lines = lines
        self.number = 0

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, text = next(self._lines)
        return f"{text}\n"


def _explain(error: csv.Error) -> str:
    text = str(error)
    if "unexpected end" in text:
        return "a quote that begins a cell here is never closed"
    if "field limit" in text:
        return "a cell here is too long, or a quote that begins it is never closed"
    if "expected after" in text:
        return 'after the quote that ends a cell stands more text: write a quote in a cell as ""'
    return text


def _check_header(names: list[str], file_name: str) -> list[str]:
    """The columns' names; a column without one at the end is none, and none may appear twice."""
    while names and not names[-1]:
        names.pop()
    repeated = [name for i, name in enumerate(names) if name in names[:i]]
    if repeated:
        raise DataError(f"{file_name}: the column {quote(repeated[0])} appears twice")
    return names


# --- Parquet and Arrow ----------------------------------------------------------------------------
def columnar_rows(opened: OpenedFile) -> Rows:
    """("row 3", row) for each row; of a large file only the parts that contain them are read."""
    pyarrow = import_optional("pyarrow", opened.format, "pyarrow")
    import_optional("pyarrow.compute", opened.format, "pyarrow")  # what `row_sizes` uses
    n_bytes = 0
    number = 0
    try:
        for batch in _batches(opened, pyarrow):
            _check_header(list(batch.schema.names), opened.name)
            n_bytes += batch.nbytes
            if opened.max_bytes is not None and n_bytes > opened.max_bytes:
                raise DataError(too_large(opened.name, opened.max_bytes))
            for start in range(0, batch.num_rows, ROWS_PER_BATCH):
                rows = batch.slice(start, ROWS_PER_BATCH)
                _check_sizes(row_sizes(rows, pyarrow), number + 1, opened.name)
                for row in rows.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        cause = str(error).strip().split("\n")[0]
        kind = opened.format.split()[0]
        raise DataError(f"{opened.name}: this {kind} file can't be read: {cause}") from None


def _check_sizes(sizes: Iterable[int], first_row: int, name: str) -> None:
    for i, size in enumerate(sizes, start=first_row):
        if size > MAX_ROW_BYTES:
            raise DataError(f"{name}: row {i} has more than {MAX_ROW_BYTES / 1e6:.0f} MB")


def _batches(opened: OpenedFile, pyarrow: Any) -> Iterator[Any]:
    """Record batches, few rows at a time."""
    if opened.format == "Parquet":
        parquet = import_optional("pyarrow.parquet", "Parquet", "pyarrow")
        # with pre_buffer, all that follows would be fetched in advance
        table = parquet.ParquetFile(opened.file, pre_buffer=False, buffer_size=READ_BYTES)
        yield from table.iter_batches(batch_size=ROWS_PER_BATCH)
    elif opened.format == "Arrow stream":
        yield from pyarrow.ipc.open_stream(opened.file)
    else:
        reader = pyarrow.ipc.open_file(opened.file)
        for i in range(reader.num_record_batches):
            yield reader.get_batch(i)


# --- Excel ----------------------------------------------------------------------------------------
def workbook_rows(opened: OpenedFile, findings: FindingSink) -> Rows:
    """("row 3", row) for each row of the first sheet, numbered as Excel numbers them.

    Numbers and dates are read as text, without the format that Excel shows them in, and said.
    """
    openpyxl = import_optional("openpyxl", "reading an Excel workbook", "openpyxl")
    if opened.max_bytes is not None:
        unpacked = sum(member.file_size for member in zipfile.ZipFile(opened.file).infolist())
        if unpacked > opened.max_bytes:
            raise DataError(too_large(opened.name, opened.max_bytes))
    try:
        book = openpyxl.load_workbook(opened.file, read_only=True, data_only=True)
        sheets = book.worksheets
        if not sheets:
            raise DataError(f"{opened.name}: the workbook has no sheet with cells")
        for sheet in sheets[1:]:
            text = f"the sheet {quote(sheet.title)} was not read, only the first one"
            findings.append(Finding("the file", "note", text))
        formulas = openpyxl.load_workbook(opened.file, read_only=True).worksheets[0]
        for sheet in (sheets[0], formulas):
            sheet.reset_dimensions()  # what the file says of its size may be wrong
        rows = zip(sheets[0].iter_rows(), formulas.iter_rows(), strict=False)
        yield from _sheet_rows(rows, opened.name, findings)
    except DataError:
        raise
    except Exception as error:  # openpyxl, zipfile and the XML parser share no exception type
        cause = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{opened.name}: this workbook can't be read: {cause}") from None


def _sheet_rows(
    rows: Iterator[tuple[Sequence[Any], Sequence[Any]]], name: str, findings: FindingSink
) -> Rows:
    """Rows of pairs of cells: with the stored value of a formula, and with the formula itself."""
    header: list[str] | None = None
    for number, (cells, formulas) in enumerate(rows, start=1):
        place = f"row {number}"
        values = [cell.value for cell in cells]
        if all(value is None for value in values) and not any(map(_is_formula, formulas)):
            continue
        if header is None:
            header = _check_header(
                ["" if value is None else str(value).strip() for value in values], name
            )
            continue
        if any(value is not None for value in values[len(header) :]):
            text = f"there are cells beyond the {len(header)} columns that the header names"
            findings.append(Finding(place, "error", text))
            continue
        fault = _fault_in_cells(header, cells, formulas)
        if fault is not None:
            findings.append(Finding(place, "error", fault))
            continue
        values += [None] * (len(header) - len(values))
        yield (
            place,
            {
                column: _cell_text(value, column, place, findings)
                for column, value in zip(header, values, strict=False)
            },
        )


def _is_formula(cell: Any) -> bool:
    return getattr(cell, "data_type", None) == "f"


def _fault_in_cells(
    header: Sequence[str], cells: Sequence[Any], formulas: Sequence[Any]
) -> str | None:
    """What is wrong with a cell that Excel itself couldn't compute, or has not computed yet."""
    for column, cell, formula in zip(header, cells, formulas, strict=False):
        if getattr(cell, "data_type", None) == "e":
            return f"the cell in the column {quote(column)} is the error {cell.value}"
        if cell.value is None and _is_formula(formula):
            return (
                f"the formula in the column {quote(column)} has no stored result: open the file "
                "in a spreadsheet program, and save it"
            )
    return None


def _cell_text(cell: Any, column: str, place: str, findings: FindingSink) -> Any:
    if isinstance(cell, date | time):
        text = f"dates and times in the column {quote(column)} were read in ISO form"
        findings.append(Finding(place, "note", text))
        if isinstance(cell, datetime) and cell.time() == time():
            cell = cell.date()  # Excel stores a day as its midnight
        return cell.isoformat()
    if isinstance(cell, bool):
        return str(cell).upper()  # as a spreadsheet shows it
    if isinstance(cell, str) and "_x000D_" in cell:
        return cell.replace("_x000D_", "\r")  # how Excel writes a carriage return
    if not isinstance(cell, int | float):
        return cell
    text = f"numbers in the column {quote(column)} were read as text, without their format"
    findings.append(Finding(place, "note", text))
    return str(int(cell)) if float(cell).is_integer() else str(cell)
