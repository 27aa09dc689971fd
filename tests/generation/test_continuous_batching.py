"""Continuous batching's equality: whoever comes, goes or is cancelled, each answer is its own."""

import random
from itertools import chain, pairwise
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.generation.continuous_batching import (
    MOST_PADDING,
    ROOM,
    BatchRow,
    ContinuousBatch,
    groups_of_similar_length,
)
from ch07.generation.decoding import Sampling, continue_prompts, generate
from ch07.generation.joined_cache import CachedRow, join_rows
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned
from gpt_model import GPTModel

END = 96
CONTEXT = 32
# An arrival: (steps to wait before it, prompt, most new tokens)
arrivals_lists = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.lists(st.integers(0, 95), min_size=1, max_size=CONTEXT),
        st.integers(0, 20),
    ),
    min_size=1,
    max_size=9,
)


@pytest.fixture(scope="module")
def model():
    config = {"vocab_size": 97, "context_length": CONTEXT, "emb_dim": 24}
    gpt = GPTModel({**config, "n_heads": 3, "n_layers": 2}, torch.Generator().manual_seed(0))
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in gpt.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=stream))
    return gpt.eval()


def run_to_end(batch):
    for _ in range(10_000):
        if batch.is_idle:
            return
        batch.step()
    pytest.fail("the batch doesn't come to an end")


def answers_of(batch, arrivals, **options):
    """The row of each arrival, after all have ended."""
    rows = []
    for n_steps, prompt, limit in arrivals:
        for _ in range(n_steps):
            batch.step()
        rows.append(batch.submit(prompt, limit, **options))
    run_to_end(batch)
    return rows


def assert_each_as_alone(model, rows):
    for row in rows:
        (alone,) = continue_prompts(model, [row.prompt], row.max_new_tokens, end_id=END)
        assert row.continuation == alone


@settings(deadline=None, max_examples=40)
@given(
    arrivals=arrivals_lists, max_rows=st.integers(1, 5), at_once=st.sampled_from([1, 5, 30, 256])
)
def test_each_answer_is_the_one_it_has_alone(model, arrivals, max_rows, at_once):
    """Whatever arrives when, of whatever length, and in however small parts prompts are read."""
    batch = ContinuousBatch(model, max_rows, end_id=END, prompt_tokens_per_step=at_once)
    assert_each_as_alone(model, answers_of(batch, arrivals))


def random_arrivals(seed, n=12, longest=20):
    stream = random.Random(seed)
    return [
        (
            stream.randint(0, 3),
            [stream.randrange(96) for _ in range(stream.randint(1, longest))],
            stream.randint(1, 15),
        )
        for _ in range(n)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_so_it_is_for_both_kinds_of_models(small_model, seed):
    batch = ContinuousBatch(small_model, 4, end_id=END, prompt_tokens_per_step=7)
    assert_each_as_alone(small_model, answers_of(batch, random_arrivals(seed)))


@pytest.mark.parametrize("seed", range(2))
def test_so_it_is_behind_a_trained_prefix(small_model, seed):
    encoder = PrefixEncoder(small_model.config, 3, None, torch.Generator().manual_seed(2))
    prefixed = PrefixTuned(small_model, encoder)
    batch = ContinuousBatch(prefixed, 4, end_id=END, prompt_tokens_per_step=7)
    assert_each_as_alone(prefixed, answers_of(batch, random_arrivals(seed)))


def test_answers_outgrow_the_room_of_a_cache(monkeypatch, small_model):
    monkeypatch.setattr("ch07.generation.continuous_batching.ROOM", 2)
    batch = ContinuousBatch(small_model, 3, end_id=END)
    assert_each_as_alone(small_model, answers_of(batch, random_arrivals(5)))


@pytest.mark.parametrize(
    "sampling", [Sampling(1.0), Sampling(1.5, top_k=9), Sampling(0.8, None, 0.9)]
)
def test_a_seed_gives_the_same_answer_whatever_shares_the_batch(small_model, sampling):
    prompt = [3, 1, 4, 1, 5]
    generator = torch.Generator().manual_seed(7)
    options = {"sampling": sampling, "end_id": END}
    alone = generate(small_model, [prompt], 12, generator=generator, **options)[0]
    batch = ContinuousBatch(small_model, 3, end_id=END)
    others = random_arrivals(1, n=4)
    for _, other, limit in others[:2]:
        batch.submit(other, limit, sampling=Sampling(2.0))
    batch.step()
    row = batch.submit(prompt, 12, sampling=sampling, seed=7)
    answers_of(batch, others[2:], sampling=Sampling(2.0))
    assert row.continuation.token_ids == alone


def test_without_a_seed_answers_differ(model):
    batch = ContinuousBatch(model, 8, end_id=-1)
    rows = answers_of(batch, [(0, [1, 2], 12)] * 4, sampling=Sampling(5.0))
    assert len({tuple(row.continuation.token_ids) for row in rows}) > 1


def test_every_way_an_answer_ends_has_its_name(model):
    end = generate(model, [[5, 6]], 3, end_id=-1)[0][2]
    batch = ContinuousBatch(model, 4, end_id=end)
    rows = answers_of(
        batch,
        [(0, [5, 6], 20), (0, [1] * 30, 20), (0, [1] * CONTEXT, 20), (0, [7], 1), (0, [7], 0)],
    )
    assert [row.stopped for row in rows] == ["end", "context", "context", "length", "length"]
    assert [len(row.continuation.token_ids) for row in rows[1:]] == [2, 0, 1, 0]


def test_what_on_token_returns_ends_the_row_and_no_other(model):
    seen = []

    def three(token_id):
        seen.append(token_id)
        return len(seen) == 3

    batch = ContinuousBatch(model, 4, end_id=END)
    other = batch.submit([9, 8], 9)
    row = batch.submit([1, 2], 9, on_token=three)
    run_to_end(batch)
    assert row.stopped == "caller" and row.continuation.token_ids == seen
    assert_each_as_alone(model, [other])


@pytest.mark.parametrize("n_steps", range(6))
def test_a_row_can_be_cancelled_at_any_time(model, n_steps):
    """While it waits, while its prompt is read, while it grows; the others don't notice."""
    batch = ContinuousBatch(model, 2, end_id=-1, prompt_tokens_per_step=4)
    others = [batch.submit([4, 5, 6], 9), batch.submit([7], 12)]
    row = batch.submit(list(range(9)), 15)
    others.append(batch.submit([8, 9], 5))
    for _ in range(2 * n_steps):
        batch.step()
    written = list(row.continuation.token_ids)
    batch.cancel(row)
    assert row in batch.step()
    assert (row.stopped, row.continuation.token_ids, row.cache) == ("caller", written, None)
    run_to_end(batch)
    for other in others:
        assert [other.continuation.token_ids] == generate(
            model, [other.prompt], other.max_new_tokens, end_id=-1
        )


def test_rows_are_admitted_in_order_and_never_too_many(model):
    batch = ContinuousBatch(model, 2, end_id=-1)
    rows = [batch.submit([i + 1], 6) for i in range(5)]
    ended = []
    while not batch.is_idle:
        ended += batch.step()
        assert batch.n_admitted <= 2
    assert ended == rows


def test_a_long_prompt_does_not_stop_those_who_are_writing(model):
    """Each step reads a part of it, and writes a token of every other row."""
    batch = ContinuousBatch(model, 4, end_id=-1, prompt_tokens_per_step=5)
    writer = batch.submit([1], 25)
    batch.step()
    reader = batch.submit([2] * 20, 5)
    for n_steps in range(1, 4):
        before = len(writer.continuation.token_ids)
        batch.step()
        assert len(writer.continuation.token_ids) == before + 1
        assert (reader.n_read, reader.continuation.token_ids) == (5 * n_steps, [])


def test_prompts_of_similar_length_are_read_together(model, monkeypatch):
    shapes = []

    def spy(token_ids, *arguments, **options):
        shapes.append(tuple(token_ids.shape))
        return type(model).forward(model, token_ids, *arguments, **options)

    monkeypatch.setattr(model, "forward", spy)
    batch = ContinuousBatch(model, 9, end_id=-1, prompt_tokens_per_step=44)
    rows = [batch.submit([1] * length, 3) for length in (9, 2, 10, 2, 8, 30, 7)]
    batch.step()
    # 31 tokens of whole prompts, then 13 of the long one; the last prompt has to wait
    assert shapes == [(1, 13), (2, 2), (3, 10), (5, 1)]
    assert [row.n_read for row in rows] == [9, 2, 10, 2, 8, 13, 0]


@given(lengths=st.lists(st.integers(1, 60), max_size=12))
def test_groups_hold_each_prompt_once_and_little_padding(lengths):
    rows = [SimpleNamespace(prompt=[0] * length) for length in lengths]
    groups = groups_of_similar_length(rows)
    assert sorted(map(id, chain(*groups))) == sorted(map(id, rows))
    sizes = [[len(row.prompt) for row in group] for group in groups]
    assert list(chain(*sizes)) == sorted(lengths)
    for group in sizes:
        assert max(group) * len(group) - sum(group) <= MOST_PADDING * max(group) * len(group)
    for group, following in pairwise(sizes):  # with the next prompt it would be too much
        columns = following[0] * (len(group) + 1)
        assert columns - sum(group) - following[0] > MOST_PADDING * columns


def test_memory_goes_with_the_rows(model):
    batch = ContinuousBatch(model, 4, end_id=-1)
    long = batch.submit([1] * 25, 2)
    short = batch.submit([2], 9)
    batch.step()
    assert batch._cache is not None and batch._cache.length >= 25
    while not long.stopped:
        batch.step()
    batch.step()
    assert long.cache is None
    assert batch._cache.length == short.n_cached  # without columns that are padding for all rows
    assert batch._cache.max_length <= short.n_cached + ROOM
    run_to_end(batch)
    assert batch._cache is None and short.cache is None


def test_after_an_error_nothing_is_left(model, monkeypatch):
    batch = ContinuousBatch(model, 1, end_id=-1)
    rows = [batch.submit([1, 2], 5), batch.submit([3], 5)]
    batch.step()
    assert batch.clear() == rows and batch.is_idle and batch._cache is None
    assert_each_as_alone(model, answers_of(ContinuousBatch(model, 1, end_id=END), [(0, [3], 5)]))
    again = batch.submit([1, 2], 5)
    run_to_end(batch)
    assert [again.continuation.token_ids] == generate(model, [[1, 2]], 5, end_id=-1)


@pytest.mark.parametrize(
    ("prompt", "limit", "message"),
    [([], 5, "no token"), ([1] * 33, 5, "33 tokens"), ([1], -1, "max_new_tokens is -1")],
)
def test_impossible_rows_are_refused(model, prompt, limit, message):
    batch = ContinuousBatch(model, 1)
    with pytest.raises(ValueError, match=message):
        batch.submit(prompt, limit)
    assert batch.is_idle


@pytest.mark.parametrize("options", [{"max_rows": 0}, {"max_rows": 1, "prompt_tokens_per_step": 0}])
def test_impossible_batches_are_refused(model, options):
    with pytest.raises(ValueError, match="at least one"):
        ContinuousBatch(model, **options)


def test_a_row_keeps_its_keys_and_values_in_a_joined_cache(model):
    caches = []
    for prompt in ([1, 2, 3, 4], [5, 6]):
        cache = model.new_cache(len(prompt))
        model(torch.tensor([prompt]), cache=cache)
        caches.append(cache)
    rows = [CachedRow(cache, 0, cache.length) for cache in caches]
    joined = join_rows(rows, room=3)
    assert (joined.length, joined.max_length) == (4, 7)
    for layer in range(2):
        for part in range(2):
            ours = joined._layers[layer][part]
            for b, cache in enumerate(caches):
                own = cache._layers[layer][part][0]
                assert torch.equal(ours[b, :, 4 - cache.length : 4], own)
            assert not ours[1, :, :2].any()  # padding


def test_a_row_knows_how_many_tokens_its_cache_holds(model):
    batch = ContinuousBatch(model, 1, end_id=-1)
    row: BatchRow = batch.submit([1, 2, 3], 4)
    while not row.stopped:
        batch.step()
        if row.cache is not None:
            assert row.n_cached == row.cache.length
