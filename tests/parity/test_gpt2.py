"""GPTModel is GPT2LMHeadModel: logits, loss, gradients, greedy ids, under the same weights."""

import pytest
import torch
import transformers

from ch07.generation.decoding import generate
from ch07.models.parameter_names import from_published, to_published
from collate import custom_collate_fn
from gpt_model import GPTConfig, GPTModel
from train_loop import calc_loss_batch

CONFIG = GPTConfig(vocab_size=211, context_length=48, emb_dim=48, n_heads=4, n_layers=3)
END = 210


@pytest.fixture(scope="module")
def pair():
    """The same random weights in both; larger than at the start, so that every path matters."""
    torch.manual_seed(0)
    peer = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=211, n_positions=48, n_embd=48, n_head=4, n_layer=3,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=END, eos_token_id=END,
        )
    ).eval()  # fmt: skip
    with torch.no_grad():
        for weight in peer.parameters():
            weight.add_(0.15 * torch.randn_like(weight))
    ours = GPTModel(CONFIG)
    ours.load_state_dict(from_published(peer.transformer.state_dict(), CONFIG))
    return ours.eval(), peer


def batch():
    stream = torch.Generator().manual_seed(1)
    rows = [torch.randint(0, 210, (n,), generator=stream).tolist() for n in (31, 5, 18, 48)]
    return rows, *custom_collate_fn(rows, pad_token_id=END)


def test_logits(pair):
    ours, peer = pair
    _, inputs, _ = batch()
    torch.testing.assert_close(ours(inputs), peer(inputs).logits, atol=1e-4, rtol=0)


def test_loss_and_gradients(pair):
    ours, peer = pair
    rows, inputs, targets = batch()
    padded = custom_collate_fn([[*row, END] for row in rows if len(row) < 48], pad_token_id=END)[0]
    labels = padded.clone()
    for i, row in enumerate(row for row in rows if len(row) < 48):
        labels[i, len(row) + 1 :] = -100
    ours.zero_grad(), peer.zero_grad()
    short = [i for i, row in enumerate(rows) if len(row) < 48]
    width = max(len(rows[i]) for i in short)
    loss = calc_loss_batch(inputs[short][:, :width], targets[short][:, :width], ours, "cpu")
    theirs = peer(input_ids=padded, attention_mask=(labels != -100).long(), labels=labels).loss
    torch.testing.assert_close(loss, theirs, atol=1e-5, rtol=0)
    loss.backward(), theirs.backward()
    grads = {name: p.grad for name, p in ours.named_parameters()}
    grads["out_head.weight"] = grads["tok_emb.weight"]
    for name, grad in to_published(grads, CONFIG).items():
        expected = peer.transformer.get_parameter(name).grad
        torch.testing.assert_close(grad, expected, atol=1e-4, rtol=0, msg=name)


def test_names_and_back(pair):
    ours, peer = pair
    published = to_published(ours.state_dict(), CONFIG)
    theirs = dict(peer.transformer.named_parameters())
    assert set(published) == set(theirs)
    assert all(torch.equal(published[name], theirs[name]) for name in theirs)


def test_greedy_ids_alone_and_batched(pair):
    ours, peer = pair
    prompts = [[3, 1, 4, 1, 5], [9, 2], [6] * 12]
    expected = []
    for prompt in prompts:
        out = peer.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=24, do_sample=False, pad_token_id=END,
        )[0].tolist()  # fmt: skip
        new = out[len(prompt) :]
        expected.append(new[: new.index(END)] if END in new else new)
    assert generate(ours, prompts, 24, end_id=END) == expected


def test_the_last_logits_alone(pair):
    ours, peer = pair
    _, inputs, _ = batch()
    wanted = (slice(None), -1)
    theirs = peer(inputs, logits_to_keep=1).logits[:, 0]
    torch.testing.assert_close(ours(inputs, wanted=wanted), theirs, atol=1e-4, rtol=0)
