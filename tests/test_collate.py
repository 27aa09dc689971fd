"""The three drafts and their sibling: printed tensors, invariants, bad input."""

import re

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from collate import (
    custom_collate_draft_1,
    custom_collate_draft_2,
    custom_collate_fn,
    custom_collate_response_fn,
)

BATCH = [[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]]
INPUTS = [[0, 1, 2, 3, 4], [5, 6, 50256, 50256, 50256], [7, 8, 9, 50256, 50256]]
DRAFT_2 = [[1, 2, 3, 4, 50256], [6, 50256, 50256, 50256, 50256], [8, 9, 50256, 50256, 50256]]
FINAL = [[1, 2, 3, 4, 50256], [6, 50256, -100, -100, -100], [8, 9, 50256, -100, -100]]

rows = st.lists(st.integers(0, 50256), min_size=1, max_size=12)
batches = st.lists(rows, min_size=1, max_size=6)
with_prompts = st.lists(
    rows.flatmap(lambda row: st.tuples(st.integers(0, len(row)), st.just(row))),
    min_size=1,
    max_size=6,
)


def test_the_printed_tensors():
    assert custom_collate_draft_1(BATCH).tolist() == INPUTS
    inputs, targets = custom_collate_draft_2(BATCH)
    assert (inputs.tolist(), targets.tolist()) == (INPUTS, DRAFT_2)
    inputs, targets = custom_collate_fn(BATCH)
    assert (inputs.tolist(), targets.tolist()) == (INPUTS, FINAL)


def test_ignore_index_drops_a_target_from_the_loss():
    two = torch.tensor([[-1.0, 1.0], [-0.5, 1.5]])
    three = torch.tensor([[-1.0, 1.0], [-0.5, 1.5], [-0.5, 1.5]])
    loss_two = F.cross_entropy(two, torch.tensor([0, 1]))
    loss_three = F.cross_entropy(three, torch.tensor([0, 1, 1]))
    loss_masked = F.cross_entropy(three, torch.tensor([0, 1, -100]))
    assert round(loss_two.item(), 4) == 1.1269
    assert round(loss_three.item(), 4) == 0.7936
    assert loss_masked == loss_two


def test_each_draft_fails_at_what_the_next_mends():
    assert isinstance(custom_collate_draft_1(BATCH), torch.Tensor), "draft 1 has no targets"
    padding_targets = (custom_collate_draft_2(BATCH)[1] == 50256).sum(dim=1)
    assert padding_targets.tolist() == [1, 4, 3], "draft 2 counts every padding token"
    assert (custom_collate_fn(BATCH)[1] == 50256).sum(dim=1).tolist() == [1, 1, 1]


def test_masking_goes_by_position_not_by_value():
    """The book's rule keeps the first 50256 of [1, 50256, 2, 3] and masks the real end."""
    targets = custom_collate_fn([[1, 50256, 2, 3]])[1]
    assert targets.tolist() == [[50256, 2, 3, 50256]]
    book = targets.clone()
    found = torch.nonzero(book[0] == 50256).flatten()
    book[0, found[1:]] = -100
    assert book.tolist() == [[50256, 2, 3, -100]]


@given(batches)
def test_untruncated_rows_keep_exactly_one_end_at_their_own_last_place(batch):
    inputs, targets = custom_collate_fn(batch)
    T = max(map(len, batch))
    assert inputs.shape == targets.shape == (len(batch), T)
    assert inputs.dtype == targets.dtype == torch.int64
    for i, row in enumerate(batch):
        n = len(row)
        assert inputs[i].tolist() == row + [50256] * (T - n)
        assert targets[i].tolist() == row[1:] + [50256] + [-100] * (T - n)
    assert not (inputs == -100).any()


@given(batches, st.integers(1, 14))
def test_a_limit_cuts_rows_and_never_fakes_an_end(batch, limit):
    inputs, targets = custom_collate_fn(batch, allowed_max_length=limit)
    assert inputs.shape[1] == min(limit, max(map(len, batch)))
    for i, row in enumerate(batch):
        wanted = [*row[1:], 50256][:limit]
        counted = targets[i][targets[i] != -100].tolist()
        assert counted == wanted
        assert inputs[i, : len(wanted)].tolist() == row[:limit]


@given(with_prompts, st.one_of(st.none(), st.integers(1, 14)))
def test_response_only_counts_the_answer_and_its_end(batch, limit):
    inputs, targets = custom_collate_response_fn(batch, allowed_max_length=limit)
    all_inputs, all_targets = custom_collate_fn([ids for _, ids in batch], allowed_max_length=limit)
    assert torch.equal(inputs, all_inputs)
    for i, (prompt_length, row) in enumerate(batch):
        first = max(prompt_length - 1, 0)
        assert (targets[i, :first] == -100).all()
        assert torch.equal(targets[i, first:], all_targets[i, first:])
        if limit is None:
            answer = row[max(prompt_length, 1) :]
            assert targets[i][targets[i] != -100].tolist() == [*answer, 50256]


@given(batches, st.randoms())
def test_the_order_of_rows_does_not_matter(batch, random):
    order = list(range(len(batch)))
    random.shuffle(order)
    for made, shuffled in zip(
        custom_collate_fn(batch), custom_collate_fn([batch[i] for i in order]), strict=True
    ):
        assert torch.equal(made[order], shuffled)


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        ([], "empty batch"),
        ([[1], []], "row 1 of the batch: expected a list of token ids, got []"),
        ([[1], [1.5]], "row 1 of the batch: token ids are integers"),
        ([[True]], "row 0 of the batch: token ids are integers"),
        ([[1, -100, 2]], "row 0 of the batch: -100 is not a token id"),
        ([[3], [-1]], "row 1 of the batch: -1 is not a token id"),
        ([[2**63]], "is not a token id"),
        ([[[1, 2]]], "row 0 of the batch: expected a list"),
        ([[1], "abc"], "row 1 of the batch: expected a list of token ids, got 'abc'"),
        ([[1], None], "row 1 of the batch: expected a list of token ids, got None"),
        ([7], "row 0 of the batch: expected a list of token ids, got 7"),
        ([[1], (1, [2, 3])], "row 1 of the batch: expected a list of token ids, got (1, [2, 3])"),
        ([[1], [2**70]], "row 1 of the batch: expected a list of token ids"),
        ([[1j]], "row 0 of the batch: token ids are integers"),
    ],
)
def test_bad_batches_are_refused_with_the_row(batch, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        custom_collate_fn(batch)


@pytest.mark.parametrize("draft", [custom_collate_draft_1, custom_collate_draft_2])
def test_only_the_final_version_checks_its_rows(draft):
    """A draft is for valid rows: it takes what its few lines take."""
    draft([[3], [-1]])
    with pytest.raises(ValueError, match="row 1 of the batch: -1 is not a token id"):
        custom_collate_fn([[3], [-1]])


@given(batches)
def test_the_drafts_inputs_are_the_final_versions(batch):
    inputs, targets = custom_collate_fn(batch)
    second_inputs, second_targets = custom_collate_draft_2(batch)
    assert torch.equal(custom_collate_draft_1(batch), inputs)
    assert torch.equal(second_inputs, inputs)
    assert torch.equal(second_targets, targets.masked_fill(targets == -100, 50256))
    assert second_inputs.dtype == second_targets.dtype == torch.int64


@pytest.mark.parametrize("item", [[1, 2, 3], (1,), "ab", None, ([1], 1), (1.0, [1]), (None, [1])])
def test_an_item_that_is_no_pair_is_refused_with_its_row(item):
    said = f"row 1 of the batch: expected (prompt_length, token_ids), got {item!r}"
    with pytest.raises(ValueError, match=re.escape(said)):
        custom_collate_response_fn([(1, [1]), item])
    with pytest.raises(ValueError, match="row 1 of the batch: expected a list of token ids, got 6"):
        custom_collate_response_fn([[1, [1]], (5, 6)])


@pytest.mark.parametrize("name", ["pad_token_id", "ignore_index"])
@pytest.mark.parametrize("bad", [None, 0.0, -100.0, "0", True, False])
def test_padding_is_a_token_and_what_the_loss_skips_is_none(name, bad):
    """-100 among the inputs has no embedding; a target that is skipped teaches nothing."""
    for value in (bad, {"pad_token_id": -1, "ignore_index": 0}[name]):
        said = f"{name} is {value!r}, but"
        with pytest.raises(ValueError, match=re.escape(said)):
            custom_collate_fn(BATCH, **{name: value})
        with pytest.raises(ValueError, match=re.escape(said)):
            custom_collate_response_fn([(1, row) for row in BATCH], **{name: value})


def test_token_0_may_be_the_padding():
    inputs, targets = custom_collate_fn([[1, 2], [3]], pad_token_id=0)
    assert (inputs.tolist(), targets.tolist()) == ([[1, 2], [3, 0]], [[2, 0], [0, -100]])


def test_an_iterator_is_a_batch_too():
    assert custom_collate_fn(iter(BATCH))[1].tolist() == FINAL
    with pytest.raises(ValueError, match="row 1 of the batch: expected a list"):
        custom_collate_fn(iter([[1], []]))


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(limit):
    with pytest.raises(ValueError, match=f"allowed_max_length is {limit}"):
        custom_collate_fn(BATCH, allowed_max_length=limit)


@pytest.mark.parametrize("length", [-1, 3])
def test_a_prompt_longer_than_its_row_is_refused(length):
    with pytest.raises(ValueError, match=f"row 0 of the batch: prompt_length is {length}"):
        custom_collate_response_fn([(length, [1, 2])])


def test_the_callers_batch_is_left_alone():
    batch = [[1, 2], [3]]
    for collate in (custom_collate_draft_1, custom_collate_draft_2, custom_collate_fn):
        collate(batch)
    assert batch == [[1, 2], [3]]


def test_tensors_and_tuples_are_rows_too():
    wanted = custom_collate_fn([[1, 2, 3], [4]])
    for batch in (
        [torch.tensor([1, 2, 3]), (4,)],
        [(1, 2, 3), torch.tensor([4], dtype=torch.int32)],
    ):
        for ours, theirs in zip(custom_collate_fn(batch), wanted, strict=True):
            assert torch.equal(ours, theirs) and ours.dtype == torch.int64


def test_pad_and_ignore_ids_are_the_callers():
    inputs, targets = custom_collate_fn([[1, 2], [3]], pad_token_id=9, ignore_index=-1)
    assert inputs.tolist() == [[1, 2], [3, 9]]
    assert targets.tolist() == [[2, 9], [9, -1]]


class _ToTheMeta:
    """An importable collate that asks for another device than the CPU."""

    def __call__(self, batch):
        return custom_collate_fn(batch, device="meta")


def test_another_device_inside_a_worker_is_refused_in_a_sentence():
    assert custom_collate_fn([[1]], device="meta")[0].device.type == "meta"
    loader = DataLoader([[1], [2]], num_workers=1, collate_fn=_ToTheMeta())
    with pytest.raises(RuntimeError, match="leave device='cpu' and let the training loop move"):
        list(loader)


def test_a_batch_may_be_any_iterable():
    """Rows that can be gone through only once, as from a generator."""
    for collate, rows in (
        (custom_collate_fn, [[1, 2, 3], [4]]),
        (custom_collate_response_fn, [(2, [1, 2, 3]), (1, [4])]),
    ):
        once, twice = collate(iter(rows)), collate(rows)
        assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))
