"""The rows of a run: each tokenized once, known by its number, cut at one length."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ch07.config import FinetuneOptions
from ch07.data import chat_dataset
from ch07.data.entries import DataFile
from ch07.data.loaded_rows import LazySequence, SplitDataset
from ch07.data.row_checks import check_splits
from ch07.training.run_plan import build_plan
from ch07.utils.errors import DataError
from ch07.utils.run_log import RunLog
from instruction_dataset import BOOK_STYLE, InstructionDataset

SHORT = {"instruction": "Say so.", "input": "", "output": "So."}
LONG = {"instruction": "Say so.", "input": "", "output": "so " * 200}


def write(path, rows):
    path.write_text(json.dumps(rows), encoding="utf-8")
    return str(path)


@given(st.lists(st.integers(0, 9)), st.slices(12))
def test_a_lazy_sequence_is_the_list_of_its_items(numbers, part):
    lazy = LazySequence(numbers, lambda number: number**2)
    items = [number**2 for number in numbers]
    assert list(lazy) == items and list(lazy[part]) == items[part]
    assert [lazy[i] for i in range(-len(items), len(items))] == items * 2
    assert list(reversed(lazy)) == items[::-1]


@given(st.lists(st.integers(0, 4)))
def test_a_split_has_the_rows_that_its_numbers_say(tokenizer, numbers):
    entries = [{**SHORT, "output": "so " * (i + 1)} for i in range(5)]
    dataset = InstructionDataset(entries, tokenizer, with_prompt_length=True)
    split = SplitDataset(dataset, numbers)
    assert list(split.data) == [entries[i] for i in numbers]
    assert [split[i] for i in range(len(split))] == [dataset[i] for i in numbers]
    assert split.lengths.tolist() == [dataset.lengths[i] for i in numbers]
    assert split.prompt_lengths.tolist() == [dataset.prompt_lengths[i] for i in numbers]


@pytest.mark.parametrize("loss_on", ["all", "response"])
def test_each_row_is_tokenized_once_also_when_some_are_refused(tmp_path, monkeypatch, loss_on):
    tokenized = []

    class Counting(InstructionDataset):
        def __init__(self, data, *args, **kwargs):
            super().__init__(data, *args, **kwargs)
            tokenized.append(len(self.data))

    monkeypatch.setattr(chat_dataset, "InstructionDataset", Counting)
    rows = [{**SHORT, "instruction": f"Say {i}."} for i in range(30)]
    rows[4] = {**rows[4], "instruction": "long " * 1100}
    path = write(tmp_path / "rows.json", rows)
    options = FinetuneOptions(data=path, skip_bad_rows=True, loss_on=loss_on)
    plan = build_plan(options, lambda text: None)
    assert tokenized == [30]
    assert sum(len(dataset) for dataset in plan.rows.datasets.values()) == 29


def test_the_same_entry_at_two_places_is_two_rows(tokenizer):
    """Rows are known by number: equal entries, even one and the same object, keep their places."""
    entries = [SHORT, LONG, SHORT, LONG]
    file = DataFile("rows.json", entries, [f"row {i}" for i in range(1, 5)], [], "")
    dataset = InstructionDataset(entries, tokenizer, BOOK_STYLE)
    checks = {"loss_on": "all", "context_length": 100, "allowed_max_length": None}
    splits = {"train": [3, 0, 1], "test": [2], "validation": []}
    with pytest.raises(DataError, match=r"(?s)2 rows .* row 2 of \d+ tokens, row 4 of"):
        check_splits(file, dataset, splits, **checks, skip_bad_rows=False)
    datasets, findings = check_splits(file, dataset, splits, **checks, skip_bad_rows=True)
    assert {name: list(split.indices) for name, split in datasets.items()} == {
        "train": [0],
        "test": [2],
        "validation": [],
    }
    assert [finding.place.split(" of ")[0] for finding in findings] == ["row 2", "row 4"]


@pytest.mark.parametrize(
    ("given_length", "used"), [(None, None), (20, 20), (1024, 1024), (5000, 1024)]
)
def test_one_allowed_max_length_from_the_options_to_the_batches(tmp_path, given_length, used):
    path = write(tmp_path / "rows.json", [SHORT | {"instruction": f"Say {i}."} for i in range(30)])
    said = []
    options = FinetuneOptions(data=path, allowed_max_length=given_length, loss_on="all")
    plan = build_plan(options, said.append)
    assert plan.allowed_max_length == used
    for loader in (plan.train_loader, plan.val_loader):
        assert loader.collate_fn.keywords["allowed_max_length"] == used
    assert any("exceeds the model's context" in line for line in said) == (given_length == 5000)
    inputs, _ = next(iter(plan.train_loader))
    assert inputs.shape[1] <= (used or 1024)


def test_a_log_keeps_what_it_reports():
    reported = []
    log = RunLog(reported.append)
    log.finding("1 of 2 test prompts are also in training")
    log.note("no test rows")
    assert log.notes == ["no test rows"]
    assert log.lines == reported == ["data: 1 of 2 test prompts are also in training", *log.notes]
