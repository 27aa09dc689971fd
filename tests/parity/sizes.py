"""GPTModel beside GPT2LMHeadModel at a published size, both with the same random weights.

    PYTHONPATH=. python tests/parity/sizes.py gpt2-small gpt2-medium [--layers N]

prints the largest differences. All blocks of gpt2-xl need 26 GB with gradients; --no-gradients
halves that. The suite runs the same with few blocks, and for all but the smallest with fewer
words: memory that is touched for the first time is what these comparisons wait for.
"""

import argparse

import torch
import transformers

from ch07.generation.decoding import generate
from ch07.models.parameter_names import from_published, to_published
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from train_loop import calc_loss_batch

END = 256  # any id that every vocabulary here has


def make_pair(name, **changes):
    """(ours, theirs) of a size, with random weights large enough that each of them matters."""
    config = GPTConfig(**{**MODEL_SIZES[name], **changes})
    with torch.device("meta"):
        ours = GPTModel(config)
        theirs = transformers.GPT2LMHeadModel(
            transformers.GPT2Config(
                vocab_size=config.vocab_size,
                n_embd=config.emb_dim, n_head=config.n_heads, n_layer=config.n_layers,
                resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
            )
        )  # fmt: skip
    stream = torch.Generator().manual_seed(0)
    published = {}
    for key, meta in theirs.transformer.named_parameters():
        scale = 1.0 if meta.ndim == 1 else (2.0 if key.startswith("w") else 1.5)
        published[key] = torch.empty(meta.shape).normal_(0, 0.02 * scale, generator=stream)
        if meta.ndim == 1 and key.endswith("weight"):
            published[key] += 1
    theirs.transformer.load_state_dict(published, assign=True)
    theirs.lm_head.weight = theirs.transformer.wte.weight
    ours.load_state_dict(from_published(published, config), assign=True)
    ours.out_head.weight = ours.tok_emb.weight
    for model in (ours, theirs):
        model.requires_grad_(True).eval()
    return ours, theirs


def differences(ours, theirs, gradients=True):
    """The largest absolute differences by name; "greedy" is how many of 50 new tokens agree."""
    found = {}
    rows = [[(17 * i * i + 31 * j) % 1000 for j in range(n)] for i, n in enumerate((24, 9, 17))]
    ids = torch.tensor([row + [END] * (24 - len(row)) for row in rows])
    labels = ids.clone()
    for i, row in enumerate(rows):
        labels[i, len(row) + 1 :] = -100  # one end-of-text is learned
    mask = (labels != -100).long()
    with torch.inference_mode():
        mine, other = ours(ids), theirs(ids, attention_mask=mask).logits
        found["logits"] = (mine - other)[mask.bool()].abs().max().item()
        cache = ours.new_cache(24)
        parts = [ours(ids[:, a:b], cache=cache) for a, b in ((0, 7), (7, 8), (8, 24))]
        found["cached logits"] = (torch.cat(parts, 1) - mine)[mask.bool()].abs().max().item()
        found["padded logits"] = _padded(ours, theirs, rows)
    if gradients:
        loss = calc_loss_batch(ids[:, :-1], labels[:, 1:], ours, "cpu")
        peer_loss = theirs(ids, attention_mask=mask, labels=labels).loss
        found["loss"] = (loss - peer_loss).abs().item()
        loss.backward(), peer_loss.backward()
        grads = to_published({n: p.grad for n, p in ours.named_parameters()}, ours.config)
        apart = [
            (grad - theirs.transformer.get_parameter(name).grad).abs().max()
            for name, grad in grads.items()
        ]
        found["gradients"] = torch.stack(apart).max().item()
    found["greedy"] = min(_agreeing(ours, theirs, rows, cached) for cached in (True, False))
    return found


def _padded(ours, theirs, rows):
    """Last logits of rows that are padded on the left, as in generation."""
    padding = torch.tensor([24 - len(row) for row in rows])
    ids = torch.tensor([[END] * (24 - len(row)) + row for row in rows])
    mask = (torch.arange(24) >= padding[:, None]).long()
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    mine = ours(ids, left_padding=padding)[:, -1]
    return (
        (mine - theirs(ids, attention_mask=mask, position_ids=positions).logits[:, -1])
        .abs()
        .max()
        .item()
    )


def _agreeing(ours, theirs, rows, cached, n=50):
    """How many of n new tokens of every row agree, at least; one row is ours alone, uncached."""
    rows = rows if cached else rows[:1]
    expected = []
    for row in rows:
        prompt = torch.tensor([row])
        new = theirs.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=n, do_sample=False,
            pad_token_id=END, eos_token_id=None,
        )  # fmt: skip
        expected.append(new[0, len(row) :].tolist())
    got = generate(ours, rows, n, end_id=-1, use_cache=cached)
    pairs = zip(got, expected, strict=True)
    return min(sum(a == b for a, b in zip(*pair, strict=True)) for pair in pairs)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="+", choices=list(MODEL_SIZES))
    parser.add_argument("--layers", type=int)
    parser.add_argument("--no-gradients", action="store_true")
    arguments = parser.parse_args()
    for name in arguments.names:
        pair = make_pair(name, **({"n_layers": arguments.layers} if arguments.layers else {}))
        shown = differences(*pair, not arguments.no_gradients)
        print(name, {key: float(f"{value:.2g}") for key, value in shown.items()}, flush=True)
