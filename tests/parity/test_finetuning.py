"""Twenty steps of fine-tuning: our loop, and Hugging Face's parts put together by their manual."""

import pytest
import torch
import transformers

from ch07.data.dataloader import make_loader
from ch07.data.entries import load_entries
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.models.parameter_names import from_published
from gpt_model import GPTConfig, GPTModel
from instruction_dataset import InstructionDataset
from train_loop import TrainSettings, make_optimizer, train_step

CONFIG = GPTConfig(emb_dim=48, n_heads=4, n_layers=2, context_length=128)
END, STEPS, LR = 50256, 20, 1e-3


@pytest.fixture(scope="module")
def tokenizer_of_theirs(tmp_path_factory):
    from ch07.models.hf_files import gpt2_tokenizer_files

    folder = tmp_path_factory.mktemp("tokenizer")
    for name, data in gpt2_tokenizer_files(128).items():
        (folder / name).write_bytes(data)
    return transformers.AutoTokenizer.from_pretrained(folder, padding_side="right")


def their_losses(theirs, rows, batches, tokenizer):
    """GPT2LMHeadModel, DataCollatorForSeq2Seq and torch.optim.AdamW; a list of losses."""
    collator = transformers.DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95))
    losses = []
    for batch in batches:
        features = [
            {"input_ids": [*ids, END], "labels": [-100] * n + ids[n:] + [END]}
            for n, ids in (rows[i] for i in batch)
        ]
        loss = theirs(**collator(features)).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("loss_on", ["response", "all"])
def test_equal_at_every_step(tokenizer, tokenizer_of_theirs, loss_on):
    entries = load_entries(DATA_FILE)[::97][:80]
    dataset = InstructionDataset(entries, tokenizer, with_prompt_length=loss_on == "response")
    loader = make_loader(dataset, 4, loss_on, seed=3)
    batches = list(loader.batch_sampler)[:STEPS]
    rows = [(0, ids) for ids in dataset] if loss_on == "all" else list(dataset)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_positions=128, n_embd=48, n_head=4, n_layer=2,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    ).train()  # fmt: skip
    ours = GPTModel(CONFIG)
    ours.load_state_dict(from_published(theirs.transformer.state_dict(), CONFIG))
    optimizer = make_optimizer(ours.train().parameters(), LR, weight_decay=0.1)
    mine = [
        train_step([batch], ours, optimizer, "cpu", LR, TrainSettings()).item()
        for batch in (loader.collate_fn([dataset[i] for i in chosen]) for chosen in batches)
    ]
    expected = their_losses(theirs, rows, batches, tokenizer_of_theirs)
    assert mine == pytest.approx(expected, abs=1e-4)
    assert mine[-1] < mine[0] - 0.5, "it learned, so the comparison went somewhere"


def projected(difference, direction):
    """The length of a difference along a direction, in units of the direction."""
    dot = sum((a.double() * b.double()).sum() for a, b in zip(difference, direction, strict=True))
    return (dot / sum((b.double() ** 2).sum() for b in direction)).item()


def is_centred(residuals, sigmas=4.0):
    """Whether the mean of independent residuals is within so many standard errors of zero."""
    mean = sum(residuals) / len(residuals)
    variance = sum((r - mean) ** 2 for r in residuals) / (len(residuals) - 1)
    return abs(mean) <= sigmas * (variance / len(residuals)) ** 0.5


def test_two_hundred_steps_differ_by_rounding_that_has_no_direction(tokenizer):
    """A rate that is slightly too high, or a loss that is rounded down, adds up over a run.

    Each step starts from their weights, so that the residuals of the steps are independent.
    """
    entries = load_entries(DATA_FILE)[::31][:120]
    dataset = InstructionDataset(entries, tokenizer, with_prompt_length=True)
    loader = make_loader(dataset, 2, "response", seed=3)
    theirs = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            n_positions=128, n_embd=48, n_head=4, n_layer=2,
            resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
        )
    ).train()  # fmt: skip
    ours = GPTModel(CONFIG).train()
    optimizer = make_optimizer(ours.parameters(), LR, weight_decay=0.1)
    groups = [
        {"params": [p for p in theirs.parameters() if p.ndim >= 2], "weight_decay": 0.1},
        {"params": [p for p in theirs.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    their_optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.95))
    losses = []
    updates = []
    epoch = 0
    while len(losses) < 200:
        loader.batch_sampler.set_epoch(epoch)
        epoch += 1
        for inputs, targets in loader:
            before = from_published(theirs.transformer.state_dict(), CONFIG)
            ours.load_state_dict(before)
            before = {name: tensor.clone() for name, tensor in before.items()}
            mine = train_step([(inputs, targets)], ours, optimizer, "cpu", LR, TrainSettings())
            logits = theirs(input_ids=inputs).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
            their_optimizer.step()
            their_optimizer.zero_grad()
            losses.append((mine.item() - loss.item()) / loss.item())
            after = from_published(theirs.transformer.state_dict(), CONFIG)
            names = [name for name in before if name in dict(ours.named_parameters())]
            state = ours.state_dict()
            differences = [state[name] - after[name] for name in names]
            steps = [after[name] - before[name] for name in names]
            updates.append(projected(differences, steps))
    for residuals in (losses[:200], updates[:200]):
        assert max(map(abs, residuals)) < 1e-4
        assert is_centred(residuals)
