"""The model's equalities: cached = uncached, padded = alone, wanted rows = all rows."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from ch07.models.architectures import make_model
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel, causal_attention

PARAMETERS = {  # Radford et al. 2019; small is published as 124,439,808
    "gpt2-small": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PARAMETERS)
def test_published_sizes(name):
    with torch.device("meta"):
        model = GPTModel(MODEL_SIZES[name])
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[name]


def test_an_untied_head_costs_one_more_embedding():
    with torch.device("meta"):
        tied = GPTModel(GPTConfig())
        untied = GPTModel(GPTConfig(tied_head=False))
    sizes = [sum(p.numel() for p in model.parameters()) for model in (tied, untied)]
    assert sizes[1] - sizes[0] == 50257 * 768
    assert tied.out_head.weight is tied.tok_emb.weight


def test_the_books_dict_and_the_config_make_the_same_model():
    book = {
        "vocab_size": 50, "context_length": 8, "emb_dim": 12, "n_heads": 3, "n_layers": 2,
        "drop_rate": 0.0, "qkv_bias": True,
    }  # fmt: skip
    one, two = (GPTModel(c, torch.Generator().manual_seed(5)) for c in (book, GPTConfig(**book)))
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)


def test_initial_weights_are_gpt2s():
    config = GPTConfig(vocab_size=500, context_length=64, emb_dim=96, n_heads=4, n_layers=3)
    model = GPTModel(config, torch.Generator().manual_seed(0))
    for name, weight in model.named_parameters():
        if name.endswith("bias"):
            assert not weight.any()
        elif "norm" in name:
            assert (weight == 1).all()
        else:
            residual = name.endswith(("out_proj.weight", "layers.2.weight"))
            std = 0.02 / math.sqrt(2 * 3) if residual else 0.02
            assert weight.std().item() == pytest.approx(std, rel=0.05), name


def test_initial_weights_come_from_the_given_stream_alone():
    config = GPTConfig(vocab_size=50, context_length=8, emb_dim=12, n_heads=3, n_layers=1)
    torch.manual_seed(1)
    one = GPTModel(config, torch.Generator().manual_seed(5))
    torch.manual_seed(2)
    two = GPTModel(config, torch.Generator().manual_seed(5))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


@pytest.mark.parametrize("small_model", ["gpt2"], indirect=True)
def test_attention_is_the_formula(small_model):
    att = small_model.trf_blocks[0].att
    x = torch.randn(2, 7, 24)
    q, k, v = (f(x).view(2, 7, 3, 8).transpose(1, 2) for f in (att.W_query, att.W_key, att.W_value))
    scores = q @ k.transpose(-2, -1) / math.sqrt(8)
    scores = scores.masked_fill(torch.ones(7, 7, dtype=torch.bool).triu(1), -torch.inf)
    context = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(2, 7, 24)
    torch.testing.assert_close(att(x), att.out_proj(context))


def test_no_token_sees_the_future(small_model):
    ids = torch.arange(10)[None]
    changed = ids.clone()
    changed[0, 6:] += 20
    assert torch.equal(small_model(ids)[:, :6], small_model(changed)[:, :6])
    assert not torch.allclose(small_model(ids)[:, 6], small_model(changed)[:, 6])


def test_padding_on_the_right_needs_no_attention_mask(small_model):
    ids = torch.arange(8)[None]
    padded = torch.cat([ids, torch.full((1, 5), 50)], dim=1)
    torch.testing.assert_close(small_model(padded)[:, :8], small_model(ids))


def test_wanted_positions_are_rows_of_all(small_model):
    ids = torch.randint(0, 97, (3, 9))
    wanted = torch.rand(3, 9) > 0.5
    torch.testing.assert_close(small_model(ids, wanted=wanted), small_model(ids)[wanted])
    last = small_model(ids, wanted=(slice(None), -1))
    torch.testing.assert_close(last, small_model(ids)[:, -1])


@pytest.mark.parametrize("pieces", [[9], [1] * 9, [4, 5], [1, 3, 1, 4]])
def test_cached_equals_uncached(small_model, pieces):
    """With several queries behind a cache, `is_causal=True` would mask from the wrong corner."""
    ids = torch.randint(0, 97, (2, 9))
    cache = small_model.new_cache(9)
    parts = [small_model(part, cache=cache) for part in ids.split(pieces, dim=1)]
    torch.testing.assert_close(torch.cat(parts, dim=1), small_model(ids))


@pytest.mark.parametrize("pieces", [[8], [5, 1, 2]])
def test_left_padded_rows_equal_the_row_alone(small_model, pieces):
    padding = torch.tensor([0, 3, 6])
    ids = torch.randint(0, 97, (3, 8))
    cache = small_model.new_cache(8)
    parts = [
        small_model(part, cache=cache, left_padding=padding) for part in ids.split(pieces, dim=1)
    ]
    together = torch.cat(parts, dim=1)
    assert together.isfinite().all()
    for row, start in enumerate(padding.tolist()):
        alone = small_model(ids[row : row + 1, start:])
        torch.testing.assert_close(together[row : row + 1, start:], alone)


def test_a_cache_keeps_the_rows_it_is_told(small_model):
    ids = torch.randint(0, 97, (3, 6))
    cache = small_model.new_cache(6)
    small_model(ids[:, :5], cache=cache)
    cache.keep(torch.tensor([0, 2]))
    kept = small_model(ids[[0, 2], 5:], cache=cache)
    torch.testing.assert_close(kept[:, 0], small_model(ids)[[0, 2], -1])
    with pytest.raises(ValueError, match="7 tokens, but this cache was made for 6"):
        small_model(ids[[0, 2], :1], cache=cache)


def test_a_sequence_beyond_the_context_is_a_clear_error(small_model):
    with pytest.raises(ValueError, match="33 tokens, but this model's context_length is 32"):
        small_model(torch.zeros(1, 33, dtype=torch.long))
    cache = small_model.new_cache(40)
    small_model(torch.zeros(1, 32, dtype=torch.long), cache=cache)
    with pytest.raises(ValueError, match="context_length is 32"):
        small_model(torch.zeros(1, 1, dtype=torch.long), cache=cache)


def test_heads_must_divide_the_embedding():
    with pytest.raises(ValueError, match="emb_dim 10 can't be divided among n_heads 3"):
        GPTConfig(emb_dim=10, n_heads=3)


def test_dropout_is_off_outside_training(small_model):
    model = make_model(replace(small_model.config, drop_rate=0.5))
    model.load_state_dict(small_model.state_dict())
    ids = torch.randint(0, 97, (2, 9))
    assert torch.equal(model.eval()(ids), small_model(ids))
    assert not torch.equal(model.train()(ids), model(ids))


def test_a_model_held_in_bfloat16_runs(small_model):
    ids = torch.randint(0, 97, (2, 9))
    expected = small_model(ids)
    torch.testing.assert_close(small_model.bfloat16()(ids).float(), expected, atol=0.5, rtol=0.1)


def test_attention_under_autocast_stays_close_and_keeps_gradients(small_model):
    ids = torch.randint(0, 97, (2, 9))
    with torch.autocast("cpu", torch.bfloat16):
        logits = small_model(ids)
    torch.testing.assert_close(logits.float(), small_model(ids), atol=0.3, rtol=0.1)
    logits.float().sum().backward()
    assert all(p.grad is not None for p in small_model.parameters())


def test_attention_leaves_autocast_on_a_cpu():
    """In bfloat16 its gradient takes several times as long there; the result keeps its type."""
    queries, keys, values = torch.randn(3, 2, 4, 6, 8).bfloat16()
    exact = F.scaled_dot_product_attention(
        queries.float(), keys.float(), values.float(), is_causal=True
    )
    with torch.autocast("cpu", torch.bfloat16):
        result = causal_attention(queries, keys, values)
    assert torch.equal(result, exact.bfloat16())
    assert torch.equal(causal_attention(queries, keys, values), result)
