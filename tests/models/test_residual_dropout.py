"""Dropout that rises with depth, and dropout on a prefix: only in training, and at its rate."""

from itertools import pairwise

import pytest
import torch

from ch07.models.prefix_tuning import PrefixEncoder, PrefixTuned
from ch07.models.residual_dropout import residual_dropout_rates, set_residual_dropout
from ch07.utils.errors import InputError

IDS = torch.arange(8).expand(4, -1)


@pytest.mark.parametrize("n_layers", [1, 2, 4, 12, 48])
def test_rates_rise_evenly_from_none(n_layers):
    rates = residual_dropout_rates(n_layers, 0.3)
    assert rates[0] == 0 and len(rates) == n_layers
    assert n_layers == 1 or rates[-1] == 0.3
    steps = {round(b - a, 9) for a, b in pairwise(rates)}
    assert len(steps) <= 1 and all(step > 0 for step in steps)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_a_rate_outside_its_range(rate):
    with pytest.raises(InputError, match="at least 0 and below 1"):
        residual_dropout_rates(4, rate)


def test_the_first_block_drops_nothing_and_the_last_its_rate(small_model):
    set_residual_dropout(small_model, 0.5)
    first, last = small_model.trf_blocks
    assert (first.drop_shortcut.p, last.drop_shortcut.p) == (0.0, 0.5)
    before = small_model(IDS)
    small_model.train()
    torch.manual_seed(0)
    dropped = small_model(IDS)
    assert not torch.equal(before, dropped)
    assert not torch.equal(dropped[0], dropped[1]), "equal rows lose other activations"
    torch.testing.assert_close(small_model.eval()(IDS), before, atol=0, rtol=0)


def test_none_leaves_a_models_own_dropout(small_model):
    for block in small_model.trf_blocks:
        block.drop_shortcut.p = 0.2
    set_residual_dropout(small_model, 0)
    assert [block.drop_shortcut.p for block in small_model.trf_blocks] == [0.2, 0.2]


def test_a_prefix_loses_its_share_in_training_alone(small_model):
    """In training, each row reads a prefix of its own, of which the rest is scaled up."""
    generator = torch.Generator().manual_seed(0)
    encoder = PrefixEncoder(small_model.config, 6, generator=generator)
    plain = PrefixTuned(small_model, encoder).eval()
    dropped = PrefixTuned(small_model, encoder, 0.25).eval()
    assert torch.equal(plain(IDS), dropped(IDS)), "nothing is dropped outside training"
    dropped.train()
    cache = dropped.new_cache(8)
    torch.manual_seed(0)
    dropped._fill(cache, 400)
    keys, values = cache._layers[0]
    table = encoder().detach()
    G, D = small_model.config.n_kv_heads, small_model.config.head_size
    expected = table[:, : G * D].view(6, G, D).transpose(0, 1)  # (G, P, D): the first layer's keys
    found = keys[:, :, :6]
    lost = found == 0
    assert abs(lost.float().mean() - 0.25) < 0.01
    scaled = (expected / 0.75).expand_as(found)
    torch.testing.assert_close(found[~lost], scaled[~lost])
    assert not torch.equal(lost[0], lost[1])
    assert not torch.equal(lost, values[:, :, :6] == 0)
