"""Attention weights, computed once more, are those that a layer uses."""

import pytest
import torch

from ch07.models.attention_weights import attention_weights
from gpt_model import GPTConfig, GPTModel, causal_attention


@pytest.fixture(scope="module")
def model():
    config = GPTConfig(vocab_size=50, context_length=32, emb_dim=16, n_heads=4, n_layers=2)
    model = GPTModel(config, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():  # larger weights, so that attention isn't uniform
        for block in model.trf_blocks:
            block.att.W_query.weight.mul_(30)
            block.att.W_key.weight.mul_(30)
    return model


def test_attention_weights_are_those_that_the_layer_uses(model):
    """With the identity matrix as values, attention returns its own weights."""
    ids = [3, 1, 4, 1, 5]
    attention = model.trf_blocks[1].att
    x = model.trf_blocks[0](model.tok_emb(torch.tensor([ids])) + model.pos_emb(torch.arange(5)))
    seen = model.trf_blocks[1].norm1(x)
    queries, keys = (
        part(seen).view(1, 5, 4, 4).transpose(1, 2) for part in (attention.W_query, attention.W_key)
    )
    expected = causal_attention(queries, keys, torch.eye(5).expand(1, 4, 5, 5))[0]
    weights = attention_weights(model, attention, ids)
    torch.testing.assert_close(weights, expected)
    assert not attention._forward_pre_hooks  # the model is left as it was


def test_each_query_shares_its_attention_among_prefix_and_past(model):
    prefix = torch.randn(3, 2 * 2 * 16, generator=torch.Generator().manual_seed(1))
    weights = attention_weights(model, model.trf_blocks[1].att, [7, 8, 9, 2], prefix)
    assert weights.shape == (4, 4, 7)
    torch.testing.assert_close(weights.sum(-1), torch.ones(4, 4))
    assert (weights[:, :, 3:].triu(diagonal=1) == 0).all()  # no token attends to a later one
    assert (weights[:, :, :3] > 0).all()  # and each one attends to the whole prefix


def test_the_prefix_takes_the_keys_of_its_own_layer(model):
    """Columns 2 * layer * C to (2 * layer + 1) * C; the rest of the table changes nothing."""
    table = torch.zeros(2, 4 * 16)
    other = table.clone()
    other[:, :32] = 5.0  # layer 0, keys and values
    other[:, 48:] = 5.0  # the values of layer 1
    attention = model.trf_blocks[1].att
    first, second = (attention_weights(model, attention, [7, 8], t) for t in (table, other))
    assert torch.equal(first, second)
    other[:, 32:48] = 5.0  # the keys of layer 1
    assert not torch.equal(first, attention_weights(model, attention, [7, 8], other))
