"""Several files, folders, patterns, standard input: all rows, and each place says which file."""

import io
import json
import shutil
import subprocess
import sys
from types import SimpleNamespace

import cases
import pytest

from ch07.commands.cli import main
from ch07.config import FinetuneOptions
from ch07.data.entries import load_entries, read_data
from ch07.data.findings import summarize_findings
from ch07.data.token_store import write_store
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.training.resume import options_from_run
from ch07.training.run_plan import build_plan
from ch07.utils.atomic_files import read_json
from ch07.utils.errors import DataError
from instruction_dataset import BOOK_STYLE


def numbered(folder, name, numbers, **more):
    """A JSONL file of rows that say these numbers."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [{"instruction": f"Say {i}.", "output": str(i), **more} for i in numbers]
    path.write_bytes(cases.jsonl(*rows))
    return path


def outputs(source):
    return [entry["output"] for entry in load_entries(source)]


def test_files_are_read_in_the_order_given(tmp_path):
    b, a = numbered(tmp_path, "b.jsonl", [1, 2]), numbered(tmp_path, "a.json", [3])
    file = read_data([str(b), str(a)])
    assert [entry["output"] for entry in file.entries] == ["1", "2", "3"]
    assert file.places == ["b.jsonl line 1", "b.jsonl line 2", "a.json line 1"]
    assert str(file.path) == f"{b} and 1 other file"
    assert read_data([str(b)]).places == read_data(b).places == ["line 1", "line 2"]


def test_the_hash_is_of_all_files(tmp_path):
    files = [str(numbered(tmp_path, name, [i])) for i, name in enumerate("ab")]
    before = read_data(files).sha256
    assert before == read_data(files).sha256 != read_data(files[::-1]).sha256
    numbered(tmp_path, "b", [7])
    assert read_data(files).sha256 != before
    assert read_data(files[0]).sha256 == read_data(files[:1]).sha256


def test_a_row_in_two_files_is_told_with_both_places(tmp_path):
    files = [str(numbered(tmp_path, name, [1])) for name in ("a", "b")]
    (line,) = summarize_findings(read_data(files).findings)
    assert line == "the same as an earlier row (1: b line 1)"


def test_faults_name_their_file(tmp_path):
    good, bad = numbered(tmp_path, "good", [1]), tmp_path / "bad"
    bad.write_text('{"instruction": "x", "output": 3}\n{broken', encoding="utf-8")
    with pytest.raises(DataError, match=r"bad line 1: 'output' is a number.*\n  bad line 2: not J"):
        read_data([str(good), str(bad)])


def test_files_of_one_name_are_told_by_their_paths(tmp_path):
    files = [str(numbered(tmp_path / name, "rows", [i])) for i, name in enumerate("ab")]
    assert read_data(files).places == [f"{path} line 1" for path in files]


def test_a_folder_is_its_data_files(tmp_path):
    numbered(tmp_path, "b.jsonl", [2])
    numbered(tmp_path, "a.JSONL", [1])
    numbered(tmp_path, "deep/er/c.ndjson", [3])
    (tmp_path / "d.csv.gz").write_bytes(cases.gzip.compress(cases.delimited(",").encode()))
    for name in ("README.md", "dataset_info.json", ".hidden.json", "picture.png", "state.json"):
        (tmp_path / name).write_text("x", encoding="utf-8")
    numbered(tmp_path, ".cache/e.jsonl", [9])
    assert outputs(tmp_path) == ["1", "2", "Kumquat", "Kumquats", "A, B", "3"]
    assert read_data(tmp_path).places[-1] == "c.ndjson line 1"


def test_a_pattern_is_the_files_that_it_fits(tmp_path):
    for i, name in enumerate(["b.jsonl", "a.jsonl", "c.json"]):
        numbered(tmp_path, name, [i])
    assert outputs(f"{tmp_path}/*.jsonl") == ["1", "0"]
    assert outputs(f"{tmp_path}/[bc].*") == ["0", "2"]
    with pytest.raises(DataError, match=r"\*\.csv: no file has such a name"):
        read_data(f"{tmp_path}/*.csv")


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path):
    numbered(tmp_path, "rows [1].jsonl", [5])
    assert outputs(tmp_path / "rows [1].jsonl") == ["5"]


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["train.jsonl", "test.jsonl", "valid.jsonl"], ["train", "test", "validation"]),
        (["train-00000-of-1.json", "validation-00000-of-1.json"], ["train", "validation"]),
        (["data/train/a.json", "data/dev/a.json"], [None, None]),  # their own names say nothing
        (["train_sft.json", "test_sft.json", "notes.json"], ["train", "test", None]),
        (["test.jsonl", "more.jsonl"], [None, None]),  # nothing to train on is named
        (["train_1.json", "train_2.json"], [None, None]),
        (["a.json", "b.json"], [None, None]),
    ],
)
def test_files_named_as_splits_are_these_splits(tmp_path, names, splits):
    """So nobody trains on a test file by naming a folder."""
    files = [str(numbered(tmp_path, name, [i])) for i, name in enumerate(names)]
    file = read_data(files)
    assert [entry.get("split") for entry in file.entries] == splits
    told = [finding.text for finding in file.findings if "goes to" in finding.text]
    told += [finding.text for finding in file.findings if "go to" in finding.text]
    assert len(told) == sum(split is not None for split in splits)


def test_a_rows_own_split_counts_more_than_the_files_name(tmp_path):
    train = numbered(tmp_path, "train.jsonl", [1], split="validation")
    test = numbered(tmp_path, "test.jsonl", [2])
    rows = load_entries([str(train), str(test)])
    assert [row["split"] for row in rows] == ["validation", "test"]


def test_lists_under_several_splits_of_one_object(tmp_path):
    path = tmp_path / "rows.json"
    rows = {"train": cases.ROWS[:2], "val": cases.ROWS[2:], "version": 1}
    path.write_bytes(cases.text(rows))
    file = read_data(path)
    assert [row["split"] for row in file.entries] == ["train", "train", "validation"]
    assert file.places == ["train row 1", "train row 2", "val row 1"]
    told = [finding.text for finding in file.findings]
    assert told[0] == "the rows under 'train', 'val' were read"
    assert told[1] == "what is under 'version' was not read"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: path.mkdir(), "is a folder without a data file: none ends in .arrow, .csv"),
        (lambda path: None, "No such file"),
        (lambda path: [numbered(path, name, [1]) for name in ("config.json", "model.safetensors")],
         "is a run or a model, not data"),
        (lambda path: write_store(numbered(path.parent, "a", [1]), path, BOOK_STYLE),
         "is a token store: give the file that it was made from"),
    ],
)  # fmt: skip
def test_what_is_no_data(tmp_path, make, message):
    make(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        read_data(tmp_path / "data")


def test_the_bundled_files_have_names():
    assert load_entries("toy:instructions") == load_entries(DATA_FILE)
    both = read_data(["toy:instructions", "toy:conversations"])
    assert both.places[0] == "data.json row 1" and "history" in both.entries[-1]
    with pytest.raises(DataError, match="no bundled data is called toy:x; there are toy:instr"):
        read_data("toy:x")


# --- standard input -------------------------------------------------------------------------------
def given(monkeypatch, content, seekable=False):
    """Make `content` standard input, as a pipe or as a file."""
    raw = io.BytesIO(content)
    raw.seekable = lambda: seekable
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BufferedReader(raw)))


@pytest.mark.parametrize("seekable", [False, True])
@pytest.mark.parametrize(
    "case", ["a JSON list", "JSONL", "gzip", "Parquet", "a workbook", "CSV", "a zip of one file"]
)
def test_standard_input_is_read_like_a_file(tmp_path, monkeypatch, case, seekable):
    _, content, rows = cases.FILE_FORMS[case]
    (tmp_path / "rows").write_bytes(content)
    given(monkeypatch, content, seekable)
    file = read_data("-")
    assert [(e["instruction"], e["input"], e["output"]) for e in file.entries] == rows
    assert file.sha256 == read_data(tmp_path / "rows").sha256
    assert file.path == "standard input"


def test_a_fault_in_standard_input_says_so(monkeypatch):
    given(monkeypatch, b'{"instruction": "x"}\n')
    with pytest.raises(DataError, match="standard input: 1 faulty row"):
        read_data("-")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="standard input can't be read"):
        read_data("-")


# --- through the commands -------------------------------------------------------------------------
def test_a_plan_has_the_rows_of_all_files(tmp_path):
    train = numbered(tmp_path, "train.jsonl", range(30))
    test = numbered(tmp_path, "test.jsonl", range(40, 44))
    plan = build_plan(FinetuneOptions(data=[str(train), str(test)]), lambda text: None)
    assert [len(plan.rows.datasets[name]) for name in ("train", "test")] == [30, 4]
    assert plan.rows.place_of("test", 0) == "test.jsonl line 1"


def test_a_store_has_the_rows_of_all_files_and_their_places(tmp_path):
    files = [str(numbered(tmp_path, name, range(i, i + 3))) for i, name in enumerate("ab")]
    store = write_store(files, tmp_path / "store", BOOK_STYLE)
    assert [store.place(i) for i in range(6)] == [
        f"{name} line {i}" for name in "ab" for i in (1, 2, 3)
    ]


def test_the_doctor_prints_a_command_with_all_files(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    numbered(tmp_path, "a b.jsonl", range(30))
    numbered(tmp_path, "c.jsonl", range(30, 60))
    assert main(["doctor", "a b.jsonl", "--data", "c.jsonl", "--max-steps", "1"]) == 0
    last = capsys.readouterr().out.splitlines()[-1].strip()
    assert last == "python -m ch07 finetune --data 'a b.jsonl' --data c.jsonl --max-steps 1"


@pytest.mark.slow
def test_a_run_on_several_files_is_repeated_with_them(tmp_path):
    files = [str(numbered(tmp_path, name, range(i, i + 20))) for i, name in enumerate("ab")]
    words = ["finetune", *files, "--max-steps", "1", "--out", str(tmp_path / "run")]
    assert main(words) == 0
    assert read_json(tmp_path / "run" / "config.json")["options"]["data"] == files
    assert options_from_run(tmp_path / "run", {}).data == files


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("WINDOWS-1252", "L\u2019été déjà vu, ça va? Äpfel, Öl, Straße, éè"),
        ("GB18030", "请说出一种水果的名字。"),
        ("SHIFT_JIS", "果物の名前を言ってください。"),
        ("EUC-JP", "果物の名前を言ってください。"),
        ("CP949", "과일 이름을 말해 주세요."),
    ],
)  # fmt: skip
def test_the_hint_of_another_encoding_gives_the_text_back(tmp_path, encoding, text):
    """A command that is pasted must not make something else of the text."""
    row = {"instruction": text, "output": "x"}
    path = tmp_path / "rows.jsonl"
    path.write_bytes(json.dumps(row, ensure_ascii=False).encode(encoding))
    with pytest.raises(DataError, match=f"iconv -f {encoding} -t UTF-8") as caught:
        read_data(path)
    command = str(caught.value).split("for example: ")[1]
    if shutil.which("iconv"):
        subprocess.run(command, shell=True, check=True)
        (entry,) = load_entries(f"{path}.utf8")
        assert entry["instruction"] == text
