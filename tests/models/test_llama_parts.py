"""The four parts of a Llama, each against its formula and its defining property."""

import math

import pytest
import torch
import torch.nn.functional as F
from chat_model import small_llama
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07.models.architectures import describe_shape, make_model, narrow_shape, read_shape
from ch07.models.empty_model import empty_model
from ch07.models.llama import (
    LlamaConfig,
    LlamaModel,
    RMSNorm,
    SwiGLU,
    rotate,
    rotation_angles,
)
from ch07.models.resource_estimate import cache_bytes, count_parameters
from gpt_model import MODEL_SIZES, GPTConfig, causal_attention

SHAPE = LlamaConfig(97, 32, 24, n_heads=6, n_kv_heads=2, n_layers=2, hidden_dim=40)


def turned(x, positions, theta=100.0):
    angles = rotation_angles(positions, x.shape[-1], theta)
    return rotate(x, angles.cos(), angles.sin())


# --- the norm -------------------------------------------------------------------------------------
def test_the_norm_is_pytorch_s():
    norm = RMSNorm(24, eps=1e-3)
    with torch.no_grad():
        norm.weight.normal_()
    x = torch.randn(2, 5, 24)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (24,), norm.weight, eps=1e-3))


def test_the_norm_keeps_the_direction_and_forgets_the_length():
    norm = RMSNorm(24, eps=0.0)
    x = torch.randn(3, 24)
    torch.testing.assert_close(norm(1000 * x), norm(x))
    torch.testing.assert_close(norm(x).square().mean(dim=-1), torch.ones(3))
    assert not torch.allclose(norm(x + 5).mean(dim=-1), torch.zeros(3)), "the mean stays"


def test_the_norm_of_nothing_and_of_large_halves_is_finite():
    assert torch.equal(RMSNorm(24)(torch.zeros(1, 24)), torch.zeros(1, 24))
    large = torch.full((1, 24), 300.0, dtype=torch.float16)  # whose squares are infinite
    assert torch.equal(RMSNorm(24).half()(large), torch.ones(1, 24, dtype=torch.float16))


# --- rotary positions -----------------------------------------------------------------------------
@settings(deadline=None)
@given(shift=st.integers(0, 5000), distance=st.integers(0, 100))
def test_a_dot_product_depends_on_the_distance_alone(shift, distance):
    stream = torch.Generator().manual_seed(distance)
    query = torch.randn(1, 1, 1, 8, generator=stream)
    key = torch.randn(1, 1, 1, 8, generator=stream)

    def score(start):
        return (
            turned(query, torch.tensor([start + distance])) @ turned(key, torch.tensor([start])).mT
        ).item()

    assert score(shift) == pytest.approx(score(0), abs=2e-3)


def test_a_rotation_changes_no_length_and_nothing_at_position_0():
    x = torch.randn(2, 3, 9, 8)
    positions = torch.arange(9)
    torch.testing.assert_close(turned(x, positions).norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned(x, positions)[:, :, 0], x[:, :, 0])
    assert not torch.allclose(turned(x, positions)[:, :, 1], x[:, :, 1])


def test_pairs_are_the_halves_of_a_head():
    """Each pair, as a complex number, is multiplied by e^(i angle)."""
    x = torch.randn(1, 1, 5, 8)
    angles = rotation_angles(torch.arange(5), 8, 100.0)
    pairs = torch.complex(x[..., :4], x[..., 4:]) * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(turned(x, torch.arange(5)), torch.cat([pairs.real, pairs.imag], -1))


def test_rows_may_have_positions_of_their_own():
    x = torch.randn(2, 3, 4, 8)
    positions = torch.tensor([[0, 1, 2, 3], [0, 0, 1, 2]])
    both = turned(x, positions[:, None])
    for row in (0, 1):
        torch.testing.assert_close(both[row : row + 1], turned(x[row : row + 1], positions[row]))


# --- attention and feed-forward -------------------------------------------------------------------
def test_attention_is_the_formula():
    att = small_llama().trf_blocks[0].att
    x = torch.randn(2, 7, 24)
    angles = rotation_angles(torch.arange(7), 4, 100.0)
    queries = rotate(att.W_query(x).view(2, 7, 6, 4).transpose(1, 2), angles.cos(), angles.sin())
    keys = rotate(att.W_key(x).view(2, 7, 2, 4).transpose(1, 2), angles.cos(), angles.sin())
    values = att.W_value(x).view(2, 7, 2, 4).transpose(1, 2)
    future = torch.ones(7, 7, dtype=torch.bool).triu(1)
    heads = []
    for head in range(6):  # heads 0 to 2 share the first head of keys, 3 to 5 the second
        scores = queries[:, head] @ keys[:, head // 3].mT / math.sqrt(4)
        weights = scores.masked_fill(future, -torch.inf).softmax(dim=-1)
        heads.append(weights @ values[:, head // 3])
    expected = att.out_proj(torch.cat(heads, dim=-1))
    torch.testing.assert_close(att(x, angles.cos(), angles.sin()), expected)


@pytest.mark.parametrize("masked", [True, False])
def test_shared_heads_are_repeated_heads(masked):
    queries = torch.randn(2, 6, 5, 4)
    keys = torch.randn(2, 2, 5, 4)
    values = torch.randn(2, 2, 5, 4)
    mask = torch.ones(5, 5, dtype=torch.bool).tril() if masked else None
    shared = causal_attention(queries, keys, values, mask)
    repeated = causal_attention(
        queries, keys.repeat_interleave(3, 1), values.repeat_interleave(3, 1), mask
    )
    torch.testing.assert_close(shared, repeated)


def test_the_gate_lets_through():
    ff = SwiGLU(SHAPE)
    x = torch.randn(3, 24)
    gate = x @ ff.gate.weight.T
    expected = (gate * torch.sigmoid(gate) * (x @ ff.up.weight.T)) @ ff.down.weight.T
    torch.testing.assert_close(ff(x), expected)
    with torch.no_grad():
        ff.gate.weight.zero_()
    assert torch.equal(ff(x), torch.zeros(3, 24)), "closed"


def test_no_layer_has_a_bias():
    assert not [name for name, _ in LlamaModel(SHAPE).named_parameters() if "bias" in name]


# --- shape and parameters -------------------------------------------------------------------------
def test_the_parameters_are_those_of_the_published_model():
    assert count_parameters(LlamaConfig())[0] == 134_515_008


def test_the_cache_holds_only_the_shared_heads():
    alone = GPTConfig(emb_dim=576, n_heads=9, n_layers=30, context_length=8192)
    assert cache_bytes(alone, 1000) == 3 * cache_bytes(LlamaConfig(), 1000)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"n_heads": 7}, "can't be divided"),
        ({"n_heads": 192}, "in pairs"),  # heads of 3 numbers
        ({"n_kv_heads": 2}, "not a multiple of n_kv_heads 2"),
    ],
)
def test_a_shape_that_no_model_can_have(values, words):
    with pytest.raises(ValueError, match=words):
        LlamaConfig(**values)


@pytest.mark.parametrize("config", [SHAPE, LlamaConfig(), GPTConfig(**MODEL_SIZES["gpt2-tiny"])])
def test_a_shape_can_be_stored(config):
    assert read_shape(describe_shape(config)) == config


def test_an_unknown_kind_of_model_is_refused():
    with pytest.raises(ValueError, match="'mamba', which is unknown"):
        read_shape({**describe_shape(SHAPE), "architecture": "mamba"})


@pytest.mark.parametrize("config", [LlamaConfig(emb_dim=2304, n_heads=36, n_kv_heads=12), SHAPE])
def test_a_narrower_shape_can_be_built(config):
    narrow = narrow_shape(config, min(config.emb_dim, 768), 64)
    assert narrow.emb_dim == min(config.emb_dim, 768)
    assert empty_model(narrow).config == narrow


def test_the_seed_alone_draws_the_weights():
    one, two, other = (make_model(SHAPE, torch.Generator().manual_seed(n)) for n in (1, 1, 2))
    ids = torch.arange(9)[None]
    assert torch.equal(one(ids), two(ids)) and not torch.equal(one(ids), other(ids))
    assert one.trf_blocks[0].att.W_query.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert one.trf_blocks[0].ff.down.weight.std().item() == pytest.approx(0.01, rel=0.1)
