"""The Lamini course's data preparation: streams that stay lazy, columns, templates, the command."""

import gzip
import hashlib
import json
import random
import re
import sys
import tracemalloc
import zlib
from io import BufferedReader, BytesIO, FileIO
from itertools import islice
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.commands.cli import main
from ch07.config import FinetuneOptions
from ch07.data import opened_file, text_lines
from ch07.data.data_files import in_batches, stream_rows
from ch07.data.entries import load_entries, read_data
from ch07.data.field_names import ANSWER_NAMES, QUESTION_NAMES
from ch07.data.prompt_styles import QUESTION_STYLE, STYLES, get_style
from ch07.data.reference_formats.lamini_columns import (
    COURSE_ORDER,
    detect_columns,
    joined_text,
    normalize_record,
)
from ch07.data.reference_formats.lamini_templates import question_pair, question_text
from ch07.data.splits import hf_split
from ch07.data.token_boundaries import boundary_merge_rows
from ch07.data.token_store import write_store
from ch07.generation.decoding import generate
from ch07.training.run_plan import build_plan
from ch07.utils.atomic_files import write_jsonl
from ch07.utils.dependencies import MissingPackage
from ch07.utils.errors import DataError
from gpt_model import GPTModel
from instruction_dataset import InstructionDataset

ROOT = Path(__file__).resolve().parents[3]
QUESTIONS = [
    {"question": "Name a colour.", "answer": "Red"},
    {"question": "Say café\u2028日本.", "answer": "line\nline"},
    {"question": "Nothing?", "answer": ""},
]
ALPACA = [
    {"instruction": "Name a colour.", "input": "", "output": "Red"},
    {"instruction": "Say café\u2028日本.", "input": "", "output": "line\nline"},
]


def jsonl(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_bomb(path, start, n_bytes):
    """Gzip that unpacks to `start` and so many letters, and is a thousandth of their size."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(start) + packer.compress(b"a" * n_bytes) + packer.flush()
    path.write_bytes(packed)


# --- streams ------------------------------------------------------------------------------------


class Counted(FileIO):
    """A file that counts the bytes that are taken from it."""

    taken = 0

    def readinto(self, buffer):
        n = super().readinto(buffer)
        self.taken += n
        return n


def test_three_rows_of_five_thousand_cost_less_than_a_hundredth(tmp_path):
    r = random.Random(0)
    rows = [
        {"text": r.randbytes(700).hex(), "timestamp": "2019", "url": str(i)} for i in range(5000)
    ]
    path = tmp_path / "c4.jsonl.gz"
    path.write_bytes(gzip.compress(jsonl(*rows), 1))
    with Counted(path) as raw, BufferedReader(raw, opened_file.READ_BYTES) as file:
        assert list(stream_rows(file, limit=3)) == rows[:3]
        assert 0 < raw.taken < path.stat().st_size / 100
        assert list(stream_rows(path)) == rows


def test_five_at_a_time(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(jsonl(*({"n": i} for i in range(12))))
    batches = in_batches(stream_rows(path), 5)
    assert next(batches) == [{"n": i} for i in range(5)]
    assert [len(batch) for batch in batches] == [5, 2]
    assert list(in_batches([], 5)) == []
    with pytest.raises(ValueError, match="a batch has 0 rows"):
        in_batches([], 0)


texts = st.text(st.characters(exclude_categories=["Cs"]))


@settings(max_examples=40)
@given(st.lists(st.dictionaries(texts, texts, max_size=3), min_size=1, max_size=5), st.booleans())
def test_a_stream_gives_what_the_file_holds(rows, packed):
    data = jsonl(*rows)
    file = BufferedReader(BytesIO(gzip.compress(data) if packed else data))
    assert list(stream_rows(file)) == rows


def test_gzip_in_several_parts_and_blank_lines(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(gzip.compress(b'\n{"a": 1}\r\n') + gzip.compress(b'\n{"a": 2}'))
    assert list(stream_rows(path)) == [{"a": 1}, {"a": 2}]


GOOD = b'{"a": 1}\n'


@pytest.mark.parametrize(
    ("content", "n_good", "message"),
    [
        (gzip.compress(GOOD * 999)[:-9], 900, r"cut short: it can be read up to line 9\d\d"),
        (gzip.compress(GOOD) + b"rubbish", 1, r"damaged .*up to line 1"),
        (gzip.compress(GOOD)[:-8] + b"\0" * 8, 1, r"damaged \(CRC check failed.*up to line 1"),
        (GOOD + b'{"a": "cut', 1, "line 2: not JSON: Unterminated string"),
        (GOOD + b'{"a": "\xff"}', 1, "not UTF-8: byte 16 is 0xff .in line 2."),
        (gzip.compress(GOOD + b"\xff"), 1, "not UTF-8: byte 9 is 0xff .in line 2."),
        (GOOD + b'"text"', 1, "line 2: expected an object, found a text"),
        (GOOD + b'{"a": 1, "a": 2}', 1, "line 2: the key 'a' appears twice"),
        (b"[" + GOOD + b",]", 0, "not JSON: .* line 2, column"),
        (GOOD + b'{"a": "' + b"a" * 100, 1, "line 2 is longer than"),
        (gzip.compress(GOOD + b'{"a": "' + b"a" * 10_000), 1, "line 2 is longer than"),
        (gzip.compress(GOOD + b"\n" * 10_000), 1, "nothing but blank lines up to line 101"),
        (b"PAR1 and no more", 0, "this Parquet file can't be read"),
        (None, 0, "No such file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # not the bytes: they hold the time
)
def test_a_fault_is_a_sentence_with_its_line(tmp_path, monkeypatch, content, n_good, message):
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 90)
    monkeypatch.setattr(text_lines, "MAX_BLANK_LINES", 99)
    path = tmp_path / "rows"
    if content is not None:
        path.write_bytes(content)
    rows = stream_rows(path)
    assert list(islice(rows, n_good)) == [{"a": 1}] * n_good
    with pytest.raises(DataError, match=message) as caught:
        list(rows)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_bomb_fills_no_memory(tmp_path, monkeypatch):
    """60 MB out of 60 KB; the limit on a line stops it after 10 MB, whatever follows.

    A first line may be an object that holds all rows: for it, the free memory is the limit.
    """
    monkeypatch.setattr(text_lines, "max_json_bytes", lambda: 11_000_000)
    bombs = {
        "object": (b'{"text": "', "more than 11 MB, which may not fit"),
        "list": (b'[{"text": "', "more than 11 MB, which may not fit"),
        "line": (b'{"a": 1}\n{"text": "', "line 2 is longer than 10 MB"),
    }
    for name, (start, _) in bombs.items():
        write_bomb(tmp_path / name, start, 60_000_000)
    tracemalloc.start()
    try:
        for name, (_, message) in bombs.items():
            with pytest.raises(DataError, match=message):
                list(stream_rows(tmp_path / name))
        assert tracemalloc.get_traced_memory()[1] < 40_000_000
    finally:
        tracemalloc.stop()


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(DataError, match="is a folder, but must be a data file"):
        next(stream_rows(tmp_path))


def test_a_store_from_gzip_is_the_store_of_what_it_unpacks_to(tmp_path):
    """But for the hash of its source, which is that of the file as it is."""
    (tmp_path / "a.jsonl").write_bytes(jsonl(*ALPACA))
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(jsonl(*ALPACA)))
    plain, packed = (
        write_store(tmp_path / name, tmp_path / f"{name}.store", get_style("book"))
        for name in ("a.jsonl", "a.jsonl.gz")
    )
    assert plain.about["sha256"] == packed.about["sha256"]
    for store, name in ((plain, "a.jsonl"), (packed, "a.jsonl.gz")):
        wanted = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
        assert store.about["source_sha256"] == wanted


# --- columns and templates ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("record", "text"),
    [
        ({"question": "q", "answer": "a"}, "qa"),
        ({"instruction": "q", "response": "a", "category": "c"}, "qa"),
        ({"input": "q", "output": "a"}, "qa"),
        ({"text": "t", "timestamp": "2019", "url": "u"}, "t"),
        ({"input": "i", "output": "o", "question": "q", "answer": "a"}, "qa"),
        ({"text": "t", "instruction": "q", "response": "a"}, "qa"),
        ({"instruction": "lost", "input": "i", "output": "o"}, "io"),  # the course's fault
    ],
)
def test_the_course_finds_its_columns(record, text):
    assert joined_text(record) == text


@pytest.mark.parametrize(
    ("record", "entry"),
    [
        ({"question": "q", "answer": "a"}, ("q", "", "a")),
        ({"instruction": "q", "response": "a", "context": "c"}, ("q", "c", "a")),
        ({"question": "q", "answer": "a", "input": "i", "context": "c"}, ("q", "i", "a")),
        ({"input": "q", "output": "a"}, ("q", "", "a")),
        ({"input": "q", "output": "a", "context": "c"}, ("q", "c", "a")),
        ({"prompt": "q", "response": "a"}, ("q", "", "a")),
        ({"prompt": "q", "completion": "a"}, ("q", "", "a")),
        ({"instruction": "q", "input": "i", "output": "a"}, ("q", "i", "a")),
        ({"instruction": "q", "input": None, "output": "a"}, ("q", "", "a")),
        ({"text": "t"}, ("", "", "t")),
    ],
)
def test_a_record_becomes_an_entry(tmp_path, record, entry):
    wanted = dict(zip(("instruction", "input", "output"), entry, strict=True))
    assert normalize_record(record) == wanted
    # and the loader agrees, but for text, which asks nothing
    path = tmp_path / "rows.json"
    path.write_text(json.dumps([record, record]), encoding="utf-8")
    if detect_columns(record) == ("text",):
        with pytest.raises(DataError, match="'text' alone is for pretraining"):
            load_entries(path)
    else:
        read = load_entries(path)[0]
        assert {key: read[key] for key in wanted} == wanted


@pytest.mark.parametrize("columns", [["prompt", "text_b"], ["Question", "Answer"], []])
def test_unknown_columns_are_listed(columns):
    with pytest.raises(ValueError, match="no known columns; found: ") as caught:
        normalize_record(dict.fromkeys(columns, "x"))
    assert all(repr(column) in str(caught.value) for column in columns)
    assert "question/answer" in str(caught.value)


def test_the_loader_knows_the_courses_pairs_in_its_order():
    for question, answer in COURSE_ORDER[:2]:
        assert question in QUESTION_NAMES and answer in ANSWER_NAMES


def test_the_courses_two_outputs_differ_at_the_seam_and_ours_do_not(tokenizer):
    entry = {"instruction": "What is the antonym of 'complicated'?", "output": "Simple."}
    text, pair = question_text(entry), question_pair(entry)
    assert text == "### Question:\n{instruction}\n\n### Answer:\n{output}".format(**entry)
    assert text == pair["question"] + "\n" + pair["answer"]
    encode = tokenizer.encode_ordinary
    trained_on = encode(joined_text(pair))
    assert len(encode(text)) == len(trained_on) + 1
    newline = len(encode(pair["question"]))
    assert encode(text)[newline] == encode("\n")[0]
    # ours: one template, and the ids of its prompt begin the ids of the row
    dataset = InstructionDataset([entry], tokenizer, QUESTION_STYLE)
    assert dataset[0] == encode(text)
    assert boundary_merge_rows([entry], tokenizer, QUESTION_STYLE) == []
    assert dataset[0][: dataset.prompt_lengths[0]] == encode(QUESTION_STYLE.prompt(entry))


def test_the_same_row_in_every_template():
    entry = normalize_record({"question": "Who sang?", "context": "Anna sang.", "answer": "Anna"})
    rows = {name: style.prompt(entry) + entry["output"] for name, style in STYLES.items()}
    assert len(set(rows.values())) == len(STYLES)
    assert all(text.index("Who sang?") < text.index("Anna sang.") for text in rows.values())


def test_a_prompt_of_150_tokens_still_gets_its_answer():
    """The course's `max_length=100` counts the prompt, so a long question gets none."""
    shape = {"vocab_size": 97, "context_length": 256, "emb_dim": 8, "n_heads": 1, "n_layers": 1}
    model = GPTModel(shape, torch.Generator().manual_seed(0)).eval()
    assert [len(ids) for ids in generate(model, [[1] * 150, [1]], 20, end_id=-1)] == [20, 20]


# --- writing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"output": "\ud800"}, "half a character"),
        ({"output": float("nan")}, "can't be written: Out of range"),
        ({"output": b"x"}, "can't be written: Object of type bytes"),
    ],
)
def test_what_json_lines_cannot_hold_is_refused_with_its_row(tmp_path, row, why):
    path = tmp_path / "out.jsonl"
    with pytest.raises(ValueError, match=f"row 2 .*{why}|row 2 {why}"):
        write_jsonl(path, [{"output": "x"}, row])
    assert not list(tmp_path.iterdir())


# --- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["jsonl", "gz", "parquet"])
def test_prepare_data_reads_every_form(tmp_path, capsys, kind):
    path, out = tmp_path / f"docs.{kind}", tmp_path / "out.jsonl"
    if kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(
            pyarrow.Table.from_pylist(QUESTIONS), path
        )
    else:
        data = jsonl(*QUESTIONS)
        path.write_bytes(gzip.compress(data) if kind == "gz" else data)
    assert main(["prepare-data", str(path), str(out)]) == 0
    captured = capsys.readouterr()
    assert out.read_bytes() == jsonl(*ALPACA) and load_entries(out) == ALPACA
    assert "2 rows in" in captured.out and f"finetune --data {out}" in captured.out
    assert "question/answer read as instruction/output (3:" in captured.err
    assert "left out: 'answer' is empty (1:" in captured.err
    assert main(["prepare-data", str(path), str(out)]) == 2
    assert "exists: choose another name for OUT" in capsys.readouterr().err


def test_a_file_says_once_that_its_input_asks(tmp_path, capsys):
    path, out = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(jsonl({"input": "Q", "output": "A"}, {"input": "R", "output": "B"}))
    assert main(["prepare-data", str(path), str(out), "--limit", "1"]) == 0
    assert load_entries(out) == [{"instruction": "Q", "input": "", "output": "A"}]
    out.unlink()
    path.write_bytes(jsonl(ALPACA[0], {"input": "R", "output": "B"}))  # here it is a fault
    assert main(["prepare-data", str(path), str(out)]) == 1
    assert "line 2: 'instruction' is missing" in capsys.readouterr().err and not out.exists()
    assert main(["prepare-data", str(path), str(out), "--skip-bad-rows"]) == 0
    assert load_entries(out) == ALPACA[:1]


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (jsonl({"text": "web", "url": "u"}), 1, "'text' alone is for pretraining"),
        (b"", 1, "the file is empty"),
        (gzip.compress(GOOD)[:-9], 1, "cut short"),
        (None, 1, "No such file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_prepare_data_leaves_nothing_behind_when_it_fails(tmp_path, capsys, content, code, message):
    if content is not None:
        (tmp_path / "rows").write_bytes(content)
    assert main(["prepare-data", str(tmp_path / "rows"), str(tmp_path / "out")]) == code
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["rows"] * (content is not None)


def test_no_folder_no_file(tmp_path, capsys):
    (tmp_path / "rows").write_bytes(jsonl(*ALPACA))
    assert main(["prepare-data", str(tmp_path / "rows"), str(tmp_path / "no" / "out")]) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (b"\x1f\x8b", "the gzip file is cut short"),
        (b"PAR1", "this Parquet file can't be read"),
    ],
)
def test_a_damaged_file_is_a_sentence(tmp_path, start, message):
    (tmp_path / "rows").write_bytes(start + b"...")
    with pytest.raises(DataError, match=message):
        read_data(tmp_path / "rows")


# --- the split of `datasets`, and its names -----------------------------------------------------


def test_split_hf_of_a_run_and_of_a_store(tmp_path):
    """Tests a tenth, rounded up, and validates nothing; the same from a file and from a store."""
    rows = [{"instruction": f"Say {i}", "input": "", "output": str(i)} for i in range(31)]
    rows[0]["split"] = "test"  # ignored, and said
    path = tmp_path / "rows.jsonl"
    path.write_bytes(jsonl(*rows))
    write_store(path, tmp_path / "store", get_style("book"))
    wanted = hf_split(rows, seed=7)
    assert [len(part) for part in wanted.values()] == [27, 4, 0]
    for data in (path, tmp_path / "store"):
        said = []
        plan = build_plan(FinetuneOptions(data=str(data), split="hf", seed=7), said.append)
        assert {name: list(part.data) for name, part in plan.rows.datasets.items()} == wanted
        assert any("ignoring the file's `split` field" in line for line in said)
        assert any("no validation rows" in line for line in said)


def test_a_split_without_rows_is_refused(tmp_path, capsys):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(ALPACA[:1]), encoding="utf-8")
    assert main(["finetune", "--data", str(path), "--split", "hf"]) == 1
    assert "leaves no row to train or to test on, of 1 in all" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name",
    ["hf:", "hf:json", "hf:a/b:", "hf:a/b/c", "hf:a b/c", "hf:a\nb/c", "hf:../a/b", "hf:/no"],
)
def test_what_is_no_name_of_a_dataset(name):
    with pytest.raises(
        DataError, match=r"is not the name of a dataset: write hf:OWNER/NAME|there is no folder"
    ):
        read_data(name)


@pytest.mark.parametrize(
    ("module", "command", "message"),
    [
        (
            "datasets",
            ["finetune", "--data", "hf:lamini/lamini_docs"],
            "pip install datasets==5.2.0",
        ),
        ("pyarrow", ["prepare-data", "rows.parquet", "out"], "pip install pyarrow"),
    ],
)
def test_a_missing_package_is_a_sentence(tmp_path, monkeypatch, capsys, module, command, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, module, None)
    assert main(command) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    with pytest.raises(MissingPackage):
        main([*command, "-v"])


def test_nothing_optional_is_imported_unasked():
    """No statement of ours imports it: `optional` does, when it is asked for."""
    for path in (ROOT / "ch07").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(
            r"^\s*(import|from) (datasets|pyarrow|openpyxl)\b", text, re.MULTILINE
        ), path
