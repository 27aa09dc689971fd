"""A token store gives the batches that its file would give, and says what is wrong with a file."""

import json
import os
import pickle
import random

import numpy as np
import pytest

from ch07.commands.cli import main
from ch07.config import FinetuneOptions
from ch07.data import text_lines, token_store
from ch07.data.disk_array import DiskArray
from ch07.data.prompt_styles import get_style
from ch07.data.token_store import TokenStore, is_store, write_store
from ch07.data.token_store_dataset import StoredDataset
from ch07.training.run_plan import build_plan
from ch07.utils.atomic_files import read_json, sha256_of, write_json, write_json_with_checksum
from ch07.utils.errors import DataError, UserError

WORDS = ["a", "café", "b\nc", "red", "blue", "<|endoftext|>", "日本", "two"]


def write_rows(path, n=60, **more):
    """Rows of ever other lengths; some ask the same, some are the same."""
    r = random.Random(0)
    rows = [
        {
            "instruction": f"Say {r.randint(0, n // 2)}",
            "input": " ".join(r.choices(WORDS, k=r.randint(0, 3))),
            "output": " ".join(r.choices(WORDS, k=r.randint(1, 20))),
        }
        for _ in range(n)
    ]
    for i, row in enumerate(rows):
        row |= {key: values[i % len(values)] for key, values in more.items() if values[i % 3]}
    rows.append(dict(rows[0]))
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    return path


def plan_of(path, **options):
    said = []
    return build_plan(FinetuneOptions(data=str(path), **options), said.append), said


def assert_same_batches(one, other):
    for epoch in (0, 1):
        for loaders in ((one.train_loader, other.train_loader), (one.val_loader, other.val_loader)):
            a, b = loaders
            for loader in loaders:
                getattr(loader.batch_sampler, "set_epoch", lambda epoch: None)(epoch)
            for batches in zip(a, b, strict=True):
                assert all(x.equal(y) for x, y in zip(*batches, strict=True))


@pytest.mark.parametrize("own", [(), ("train", "test", "validation")])
@pytest.mark.parametrize("split", ["groups", "book"])
@pytest.mark.parametrize("loss_on", ["all", "response"])
def test_same_batches_bit_for_bit(tmp_path, monkeypatch, own, split, loss_on):
    monkeypatch.setattr(token_store, "CHUNK_ROWS", 7)
    path = write_rows(tmp_path / "rows.jsonl", **({"split": own} if own else {}))
    write_store(path, tmp_path / "store", get_style("alpaca"))
    options = {"split": split, "loss_on": loss_on, "batch_size": 4, "seed": 5}
    one, _ = plan_of(path, prompt_style="alpaca", **options)
    other, _ = plan_of(tmp_path / "store", **options)
    assert_same_batches(one, other)
    assert one.rows.file.sha256 == other.rows.file.sha256 and one.style == other.style
    for name, dataset in one.rows.datasets.items():
        assert list(dataset.data) == list(other.rows.datasets[name].data)
        assert dataset.lengths.tolist() == other.rows.datasets[name].lengths.tolist()
    places = [[plan.rows.place_of("train", i) for i in range(5)] for plan in (one, other)]
    assert places[0] == places[1]


def test_long_rows_are_refused_or_left_out_as_those_of_a_file(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl")
    write_store(path, tmp_path / "store", get_style("book"))
    options = {"allowed_max_length": 50, "batch_size": 4}
    for data in (path, tmp_path / "store"):
        with pytest.raises(DataError, match=r"(?s)rows can't be learned from.*line \d+ of"):
            plan_of(data, **options)
    one, said = plan_of(path, skip_bad_rows=True, **options)
    other, told = plan_of(tmp_path / "store", skip_bad_rows=True, **options)
    assert_same_batches(one, other)
    assert [line for line in said if "the whole answer" in line] == [
        line for line in told if "the whole answer" in line
    ]


def test_what_was_found_in_the_file_is_told(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", n=30)
    with open(path, "a", encoding="utf-8") as file:
        file.write('{"question": " Why? ", "answer": "So."}\n\n{"instruction": 3}\nnot json\n')
    with pytest.raises(DataError, match=r"2 faulty rows.*\n  line 34: 'output' is missing.*\n  li"):
        write_store(path, tmp_path / "store", get_style("book"))
    assert not list(tmp_path.glob("*store*"))
    write_store(path, tmp_path / "store", get_style("book"), skip_bad_rows=True)
    _, told = plan_of(tmp_path / "store")
    told = "\n".join(told)
    assert "left out: not JSON" in told and "question/answer read as" in told
    assert "1 rows are the same as an earlier one" in told
    assert "not searched for near-duplicate prompts" in told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b'{"instruction": "a", "output": "\xff"}\n', "byte 32 is 0xff .in line 1."),
        (b'{"a": 1}\n{"instruction": "' + b"a" * 100, "line 2 is longer than"),
        (None, "No such file"),
    ],
)
def test_files_that_are_no_jsonl(tmp_path, monkeypatch, content, message):
    monkeypatch.setattr(text_lines, "MAX_LINE_BYTES", 90)
    if content is not None:
        (tmp_path / "rows.jsonl").write_bytes(content)
    with pytest.raises(DataError, match=message):
        write_store(tmp_path / "rows.jsonl", tmp_path / "store", get_style("book"))
    assert not list(tmp_path.glob("*store*"))


@pytest.mark.parametrize("name", ["ids.bin", "ends.bin", "entries.jsonl", "store.json"])
@pytest.mark.parametrize("fault", ["flip", "cut", "remove"])
def test_a_damaged_store_is_refused(tmp_path, name, fault):
    write_store(write_rows(tmp_path / "rows.jsonl"), tmp_path / "store", get_style("book"))
    path = tmp_path / "store" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    {
        "flip": lambda: path.write_bytes(data),
        "cut": lambda: path.write_bytes(data[: len(data) // 2]),
        "remove": path.unlink,
    }[fault]()
    assert is_store(tmp_path / "store") == path.exists() or name != "store.json"
    with pytest.raises(DataError, match="can't be read as a token store"):
        TokenStore(tmp_path / "store")


def test_the_commands(tmp_path, capsys):
    """A run on a store ends with the weights and answers of one on its file."""
    splits = {"split": ["test", "validation", *["train"] * 10]}
    path = str(write_rows(tmp_path / "rows.jsonl", n=30, **splits))
    store = str(tmp_path / "store")
    assert main(["tokenize", path, store]) == 0
    assert "31 rows" in capsys.readouterr().out
    assert main(["tokenize", path, store]) == 1
    assert "exists" in capsys.readouterr().err
    for data, out in ((path, "one"), (store, "two")):
        options = ["--data", data, "--out", str(tmp_path / out), "--max-steps", "2"]
        assert main(["finetune", *options, "--batch-size", "8"]) == 0
    one, two = (tmp_path / name for name in ("one", "two"))
    for name in ("model.safetensors", "responses.json"):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert main(["evaluate", str(two), "--losses"]) == 0
    assert main(["finetune", "--data", store, "--prompt-style", "alpaca"]) == 2
    assert main(["doctor", store]) == 2
    assert "give the file that it was made from" in capsys.readouterr().err


def test_two_bytes_a_token(tmp_path):
    """What a batch needs: the ids, and 37 bytes of numbers for each row."""
    path = write_rows(tmp_path / "rows.jsonl")
    store = write_store(path, tmp_path / "store", get_style("book"))
    sizes = {p.name: p.stat().st_size for p in store.folder.glob("*.bin")}
    assert sizes.pop("ids.bin") == 2 * len(store.ids)
    assert sum(sizes.values()) == 37 * len(store)
    assert isinstance(store.ids, DiskArray)


def test_an_array_on_disk_is_that_of_numpy_and_can_be_sent_to_a_worker(tmp_path):
    numbers = np.arange(1000, dtype=np.uint16) * 65
    numbers.tofile(tmp_path / "numbers")
    stored = DiskArray(tmp_path / "numbers", "H")
    for array in (stored, pickle.loads(pickle.dumps(stored))):
        assert len(array) == 1000 and array.maximum() == numbers.max()
        for part in (slice(None), slice(3, 7), slice(7, 3), slice(-5, None), slice(990, 2000)):
            assert array[part].tolist() == numbers[part].tolist()
        assert array[::-2].tolist() == numbers[::-2].tolist()
        assert [int(array[i]) for i in (0, 999, -1)] == [numbers[0], numbers[-1], numbers[-1]]
        with pytest.raises(IndexError):
            array[1000]
    (tmp_path / "empty").touch()
    assert DiskArray(tmp_path / "empty", "Q").maximum() == 0


@pytest.mark.parametrize("name", ["ids.bin", "ends.bin", "prompts.bin", "entries.jsonl"])
def test_a_store_that_becomes_shorter_while_it_is_used_says_so(tmp_path, name):
    """A mapped file would kill the process (SIGBUS)."""
    path = write_rows(tmp_path / "rows.jsonl")
    store = write_store(path, tmp_path / "store", get_style("book"))
    dataset = StoredDataset(store, "response")
    last = len(store) - 1
    expected = dataset[last]
    with open(store.folder / name, "rb+") as file:
        file.truncate(16)
    if name == "prompts.bin":  # it is in memory
        assert dataset[last] == expected
        return
    with pytest.raises(DataError, match=rf"{name} (became shorter|was altered) while it was in"):
        (dataset.data if name == "entries.jsonl" else dataset)[last]


def test_leaks_and_seams_are_told_as_of_a_file(tmp_path):
    """A store knows a prompt by its hash, and what tokens do by having made them."""
    rows = [{"instruction": f"Say {i % 8} ", "input": "", "output": "b"} for i in range(40)]
    rows[3]["split"], rows[17]["split"] = "test", "validation"
    rows.append({"instruction": "a", "output": "绿"})  # its first byte joins the space before it
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    style = get_style("chinese-alpaca")
    write_store(path, tmp_path / "store", style)
    for options in ({}, {"split": "book"}):
        _, said = plan_of(path, prompt_style=style.name, **options)
        _, told = plan_of(tmp_path / "store", **options)
        expected = {line for line in said if "also in training" in line or "`split` field" in line}
        assert expected and expected <= set(told)
        assert any("merge" in line for line in said) and any("merge" in line for line in told)


def test_what_a_killed_process_left_is_removed(tmp_path):
    """Of another store, or by a process that still writes, nothing is touched."""
    path, style = write_rows(tmp_path / "rows.jsonl"), get_style("book")
    names = [".store.999999999.new", f".store.{os.getppid()}.new", ".other.999999999.new"]
    for name in names:
        (tmp_path / name).mkdir()
    write_store(path, tmp_path / "store", style)
    assert [(tmp_path / name).exists() for name in names] == [False, True, True]


def test_a_store_by_somebody_else_is_not_trusted(tmp_path):
    """Without its seal, or sealed but with ids that no tokenizer has."""
    store = write_store(write_rows(tmp_path / "rows.jsonl"), tmp_path / "store", get_style("book"))
    about = read_json(tmp_path / "store" / "store.json")
    write_json(tmp_path / "store" / "store.json", {k: about[k] for k in about if k != "sealed"})
    with pytest.raises(DataError, match=r"store\.json was altered or damaged"):
        TokenStore(tmp_path / "store")
    ids = tmp_path / "store" / "ids.bin"
    ids.write_bytes(b"\xff" * ids.stat().st_size)
    about["sha256"]["ids.bin"] = sha256_of(ids)
    del about["sealed"]
    write_json_with_checksum(tmp_path / "store" / "store.json", about)
    with pytest.raises(DataError, match="an unknown token id: 65535"):
        TokenStore(tmp_path / "store")
    assert len(store) == 61


def test_a_full_disk_leaves_no_store(tmp_path, monkeypatch):
    def full(path, value):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(token_store, "write_json_with_checksum", full)
    with pytest.raises(UserError, match="store can't be written: No space left on device"):
        write_store(write_rows(tmp_path / "rows.jsonl"), tmp_path / "store", get_style("book"))
    assert not list(tmp_path.glob("*store*"))


def test_other_commands_say_what_a_folder_is_not(tmp_path, capsys):
    write_store(write_rows(tmp_path / "rows.jsonl"), tmp_path / "store", get_style("book"))
    assert main(["grid", str(tmp_path / "store")]) == 1
    assert "is a token store: give the file that it was made from" in capsys.readouterr().err
    assert main(["tokenize", str(tmp_path / "store"), str(tmp_path / "other")]) == 1
    assert "is a token store: give the file that it was made from" in capsys.readouterr().err
