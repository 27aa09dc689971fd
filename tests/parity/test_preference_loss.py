"""DPO is that of its authors: their loss on random numbers, and log-probabilities as transformers'
GPT-2 has them. With two named options, it is that of the book's author.
"""

import copy

import pytest
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

from ch07.systems.preference_tuning.dpo import (
    DPOSettings,
    dpo_loss,
    evaluate_pairs,
    pair_logprobs,
    rewards,
    sequence_logprobs,
)
from ch07.systems.preference_tuning.preference_data import PairDataset, pair_loader
from collate import END_OF_TEXT, custom_collate_response_fn
from gpt_model import GPTModel
from instruction_dataset import format_input


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


# --- what is counted ----------------------------------------------------------------------------

PAIRS = [
    {"instruction": "Name a river.", "input": "", "chosen": "The Rhine.", "rejected": "Rhine"},
    {
        "instruction": "Correct the spelling.",
        "input": "freind --> friend",
        "chosen": 'It is spelled "friend".\n\nNot "freind".',
        "rejected": "Wrong, get it together!",
    },
    {"instruction": "Add 2 and 3.", "input": "", "chosen": "5", "rejected": "That would be 6."},
]


def logps_of_the_book(model, pairs, side, tokenizer):
    """Both sides padded to one length; the mean from two tokens after the prompt to the last."""
    prompts = [tokenizer.encode(format_input(pair)) for pair in pairs]
    texts = {
        key: [
            tokenizer.encode(f"{format_input(pair)}\n\n### Response:\n{pair[key]}")
            for pair in pairs
        ]
        for key in ("chosen", "rejected")
    }
    length = max(len(ids) + 1 for key in texts for ids in texts[key])
    means = []
    for prompt, ids in zip(prompts, texts[side], strict=True):
        row = torch.tensor(ids + [END_OF_TEXT] * (length - len(ids)))
        mask = torch.zeros(length, dtype=torch.bool)
        mask[len(prompt) + 2 : len(ids)] = True
        logprobs = model(row[None, :-1])[0].log_softmax(-1)
        selected = logprobs.gather(-1, row[1:, None])[:, 0]
        means.append((selected * mask[1:]).sum() / mask[1:].sum())
    return torch.stack(means)


def logps_of_the_authors(model, pairs, side, tokenizer):
    """The sum over the answer and the token that ends it."""
    sums = []
    for pair in pairs:
        prompt = tokenizer.encode(format_input(pair) + "\n\n### Response:\n")
        row = torch.tensor([*prompt, *tokenizer.encode(pair[side]), END_OF_TEXT])
        logprobs = model(row[None, :-1])[0].log_softmax(-1)
        sums.append(logprobs.gather(-1, row[1:, None])[len(prompt) - 1 :].sum())
    return torch.stack(sums)


ORACLES = {
    "the book": (logps_of_the_book, {"reduction": "mean"}, "header-and-answer"),
    "the authors": (logps_of_the_authors, {}, "answer-and-end"),
}


def two_models():
    """A random model, and one near it: the policy and the reference. In float64."""
    shape = {"context_length": 96, "emb_dim": 12, "n_heads": 2, "n_layers": 2}
    policy = GPTModel(shape, torch.Generator().manual_seed(0)).double().eval()
    reference = copy.deepcopy(policy).requires_grad_(False)
    with torch.no_grad():
        for weight in policy.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    return policy, reference


@pytest.mark.parametrize("name", ORACLES)
def test_logprobs_loss_and_gradients_of(name, tokenizer):
    """And the loss and the rewards of an evaluation: the book's rewards leave beta out."""
    oracle, options, counted = ORACLES[name]
    policy, reference = two_models()
    loader = pair_loader(PairDataset(PAIRS, tokenizer, counted=counted), len(PAIRS))
    ((chosen, rejected, _),) = loader
    reduction = options.get("reduction", "sum")
    ours = {}
    theirs = {}
    for side, batch in (("chosen", chosen), ("rejected", rejected)):
        for which, model in (("policy", policy), ("reference", reference)):
            ours[which, side] = sequence_logprobs(model, *batch, reduction)
            theirs[which, side] = oracle(model, PAIRS, side, tokenizer)
            torch.testing.assert_close(
                ours[which, side].double(), theirs[which, side], atol=1e-5, rtol=1e-5
            )
    their_chosen = theirs["policy", "chosen"] - theirs["reference", "chosen"]
    their_rejected = theirs["policy", "rejected"] - theirs["reference", "rejected"]
    their_loss = -F.logsigmoid(0.1 * (their_chosen - their_rejected)).mean()
    our_loss = dpo_loss(*ours_in_order(ours)).mean()
    assert our_loss.item() == pytest.approx(their_loss.item(), abs=1e-6)
    weights = list(policy.parameters())
    our_gradient = flat_gradient(our_loss, weights)
    their_gradient = flat_gradient(their_loss, weights)
    assert (our_gradient - their_gradient).norm() <= 1e-5 * their_gradient.norm()
    assert_same_evaluation(policy, reference, loader, options, their_loss, their_chosen)


def flat_gradient(loss, weights):
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)])


def ours_in_order(logps):
    sides = ("chosen", "rejected")
    return [logps[which, side] for which in ("policy", "reference") for side in sides]


def assert_same_evaluation(policy, reference, loader, options, loss, chosen_rewards):
    then = pair_logprobs(reference, loader, reduction=options.get("reduction", "sum"))
    means = evaluate_pairs(policy, loader, then, DPOSettings(**options))
    assert means["loss"] == pytest.approx(loss.item(), abs=1e-6)
    now = pair_logprobs(policy, loader, reduction=options.get("reduction", "sum"))
    torch.testing.assert_close(
        (rewards(now, then)[:, 0] / 0.1).double(), chosen_rewards.detach(), atol=1e-4, rtol=1e-4
    )


def test_the_defaults_are_not_the_book_s(tokenizer):
    """The negative control: a mean alone has other tokens in it."""
    policy, _ = two_models()
    ((chosen, _, _),) = pair_loader(PairDataset(PAIRS, tokenizer), len(PAIRS))
    mean = sequence_logprobs(policy, *chosen, "mean")
    assert (mean - logps_of_the_book(policy, PAIRS, "chosen", tokenizer)).abs().max() > 0.01
