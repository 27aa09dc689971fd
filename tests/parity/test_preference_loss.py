"""DPO is that of its authors: their loss on random numbers, and log-probabilities as transformers'
GPT-2 has them.
"""

import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from ch07.systems.preference_tuning.dpo import dpo_loss, rewards, sequence_logprobs
from collate import custom_collate_response_fn


class Peer(torch.nn.Module):
    """transformers' model, asked as ours is."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs, wanted):
        return self.model(inputs).logits[wanted]


@pytest.fixture(scope="module")
def peer():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=97, n_positions=32, n_embd=24, n_layer=2, n_head=3,
                        bos_token_id=96, eos_token_id=96)  # fmt: skip
    return GPT2LMHeadModel(config).eval()


def test_a_sum_is_minus_the_loss_times_its_tokens(peer):
    """Labels are not shifted: a row with its end-of-text, and -100 where the prompt stands."""
    rows = [(3, [1, 2, 3, 4, 5]), (2, [6, 7, 8, 9, 10, 11, 12]), (1, [13])]
    ours = sequence_logprobs(Peer(peer), *custom_collate_response_fn(rows, pad_token_id=96))
    mean = sequence_logprobs(Peer(peer), *custom_collate_response_fn(rows, 96), reduction="mean")
    for (length, ids), total, average in zip(rows, ours, mean, strict=True):
        row = torch.tensor([[*ids, 96]])
        labels = row.clone()
        labels[0, :length] = -100
        n = len(ids) + 1 - length
        loss = peer(row, labels=labels).loss.item()
        assert total.item() == pytest.approx(-loss * n, abs=1e-5)
        assert average.item() == pytest.approx(-loss, abs=1e-5)


@pytest.mark.parametrize(("beta", "smoothing"), [(0.1, 0.0), (0.5, 0.0), (0.1, 0.2)])
def test_the_loss_of_the_authors(beta, smoothing):
    """Their `preference_loss`: conservative DPO where labels are smoothed, rewards with beta."""
    policy_chosen, policy_rejected, chosen, rejected = 50 * torch.randn(4, 200).double()
    ratio, reference = policy_chosen - policy_rejected, chosen - rejected
    logits = ratio - reference
    theirs = (
        -F.logsigmoid(beta * logits) * (1 - smoothing) - F.logsigmoid(-beta * logits) * smoothing
    )
    ours = dpo_loss(
        policy_chosen, policy_rejected, chosen, rejected, beta=beta, label_smoothing=smoothing
    )
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(
        rewards(policy_chosen, chosen, beta) - rewards(policy_rejected, rejected, beta),
        beta * logits,
    )
