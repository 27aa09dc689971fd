"""Hugging Face's `datasets`: the same split, files that both read, rows that it loads for us."""

import json
import random

import datasets
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.commands.cli import main
from ch07.config import FinetuneOptions
from ch07.data import hub_dataset
from ch07.data.data_files import stream_rows
from ch07.data.entries import load_entries, read_data
from ch07.data.splits import hf_split
from ch07.training.job import build_job, describe_job
from ch07.training.resume import check_sources, check_unchanged, options_from_run
from ch07.utils.atomic_files import write_json, write_jsonl
from ch07.utils.errors import DataError

ROWS = [
    {"instruction": "Say “café”.", "input": "", "output": "日本 😀"},
    {"instruction": 'a\nb\r\n"c"\\', "input": "\u2028\u2029\u0085\u0000\u001f", "output": "\t "},
    {"instruction": "When?", "input": "", "output": "2020-01-01"},
    {"instruction": "", "input": "", "output": ""},
]
DOCS = [{"question": f"What is {i}?", "answer": str(i), "labels": [i]} for i in range(8)]


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """Nothing is read from an earlier run, or left for a later one."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setattr(datasets.config, "HF_DATASETS_CACHE", folder)
        datasets.disable_progress_bars()
        yield
        datasets.enable_progress_bars()


# --- the split ----------------------------------------------------------------------------------


def theirs(n, **options):
    parts = datasets.Dataset.from_dict({"i": range(n)}).train_test_split(shuffle=True, **options)
    return {name: part["i"][:] for name, part in parts.items()}


def ours(n, **options):
    parts = hf_split(range(n), **options)
    assert parts.pop("validation") == []
    return parts


def test_the_courses_split():
    wanted = theirs(1400, test_size=0.1, seed=123)
    assert ours(1400) == wanted
    assert [len(wanted[name]) for name in ("train", "test")] == [1260, 140]


def test_the_same_split_for_every_size_and_seed():
    r = random.Random(0)
    for n in [*range(2, 22), 97, 1001, 5000]:
        share = r.choice([0.1, 0.25, 0.5, r.uniform(0.01, 0.99), r.randint(1, n - 1)])
        seed = r.randrange(2**31)
        for options in ({"test_size": 0.1, "seed": seed}, {"test_size": share, "seed": seed}):
            try:
                wanted = theirs(n, **options)
            except ValueError:
                with pytest.raises(ValueError, match="no row to train or to test on"):
                    ours(n, **options)
            else:
                assert ours(n, **options) == wanted, (n, options)


@pytest.mark.parametrize("size", [0, 5, 6, -1, 0.0, 1.0, 1.5, -0.5, 0.99])
def test_what_they_refuse_we_refuse(size):
    for split in (theirs, ours):
        with pytest.raises(ValueError):
            split(5, test_size=size, seed=0)


# --- files --------------------------------------------------------------------------------------


def loaded(path):
    return datasets.load_dataset("json", data_files=str(path), split="train").to_list()


def test_they_read_what_we_write(tmp_path):
    path = tmp_path / "rows.jsonl"
    assert write_jsonl(path, iter(ROWS)) == len(ROWS)
    assert loaded(path) == list(stream_rows(path)) == ROWS


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@settings(max_examples=8, deadline=None)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=5))
def test_whatever_the_letters(tmp_path_factory, pairs):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    rows = [{"question": f"text: {q}", "answer": f"text: {a}"} for q, a in pairs]
    write_jsonl(path, rows)
    assert loaded(path) == list(stream_rows(path)) == rows


def test_we_read_what_they_write(tmp_path):
    dataset = datasets.Dataset.from_list(ROWS)
    for name, write in (
        ("rows.jsonl", dataset.to_json),
        ("rows.jsonl.gz", lambda path: dataset.to_json(path, compression="gzip")),
        ("rows.parquet", dataset.to_parquet),
    ):
        write(str(tmp_path / name))
        assert list(stream_rows(tmp_path / name)) == ROWS, name


def test_a_column_of_nothing_but_dates_becomes_dates_in_their_hands(tmp_path):
    """Known: pyarrow guesses types. Our loader keeps text; a row that was changed is refused."""
    rows = [{"instruction": "When?", "input": "", "output": "2020-01-01"}] * 2
    write_jsonl(tmp_path / "rows.jsonl", rows)
    assert load_entries(tmp_path / "rows.jsonl") == rows
    assert loaded(tmp_path / "rows.jsonl") != rows
    with pytest.raises(DataError, match="row 1: 'output' is a datetime, but must be text"):
        read_data(f"hf:{tmp_path}")


def test_three_rows_of_a_large_parquet_file(tmp_path):
    r = random.Random(0)
    dataset = datasets.Dataset.from_dict({"text": [r.randbytes(400).hex() for _ in range(5000)]})
    path = tmp_path / "rows.parquet"
    dataset.to_parquet(str(path), batch_size=20)  # rows in a group, which is read as a whole

    class Counted:
        """A file that counts the bytes that are taken from it."""

        taken = 0

        def __init__(self, file):
            self.file = file

        def __getattr__(self, name):
            return getattr(self.file, name)

        def read(self, size=-1):
            data = self.file.read(size)
            self.taken += len(data)
            return data

    with open(path, "rb") as file:
        counted = Counted(file)
        assert [row["text"] for row in stream_rows(counted, 3)] == dataset["text"][:3]
        footer = int.from_bytes(path.read_bytes()[-8:-4], "little")  # the list of all groups
        assert counted.taken - footer - 65536 < path.stat().st_size / 100  # and the last 64 KB


# --- hf:NAME ------------------------------------------------------------------------------------


@pytest.fixture
def docs(tmp_path):
    """A dataset with two splits, as a folder: what the Hub has, but here."""
    folder = tmp_path / "docs"
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", DOCS)
    write_jsonl(folder / "test.jsonl", DOCS[:1])
    return folder


def test_a_dataset_stands_where_a_file_may(docs):
    file = read_data(f"hf:{docs}")
    wanted = [
        {"instruction": row["question"], "input": "", "output": row["answer"], "split": part}
        for part, rows in (("train", DOCS), ("test", DOCS[:1]))
        for row in rows
    ]
    assert file.entries == wanted
    assert file.places[7:] == ["train row 8", "test row 1"]
    seen = {(finding.place, finding.text) for finding in file.findings}
    assert ("all rows", "the key 'labels' is not trained on") in seen
    assert ("test row 1", "the same as an earlier row; first as train row 1") in seen
    one = read_data(f"hf:{docs}:test")
    assert one.places == ["row 1"] and "split" not in one.entries[0]
    assert len(read_data(f"hf:{docs}:train[:3]").entries) == 3
    assert read_data(f"hf:{docs}").sha256 == file.sha256 != one.sha256


def test_splits_that_we_do_not_know(docs):
    (docs / "test.jsonl").rename(docs / "extra.jsonl")
    (docs / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files:\n"
        "  - {split: train_sft, path: train.jsonl}\n  - {split: extra, path: extra.jsonl}\n---\n",
        encoding="utf-8",
    )
    with pytest.raises(DataError, match=r"'train_sft', 'extra': choose one, as in hf:.*:train_sft"):
        read_data(f"hf:{docs}")
    assert len(read_data(f"hf:{docs}:train_sft").entries) == 8
    with pytest.raises(DataError, match="can't be loaded: Unknown split"):
        read_data(f"hf:{docs}:test")


def test_input_and_output_are_read_as_the_whole_dataset_has_them(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [{"input": "Q", "output": "A"}])
    (entry,) = read_data(f"hf:{tmp_path}").entries
    assert entry == {"instruction": "Q", "input": "", "output": "A"}


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ConnectionError("Couldn't reach it"), "can't be reached: no network, or HF_HUB_OFFLINE"),
        (datasets.exceptions.DatasetNotFoundError("no"), "the Hub has no dataset 'lamini/docs'"),
        (
            RuntimeError("Dataset scripts are no longer supported\nmore"),
            "scripts are no longer supported",
        ),
        (datasets.exceptions.DatasetGenerationError(), "can't be loaded: DatasetGenerationError"),
    ],
)
def test_whatever_fails_is_one_sentence(monkeypatch, capsys, error, message):
    def load(name, split):
        assert (name, split) == ("lamini/docs", "train")
        raise error

    monkeypatch.setattr(datasets, "load_dataset", load)
    assert main(["finetune", "--data", "hf:lamini/docs:train"]) == 1
    said = capsys.readouterr().err
    assert "hf:lamini/docs:train" in said and message in said and said.count("\n") == 1


def test_offline_is_one_sentence():
    """The real thing: the tests forbid the Hub."""
    with pytest.raises(DataError, match="can't be reached"):
        read_data("hf:lamini/lamini_docs")


def test_a_dataset_that_does_not_fit(docs, monkeypatch):
    monkeypatch.setattr(hub_dataset, "max_json_bytes", lambda: 10)
    with pytest.raises(DataError, match="may not fit into the free memory"):
        read_data(f"hf:{docs}")


def test_a_run_on_a_dataset_goes_on_and_is_done_again(docs, tmp_path, monkeypatch):
    """By its name, as a stub of the Hub gives it; with other rows it is refused."""
    load = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: load(str(docs), split=split))
    options, said = FinetuneOptions(data="hf:lamini/lamini_docs:train"), []
    job = build_job(options, said.append)
    config = describe_job(options, job)
    write_json(tmp_path / "config.json", config)
    assert options_from_run(tmp_path, {}).data == options.data
    assert config["facts"]["data_sha256"] == read_data(options.data).sha256
    check_sources(tmp_path, config)  # of --like
    check_unchanged(tmp_path, config, describe_job(options, job), said.append)  # of --resume
    write_jsonl(docs / "train.jsonl", [{**DOCS[0], "answer": "changed"}, *DOCS[1:]])
    changed = read_data(options.data).sha256
    now = {**config, "facts": config["facts"] | {"data_sha256": changed}}
    with pytest.raises(ValueError, match="data_sha256 was"):
        check_sources(tmp_path, now)
    with pytest.raises(ValueError, match="data_sha256 was"):
        check_unchanged(tmp_path, config, now, said.append)


def test_the_rows_hash_is_of_what_is_trained_on(docs):
    before = read_data(f"hf:{docs}").sha256
    write_jsonl(docs / "train.jsonl", [{**row, "labels": [0]} for row in DOCS])
    assert read_data(f"hf:{docs}").sha256 == before
    rows = [json.loads(json.dumps(row)) for row in DOCS]
    rows[3]["answer"] = "other"
    write_jsonl(docs / "train.jsonl", rows)
    assert read_data(f"hf:{docs}").sha256 != before
