"""Whatever the bytes, in any form: rows or a sentence, within seconds and little memory."""

import bz2
import gzip
import lzma
import time
import tracemalloc
import zipfile

import cases
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ch07.data import data_files, opened_file, text_lines
from ch07.data.columnar_cells import row_sizes
from ch07.data.entries import read_data
from ch07.data.findings import FindingCounts
from ch07.data.prepared_rows import usable_rows
from ch07.utils.errors import UserError

fuzz = settings(
    deadline=2000, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
CONTENTS = [content for _, content, _ in cases.FILE_FORMS.values()]
CONTENTS += [content for content, _ in cases.ROW_FORMS.values()]
CONTENTS += [content for content, _ in cases.ROW_FAULTS.values()]
SIGNS = [b'"', b",", b"\n", b"\r", b"\0", b"{", b"}", b"[", b"]", b"\xff", b"### Human:", b"<s>"]


@st.composite
def damaged(draw):
    """A good file with some bytes replaced, taken out or put in, or cut short."""
    content = draw(st.sampled_from(CONTENTS))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 8))
        new = draw(st.sampled_from(SIGNS) | st.binary(max_size=8))
        content = content[:at] + new + content[at + length :]
    return content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content


@fuzz
@given(damaged(), st.sampled_from(["rows", "rows.csv", "rows.tsv"]), st.booleans())
def test_damaged_files_give_rows_or_a_sentence(tmp_path, content, name, skip_bad_rows):
    path = tmp_path / name
    path.write_bytes(content)
    try:
        file = read_data(path, skip_bad_rows)
    except UserError as error:
        assert str(path) in str(error) and len(str(error)) < 5000
    else:
        assert file.entries and len(file.entries) == len(file.places)
        assert all(entry["instruction"] and entry["output"] for entry in file.entries)


@fuzz
@given(damaged(), st.booleans())
def test_both_ways_of_reading_give_the_same(tmp_path, content, skip_bad_rows):
    """Into memory, and row by row: the same entries, or both an error."""
    path = tmp_path / "rows"
    path.write_bytes(content)

    def outcome(read):
        try:
            return list(read())
        except UserError:
            return None

    whole = outcome(lambda: read_data(path, skip_bad_rows).entries)
    findings = FindingCounts()
    rows = outcome(lambda: usable_rows(path, findings, skip_bad_rows=skip_bad_rows))
    assert whole == (rows and [entry for _, entry in rows])


# --- bombs ----------------------------------------------------------------------------------------
N_BYTES = 60_000_000
LETTERS = b'{"instruction": "' + b"a" * N_BYTES
ROWS = b"[" + b"{}," * (N_BYTES // 3)


def zip_of(content):
    return cases.zipped(("rows.json", content))


BOMBS = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": cases.zstd,
    "zip": zip_of,
    "zip in gzip": lambda content: gzip.compress(zip_of(content)),
}


@pytest.mark.slow
@pytest.mark.parametrize("pack", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("content", [LETTERS, ROWS], ids=["a long line", "a long list"])
def test_a_small_file_that_unpacks_to_much_is_refused(tmp_path, monkeypatch, pack, content):
    path = tmp_path / "rows"
    path.write_bytes(pack(content))
    assert path.stat().st_size < len(content) / 50
    for module in (data_files, opened_file, text_lines):
        monkeypatch.setattr(module, "max_json_bytes", lambda: 3_000_000)
    tracemalloc.start()
    try:
        started = time.process_time()
        with pytest.raises(UserError, match="more than 3 MB, which may not fit"):
            read_data(path)
        assert time.process_time() - started < 5
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()


def test_compressed_over_and_over(tmp_path):
    content = cases.LINES
    for _ in range(3):
        content = gzip.compress(content)
    (tmp_path / "rows").write_bytes(content)
    assert len(read_data(tmp_path / "rows").entries) == 3
    (tmp_path / "rows").write_bytes(gzip.compress(content))
    with pytest.raises(UserError, match="compressed more than 3 times over"):
        read_data(tmp_path / "rows")


@pytest.mark.parametrize("kind", ["parquet", "file", "stream"])
def test_a_table_that_does_not_fit_into_memory(tmp_path, monkeypatch, kind):
    rows = [{"instruction": "Say it.", "output": "x" * 1000} for _ in range(500)]
    (tmp_path / "rows").write_bytes(cases.columnar(kind, rows))
    monkeypatch.setattr(data_files, "max_json_bytes", lambda: 100_000)
    with pytest.raises(UserError, match="more than 0 MB, which may not fit"):
        read_data(tmp_path / "rows")


def dictionary_of(pyarrow, text, n):
    """A column of `n` rows that all refer to one text."""
    indices = pyarrow.array([0] * n, pyarrow.int32())
    return pyarrow.DictionaryArray.from_arrays(indices, pyarrow.array([text]))


@pytest.mark.parametrize("columns", ["dictionary", "nulls", "nested", "map", "many"])
@pytest.mark.parametrize("kind", ["file", "stream"])
def test_a_small_table_that_says_a_lot_becomes_no_python_objects(tmp_path, columns, kind):
    """A text that is stored once and used a thousand times, or a billion nulls in no space."""
    pyarrow = pytest.importorskip("pyarrow")
    n = 1000
    short = dictionary_of(pyarrow, "Say it.", n)
    outputs = {
        "dictionary": lambda: dictionary_of(pyarrow, "x" * 11_000_000, n),
        "nulls": lambda: pyarrow.ListArray.from_arrays(
            pyarrow.array([0] * n + [10**9], pyarrow.int32()), pyarrow.nulls(10**9)
        ),
        "nested": lambda: pyarrow.StructArray.from_arrays(
            [dictionary_of(pyarrow, "x" * 6_000_000, n)] * 2, ["a", "b"]
        ),
        "map": lambda: pyarrow.MapArray.from_arrays(
            pyarrow.array([0] * n + [n], pyarrow.int32()),
            short.cast(pyarrow.string()),
            dictionary_of(pyarrow, "x" * 10_000, n).cast(pyarrow.large_string()),
        ),
        "many": lambda: dictionary_of(pyarrow, "x" * 6_000_000, n),
    }
    arrays = {"instruction": short, "output": outputs[columns]()}
    if columns == "many":
        arrays["input"] = arrays["output"]
    batch = pyarrow.record_batch(list(arrays.values()), names=list(arrays))
    path = tmp_path / "rows.arrow"
    new = pyarrow.ipc.new_file if kind == "file" else pyarrow.ipc.new_stream
    with new(str(path), batch.schema) as writer:
        writer.write_batch(batch)
    row = n if columns in ("nulls", "map") else 1
    with pytest.raises(UserError, match=rf"rows\.arrow: row {row} has more than 10 MB"):
        read_data(path)


def test_sizes_of_rows_are_those_of_their_texts():
    """Of every kind of column, also where a batch is a part of a larger one."""
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.compute")
    text = pyarrow.string()
    columns = [
        (["ab", None, "ü", ""], text, [2, 0, 2, 0]),
        (["ab", None, "c", ""], pyarrow.string_view(), [2, 0, 1, 0]),
        (["ab", None, "ab", "c"], pyarrow.dictionary(pyarrow.int8(), text), [2, 0, 2, 1]),
        ([1, None, 3, 4], pyarrow.int8(), [8, 8, 8, 8]),
        ([["ab", "c"], None, [], [None]], pyarrow.list_(text), [19, 0, 0, 8]),
        ([["ab", "c"], None, [], [None]], pyarrow.list_view(text), [19, 0, 0, 8]),
        ([["ab"], None, ["c"], [None]], pyarrow.list_(text, 1), [10, 0, 9, 8]),
        ([[("k", "vw")], None, [], [("a", "b")]], pyarrow.map_(text, text), [19, 0, 0, 18]),
        ([{"a": "xyz"}, None, {"a": None}, {"a": "x"}], pyarrow.struct({"a": text}), [11, 8, 8, 9]),
    ]
    for values, kind, expected in columns:
        batch = pyarrow.record_batch([pyarrow.array(values, kind)], names=["a"])
        assert row_sizes(batch, pyarrow).tolist() == expected, kind
        for start in range(4):
            assert row_sizes(batch.slice(start, 2), pyarrow).tolist() == expected[start:][:2], kind


def test_a_workbook_that_does_not_fit_into_memory(tmp_path, monkeypatch):
    (tmp_path / "rows").write_bytes(cases.workbook([["instruction", "output"], ["a", "b" * 9999]]))
    monkeypatch.setattr(data_files, "max_json_bytes", lambda: 9999)
    with pytest.raises(UserError, match="more than 0 MB, which may not fit"):
        read_data(tmp_path / "rows")


def test_an_xz_file_that_asks_for_gigabytes(tmp_path):
    """A dictionary of 1.5 GB, in a file of a few bytes."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": 3 << 29, "mode": lzma.MODE_FAST}]
    try:
        content = lzma.compress(b"{}", filters=filters)
    except MemoryError:
        pytest.skip("this machine can't write such a file")
    (tmp_path / "rows").write_bytes(content)
    with pytest.raises(UserError, match=r"xz file is damaged .*[Mm]emory"):
        read_data(tmp_path / "rows")


def test_a_password_is_said(tmp_path):
    content = bytearray(cases.zipped(("rows.json", cases.LIST), mode=zipfile.ZIP_STORED))
    content[6] |= 1  # the bits that say "encrypted", in both headers
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "rows").write_bytes(content)
    with pytest.raises(UserError, match=r"the zip file can't be unpacked: .*password"):
        read_data(tmp_path / "rows")
