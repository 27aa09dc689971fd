"""Decoding's equalities: batched = one by one, cached = uncached; and where each row stops."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.generation.decoding import Sampling, choose_tokens, continue_prompts, generate
from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned

END = 96
STREAM = torch.Generator()
prompt_lists = st.lists(
    st.lists(st.integers(0, 95), min_size=1, max_size=10), min_size=1, max_size=5
)


@pytest.fixture(scope="module")
def model():
    from gpt_model import GPTModel

    config = {"vocab_size": 97, "context_length": 32, "emb_dim": 24, "n_heads": 3, "n_layers": 2}
    gpt = GPTModel(config, torch.Generator().manual_seed(0))
    stream = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in gpt.parameters():
            weight.add_(0.3 * torch.randn(weight.shape, generator=stream))
    return gpt.eval()


class Scripted(torch.nn.Module):
    """A stand-in for a model that continues every row with the same ids, in order."""

    def __init__(self, script, context_length=100):
        super().__init__()
        self.script, self.config = script, type("Config", (), {"context_length": context_length})
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.calls = 0

    def new_cache(self, max_length):
        return type("Cache", (), {"keep": lambda self, rows: None, "length": 0})()

    def forward(self, token_ids, wanted, cache, left_padding=None):
        if left_padding is None:  # only reads what all rows begin with
            return None
        logits = torch.zeros(len(token_ids), 97)
        logits[:, self.script[self.calls]] = 1.0
        self.calls += 1
        return logits


@settings(deadline=None, max_examples=60)
@given(prompts=prompt_lists)
def test_together_equals_alone(model, prompts):
    together = generate(model, prompts, 8, end_id=END)
    alone = [generate(model, [prompt], 8, end_id=END)[0] for prompt in prompts]
    assert together == alone


@settings(deadline=None, max_examples=60)
@given(beginning=st.lists(st.integers(0, 96), max_size=12), prompts=prompt_lists)
def test_prompts_that_begin_alike_get_the_answers_that_they_get_alone(model, beginning, prompts):
    """Their beginning is read once; with the cache and without it, and behind a prefix."""
    prompts = [[*beginning, *prompt] for prompt in prompts]
    prefixed = PrefixTuned(model, PrefixEncoder(model.config, 3, None, STREAM.manual_seed(2)))
    for one in (model, prefixed):
        alone = [generate(one, [prompt], 6, end_id=END)[0] for prompt in prompts]
        assert generate(one, prompts, 6, end_id=END) == alone
    assert generate(model, prompts, 6, end_id=END, use_cache=False) == generate(
        model, prompts, 6, end_id=END
    )


def test_the_beginning_of_all_prompts_is_read_once(model, monkeypatch):
    read = []
    forward = type(model).forward

    def noted(self, token_ids, *rest, **options):
        read.append(tuple(token_ids.shape))
        return forward(self, token_ids, *rest, **options)

    monkeypatch.setattr(type(model), "forward", noted)
    beginning = [5, 6, 7, 8]
    generate(model, [[*beginning, 1], [*beginning, 2, 3], [*beginning, 2, 3]], 1, end_id=END)
    assert read == [(1, 4), (3, 2)]


def test_cached_equals_uncached_and_the_definition(model):
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    cached = generate(model, prompts, 12, end_id=END)
    assert cached == generate(model, prompts, 12, end_id=END, use_cache=False)
    ids = list(prompts[0])
    for expected in cached[0]:  # and equals the definition: the likeliest next token, each time
        assert model(torch.tensor([ids]))[0, -1].argmax() == expected
        ids.append(expected)


def test_rows_stop_at_their_own_end(model):
    prompts = [[i] for i in range(40)]
    rows = continue_prompts(model, prompts, 20, end_id=END)
    reasons = {row.stopped for row in rows}
    end = rows[0].token_ids[3]  # a token that greedy choice comes to: make it the end
    stopped = continue_prompts(model, prompts, 20, end_id=end)
    assert reasons <= {"end", "length"} and stopped[0].stopped == "end"
    for before, after in zip(rows, stopped, strict=True):
        ids = before.token_ids
        assert after.token_ids == (ids[: ids.index(end)] if end in ids else ids)
        assert after.stopped == ("end" if end in ids else before.stopped)


def test_the_scripted_stop_rule():
    assert generate(Scripted([5, 6, END, 7]), [[1, 2]], 9, end_id=END) == [[5, 6]]
    (empty,) = continue_prompts(Scripted([END]), [[1]], 9, end_id=END)
    assert (empty.token_ids, empty.stopped) == ([], "end")
    (cut,) = continue_prompts(Scripted([5] * 9), [[1]], 2, end_id=END)
    assert (cut.token_ids, cut.stopped) == ([5, 5], "length")


def test_the_context_is_a_limit_that_is_named():
    long, short = [1] * 8, [1] * 3
    rows = continue_prompts(Scripted([5] * 20, context_length=10), [long, short], 20, end_id=END)
    assert [(len(row.token_ids), row.stopped) for row in rows] == [(2, "context"), (7, "context")]
    with pytest.raises(ValueError, match="prompt 1 has 11 tokens, but this model reads at most 10"):
        generate(Scripted([5], context_length=10), [[1], [1] * 11], 5)


def test_no_row_outgrows_a_real_context(model):
    rows = continue_prompts(model, [[1] * 30, [2] * 3, [3] * 32], 40, end_id=1000)
    lengths = [(len(row.token_ids), row.stopped) for row in rows]
    assert lengths == [(2, "context"), (29, "context"), (0, "context")]


def test_without_prompts_or_new_tokens_nothing_is_generated():
    assert generate(Scripted([]), [], 5) == []
    assert generate(Scripted([]), [[1]], 0) == [[]]


@pytest.mark.parametrize(
    ("prompts", "n", "message"),
    [([[]], 5, "prompt 0 has no token"), ([[1]], -1, "max_new_tokens is -1")],
)
def test_impossible_arguments_are_refused(prompts, n, message):
    with pytest.raises(ValueError, match=message):
        generate(Scripted([]), prompts, n)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_k": 1.5},
        {"top_k": "3"},
        {"top_k": True},
        {"top_p": 0.0},
        {"top_p": 1.1},
    ],
)
def test_bad_sampling_is_refused_by_name(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Sampling(**bad)


def test_temperature_zero_is_greedy():
    logits = torch.randn(5, 20)
    assert torch.equal(choose_tokens(logits), logits.argmax(dim=-1))
    for cold in (1e-50, 1e-40, 1e-9, 1e-5):  # some are 0, or overflow, in the logits' format
        assert torch.equal(choose_tokens(logits, Sampling(temperature=cold)), logits.argmax(dim=-1))
    assert torch.equal(
        choose_tokens(logits, Sampling(temperature=1.0, top_k=1)), logits.argmax(dim=-1)
    )
    assert torch.equal(
        choose_tokens(logits, Sampling(temperature=1.0, top_p=1e-9)), logits.argmax(dim=-1)
    )


def sampled(logits, n=20_000, **options):
    stream = torch.Generator().manual_seed(0)
    ids = choose_tokens(logits.expand(n, -1), Sampling(**options), stream)
    return torch.bincount(ids, minlength=logits.shape[-1]) / n


def test_sampling_follows_the_distribution():
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0])
    for t in (0.7, 1.0):
        expected = (logits / t).softmax(dim=-1)
        torch.testing.assert_close(sampled(logits, temperature=t), expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("k", [1, 3, 8])
def test_top_k_leaves_k_tokens_even_of_equal_ones(k):
    equal = torch.zeros(8)
    assert (sampled(equal, temperature=1.0, top_k=k) > 0).tolist() == [True] * k + [False] * (8 - k)
    some_equal = torch.tensor([1.0, 2.0, 1.0, 1.0, 2.0, 0.0, 0.0, 0.0])
    order = [1, 4, 0, 2, 3, 5, 6, 7]  # of equal ones, the first comes first
    left = sampled(some_equal, temperature=1.0, top_k=k) > 0
    assert set(left.nonzero()[:, 0].tolist()) == set(order[:k])


def test_top_k_and_top_p_leave_the_right_tokens():
    logits = torch.tensor([0.5, 0.25, 0.15, 0.1]).log()
    assert (sampled(logits, temperature=1.0, top_k=2) > 0).tolist() == [True, True, False, False]
    assert (sampled(logits, temperature=1.0, top_p=0.7) > 0).tolist() == [True, True, False, False]
    assert (sampled(logits, temperature=1.0, top_p=0.76) > 0).tolist() == [True, True, True, False]
    assert (sampled(logits, temperature=1.0, top_k=99) > 0).all(), "more than there are: all"


def test_sampling_repeats_with_its_stream_and_leaves_the_global_one(model):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    runs = [
        generate(model, [[1, 2], [3]], 8, end_id=END, sampling=Sampling(temperature=1.0),
                 generator=torch.Generator().manual_seed(seed))
        for seed in (5, 5, 6)
    ]  # fmt: skip
    assert runs[0] == runs[1] != runs[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_dropout_is_off_and_every_mode_comes_back(model):
    from gpt_model import GPTModel

    config = {"vocab_size": 97, "context_length": 32, "emb_dim": 24, "n_heads": 3, "n_layers": 2}
    dropping = GPTModel(config | {"drop_rate": 0.5})
    dropping.load_state_dict(model.state_dict())
    dropping.train().trf_blocks[0].eval()
    modes = [module.training for module in dropping.modules()]
    assert generate(dropping, [[1, 2]], 8, end_id=END) == generate(model, [[1, 2]], 8, end_id=END)
    with pytest.raises(IndexError):
        generate(dropping, [[1000]], 8, end_id=END)
    assert [module.training for module in dropping.modules()] == modes


def test_a_bfloat16_model_answers_the_same_with_and_without_the_cache(small_model):
    """On a CPU the cache is float32, as attention is there: nothing is rounded twice."""
    model = copy.deepcopy(small_model).bfloat16()
    prompts = [[1, 2, 3, 4, 5], [6, 7]]
    cache = model.new_cache(8)
    with torch.inference_mode():
        model(torch.tensor([[1, 2, 3]]), cache=cache)
    assert all(stored.dtype == torch.float32 for pair in cache._layers for stored in pair)
    answers = [generate(model, prompts, 8, end_id=-1, use_cache=use) for use in (True, False)]
    assert answers[0] == answers[1]
