"""Figures of the notebooks: the numbers are right, captions give them, pictures are drawn."""

import pytest
import torch

from ch07.models.attention_weights import attention_weights
from ch07.visualization import notebook_figures as figures
from gpt_model import GPTConfig, GPTModel

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def model():
    config = GPTConfig(vocab_size=50, context_length=32, emb_dim=16, n_heads=4, n_layers=2)
    model = GPTModel(config, torch.Generator().manual_seed(0)).eval()
    with torch.no_grad():  # larger weights, so that attention isn't uniform
        for block in model.trf_blocks:
            block.att.W_query.weight.mul_(30)
            block.att.W_key.weight.mul_(30)
    return model


def captions(model):
    words = ["a", "b", "c"]
    plain = attention_weights(model, model.trf_blocks[0].att, [1, 2, 3])
    prefix = torch.zeros(2, 4 * 16)
    with_prefix = attention_weights(model, model.trf_blocks[0].att, [1, 2, 3], prefix)
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.04, 0.01]))
    change = torch.diag(torch.tensor([3.0, 4.0, 0.0]))
    return {
        "style book: 3 (template 2, answer 1)": figures.draw_style_costs(
            {"style book": {"template": 2, "answer": 1}}
        ),
        "rows have 2 to 9 tokens, half of them 4 or more": figures.draw_lengths([2, 4, 9]),
        "sorted: 0.0 %, 2.5 %": figures.draw_padding([2, 4], {"sorted": [0.0, 0.025]}),
        "seeds: median 0.70, 1 of 3 rejected": figures.draw_novelty(
            {"seeds": [0.1, 0.7, 0.71]}, 0.7
        ),
        "longest: 1 of 2, at most 3 from one": figures.draw_selections(
            {"longest": {"add": 3}}, ["add", "spell"]
        ),
        "head 3: ": figures.draw_attention(plain, words),
        "2 columns of the prefix": figures.draw_prefix_attention(with_prefix, words),
        "margin: 0.00 to 0.50": figures.draw_preferences([0, 9], [0, 0.5], [-9, -8], [-9, -10]),
        "temperature 1.0: 50 % and 5 %": figures.draw_temperatures(
            logits, str, (1.0, 2.0), n_words=3
        ),
        "the 2 likeliest tokens hold 80 % of the probability; tokens needed to reach 90 %: 3": (
            figures.draw_cutoffs(logits, str, top_k=2, top_p=0.9, n_words=4)
        ),
        "all: 50.0 % (40.0 to 60.0 %)": figures.draw_intervals({"all": (0.5, 0.4, 0.6)}),
        "KVCache: 5": figures.draw_counts({"KVCache": 5}, "mistakes"),
        "B and A have 2 x (6 + 4) = 20, or 83.3 % as many": figures.draw_low_rank((6, 4), 2),
        "W: 64 %": figures.draw_spectra({"W": change}, rank=1),
    }


def test_captions_say_the_numbers_and_pictures_are_drawn(model):
    for words, figure in captions(model).items():
        assert words in str(figure)
        assert figure.png().startswith(PNG), words


def test_the_loss_by_role_gives_first_and_last_value():
    losses = [dict.fromkeys(figures.ROLE_STYLES, value) for value in (10.5, 0.25)]
    figure = figures.draw_loss_by_role([0, 10], losses)
    assert str(figure).count("10.50 to 0.25") == len(figures.ROLE_STYLES)


def test_top_p_keeps_at_least_the_likeliest_token():
    logits = torch.log(torch.tensor([0.9, 0.06, 0.04]))
    assert "tokens needed to reach 50 %: 1" in str(
        figures.draw_cutoffs(logits, str, 1, 0.5, n_words=3)
    )
