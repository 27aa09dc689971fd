"""Batches: every row once, little padding, an order of seed and epoch alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ch07.data.dataloader import LengthGroupedBatches, make_loader
from ch07.data.row_checks import check_lengths
from collate import END_OF_TEXT
from instruction_dataset import InstructionDataset

lengths = st.lists(st.integers(1, 99), max_size=300)


@given(lengths, st.integers(1, 9), st.integers(0, 3), st.integers(0, 3))
def test_every_row_comes_once(lengths, size, seed, epoch):
    batches = LengthGroupedBatches(lengths, size, seed)
    batches.set_epoch(epoch)
    rows = list(batches)
    assert len(rows) == len(batches)
    assert sorted(i for batch in rows for i in batch) == list(range(len(lengths)))
    assert sum(len(batch) != size for batch in rows) <= 1


def test_the_order_is_a_function_of_seed_and_epoch():
    def order(seed, epoch):
        batches = LengthGroupedBatches(list(range(100)), 4, seed)
        batches.set_epoch(epoch)
        torch.rand(3)
        return list(batches)

    assert order(1, 0) == order(1, 0)
    assert order(1, 0) != order(1, 1) != order(2, 0)


def test_grouping_saves_padding():
    lengths = torch.randint(40, 92, (1000,), generator=torch.Generator().manual_seed(0)).tolist()

    def padding(batches):
        cells = sum(max(lengths[i] for i in batch) * len(batch) for batch in batches)
        return 1 - sum(lengths) / cells

    shuffled = torch.randperm(1000, generator=torch.Generator().manual_seed(0)).split(8)
    plain = padding([batch.tolist() for batch in shuffled])
    assert padding(LengthGroupedBatches(lengths, 8, 0)) < 0.1 * plain


def test_in_chunks_of_one_batch_a_batch_is_any_rows():
    """The rows of a shuffle in order, each batch sorted by itself: lengths are mixed."""
    lengths = torch.randint(40, 92, (100,), generator=torch.Generator().manual_seed(0)).tolist()
    batches = list(LengthGroupedBatches(lengths, 8, seed=3, chunk_batches=1))
    generator = torch.Generator().manual_seed(3 << 32)
    shuffled = torch.randperm(100, generator=generator).split(8)
    at_random = {tuple(sorted(batch.tolist())) for batch in shuffled}
    assert {tuple(sorted(batch)) for batch in batches} == at_random
    assert all(batch == sorted(batch, key=lengths.__getitem__) for batch in batches)


def test_the_usual_chunk_is_the_default():
    lengths = torch.randint(40, 92, (1000,), generator=torch.Generator().manual_seed(0)).tolist()
    usual = list(LengthGroupedBatches(lengths, 8, seed=3))
    assert usual == list(LengthGroupedBatches(lengths, 8, seed=3, chunk_batches=50))
    assert usual != list(LengthGroupedBatches(lengths, 8, seed=3, chunk_batches=1))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(tokenizer, entries, workers):
    dataset = InstructionDataset(entries * 5, tokenizer, with_prompt_length=True)
    alone, helped = (
        make_loader(dataset, 4, "response", seed=1, num_workers=n) for n in (0, workers)
    )
    for ours, theirs in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_collate_can_be_sent_to_a_spawned_worker(tokenizer, entries):
    import pickle

    loader = make_loader(InstructionDataset(entries, tokenizer), 2, "all", 40, seed=1)
    options = {"pad_token_id": END_OF_TEXT, "allowed_max_length": 40}
    assert pickle.loads(pickle.dumps(loader.collate_fn)).keywords == options


def test_without_a_seed_rows_come_in_order(tokenizer, entries):
    dataset = InstructionDataset(entries, tokenizer)
    (inputs, _), (last, _) = make_loader(dataset, 2)
    assert inputs[0, :5].tolist() == dataset[0][:5]
    assert last[0].tolist() == dataset[2]


def test_a_limit_is_looked_at_before_training(tokenizer, entries):
    dataset = InstructionDataset(entries, tokenizer)
    prompts, wholes = dataset.prompt_lengths, dataset.lengths
    free = check_lengths(dataset, 1024)
    assert (free.max_length, free.too_long, free.cut, free.answerless) == (1024, [], [], [])
    assert check_lengths(dataset, max(wholes) - 1).too_long == [wholes.index(max(wholes))]
    exact = check_lengths(dataset, 1024, max(wholes))
    assert exact.cut == [], "a row of exactly the limit keeps its end-of-text"
    tight = check_lengths(dataset, 1024, max(prompts) - 1)
    assert tight.answerless == [prompts.index(max(prompts))] and tight.too_long == []
    assert check_lengths(dataset, 50, 2000).max_length == 50
    with pytest.raises(ValueError, match="allowed_max_length is 0"):
        check_lengths(dataset, 1024, 0)


@pytest.mark.parametrize(
    "bad", [{"batch_size": 0, "seed": 1}, {"batch_size": 2, "loss_on": "prompt"}]
)
def test_bad_calls(tokenizer, entries, bad):
    with pytest.raises(ValueError, match=r"batch_size is 0|choose one of 'all', 'response'"):
        make_loader(InstructionDataset(entries, tokenizer), **bad)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_loader_refuses_a_limit_below_one_before_its_first_batch(tokenizer, entries, limit):
    with pytest.raises(ValueError, match=f"allowed_max_length is {limit}"):
        make_loader(InstructionDataset(entries, tokenizer), 2, allowed_max_length=limit)
