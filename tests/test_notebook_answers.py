"""The numbers in the notebooks' folded answers are those that the code gives."""

import math
import re
from pathlib import Path

import nbformat
import pytest
import torch

from ch07 import load_entries, load_tokenizer
from ch07.data import dataloader
from ch07.data.chat_dataset import token_roles
from ch07.data.dataloader import LengthGroupedBatches, padding_share
from ch07.data.prompt_styles import BOOK_STYLE, STYLES, PromptStyle
from ch07.data.splits import overlap, split_entries
from ch07.data.token_boundaries import boundary_merges
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.evaluation.metrics import wilson_interval
from ch07.exercises.museum.collection import EXHIBITS
from ch07.models.gguf_numbers import BLOCK_SIZE, SCALE_BYTES
from ch07.models.llama import LlamaConfig, LlamaModel, rotation_angles
from ch07.models.lora import add_lora
from ch07.systems.synthetic_data.novelty_filter import NoveltyPool
from ch07.visualization.token_grid import batch_grid
from collate import custom_collate_draft_2, custom_collate_fn
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from instruction_dataset import InstructionDataset
from train_loop import TrainSettings, learning_rate

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"


def answer(notebook, number):
    """The text of one folded answer."""
    path = next(NOTEBOOKS.glob(f"{notebook:02}_*.ipynb"))
    cell = nbformat.read(path, as_version=4).cells[-1]
    answers = cell.source.split("</summary>")[1]
    return re.search(rf"^{number}\. (.*)$", answers, flags=re.M)[1]


@pytest.fixture(scope="module")
def entries():
    return load_entries(DATA_FILE)


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer()


# --- 1: data ------------------------------------------------------------------------------------


def test_the_cheapest_style_without_an_input(tokenizer):
    entry = {"instruction": "Name a colour.", "input": "", "output": "Red"}
    n = {name: len(token_roles(entry, tokenizer, style)) for name, style in STYLES.items()}
    assert n == {
        "book": 35,
        "alpaca": 34,
        "chinese-alpaca": 35,
        "question-answer": 15,
        "phi3": 19,
        "chatml": 31,
        "llama-3": 53,
    }
    said = "15 tokens, `phi3` 19, `chatml` 31, `alpaca` 34, `book` and `chinese-alpaca` 35, `ll"
    assert said in answer(1, 1)


def test_an_input_of_white_space_is_none():
    prompt = BOOK_STYLE.prompt({"instruction": "Name a colour.", "input": "  "})
    assert re.findall(r"### \w+:", prompt) == ["### Instruction:", "### Response:"]


def test_a_paraphrase_is_no_overlap():
    rows = [
        {"instruction": text, "input": "cat", "output": "cats"}
        for text in ("Give the plural.", "What is the plural?")
    ]
    splits = {"train": rows[:1], "test": rows[1:], "validation": []}
    assert overlap(splits)["test"] == 0


# --- 2: batches ---------------------------------------------------------------------------------


def test_drafts_agree_on_rows_of_equal_length():
    batch = [[1, 2, 3], [4, 5, 6]]
    pairs = zip(custom_collate_draft_2(batch), custom_collate_fn(batch), strict=True)
    assert all(torch.equal(draft, final) for draft, final in pairs)


def test_which_row_keeps_its_end_when_cut_at_two():
    targets = custom_collate_fn([[0, 1, 2, 3, 4], [5, 6], [7, 8, 9]], allowed_max_length=2)[1]
    assert (targets == 50256).any(dim=1).tolist() == [False, True, False]


# --- 3: loaders ---------------------------------------------------------------------------------


def test_padding_by_chunk_and_of_one_long_row(entries, tokenizer, monkeypatch):
    lengths = list(InstructionDataset(entries[:2000], tokenizer).lengths)
    shares = {}
    for chunk in (1, 50, 10_000):
        monkeypatch.setattr(dataloader, "BATCHES_PER_CHUNK", chunk)
        shares[chunk] = (
            f"{100 * padding_share(LengthGroupedBatches(lengths, 8, seed=1), lengths):.1f} %"
        )
    assert list(shares.values()) == ["15.9 %", "0.5 %", "0.1 %"]
    assert all(share in answer(3, 1) for share in shares.values())

    monkeypatch.setattr(dataloader, "BATCHES_PER_CHUNK", 50)
    lengths.append(1000)
    shuffled = torch.randperm(2001, generator=torch.Generator().manual_seed(1)).tolist()
    at_random = [shuffled[i : i + 8] for i in range(0, 2001, 8)]
    for batches in (at_random, LengthGroupedBatches(lengths, 8, seed=1)):
        batch = next(batch for batch in batches if 2000 in batch)
        padding = 1000 * len(batch) - sum(lengths[i] for i in batch)
        assert f"{padding:,}" in answer(3, 2)


# --- 4: the model -------------------------------------------------------------------------------


def test_parameters_and_multiplications():
    model = GPTModel(GPTConfig(**MODEL_SIZES["gpt2-tiny"]))
    parts = {
        "tokens": model.tok_emb.weight.numel(),
        "positions": model.pos_emb.weight.numel(),
        "block": sum(p.numel() for p in model.trf_blocks[0].parameters()),
        "norm": sum(p.numel() for p in model.final_norm.parameters()),
    }
    assert all(f"{n:,}" in answer(4, 1) for n in parts.values())
    dearer = [
        name
        for name, size in MODEL_SIZES.items()
        if 12 * size["n_layers"] * size["emb_dim"] < 50257
    ]
    assert dearer == ["gpt2-tiny"]
    small = MODEL_SIZES["gpt2-small"]
    assert f"{12 * small['n_layers'] * small['emb_dim']:,}" in answer(4, 3)


# --- 5: training --------------------------------------------------------------------------------


def test_targets_by_role(entries, tokenizer):
    rows = [e for e in entries if e["family"] in ("antonym", "number in words")]
    counted = batch_grid(split_entries(rows)["train"], tokenizer, loss_on="all").counted_by_role()
    total = sum(counted.values())
    assert (
        f"{counted['answer']} of {total:,}, or {100 * counted['answer'] / total:.0f} %"
        in answer(5, 1)
    )
    assert f"{100 * counted['template'] / total:.0f} % are template" in answer(5, 1)


def test_the_learning_rates():
    settings = TrainSettings(peak_lr=2.5e-3, warmup_steps=10)
    rates = [learning_rate(step, 104, settings) for step in (0, 9, 57, 103)]
    assert rates[:3] == pytest.approx([0.00025, 0.0025, 0.00125]) and rates[3] < 1e-6
    assert answer(5, 2).startswith("0.00025, 0.0025, 0.00125 and almost 0.")


# --- 6: scores ----------------------------------------------------------------------------------


def test_tokens_computed_with_and_without_the_cache():
    without = [sum(40 + i for i in range(n)) for n in (4, 24, 96)]
    cached = [40 + n - 1 for n in (4, 24, 96)]
    assert "{}, {:,} and {:,} tokens".format(*without) in answer(6, 2)
    assert "{}, {} and {}".format(*cached) in answer(6, 2)
    assert f"from {without[0] / cached[0]:.0f} to {without[2] / cached[2]:.0f} times" in answer(
        6, 2
    )


def test_rows_that_tell_95_from_97_percent():
    def apart(n):
        return wilson_interval(round(0.95 * n), n)[1] < wilson_interval(round(0.97 * n), n)[0]

    assert next(n for n in range(100, 5000, 100) if apart(n)) == 1500
    assert "1,500" in answer(6, 3)


# --- 7 to 9 -------------------------------------------------------------------------------------


def test_the_exhibits_that_are_named():
    named = re.findall(r"`([\w-]+)`", answer(7, 2))
    assert len(named) == 3 and set(named) <= {exhibit.diagnosis for exhibit in EXHIBITS}


def test_a_prompt_that_ends_in_a_space_merges_everywhere(entries, tokenizer):
    space = PromptStyle("space", "{instruction} {input} = ", "{instruction} = ")
    assert len(boundary_merges(entries[:1000], tokenizer, space)) == 1000
    assert "all 1,000 merge" in answer(8, 1)


def test_the_nearest_instruction(entries):
    pool = NoveltyPool([entry["instruction"] for entry in entries])
    number, score = pool.nearest("Name the capital of Norway.")
    assert f'"{pool.texts[number]}", with a ROUGE-L of {score:.2f}' in answer(8, 3)


def test_the_parameters_of_lora():
    with torch.device("meta"):
        model = add_lora(GPTModel(GPTConfig(**MODEL_SIZES["gpt2-small"])), rank=4, alpha=8)
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert answer(9, 1).startswith(f"{trained:,}.")


# --- 10: a modern model -------------------------------------------------------------------------


def test_the_slowest_pair():
    config = LlamaConfig()
    one, longest = rotation_angles(
        torch.tensor([1, config.context_length]), config.head_size, config.rope_theta
    )[:, -1].tolist()
    assert f"2π / {one:.8f} = {2 * math.pi / one:,.0f} tokens" in answer(10, 1)
    assert f"it turns by {longest:.2f} radians" in answer(10, 1)


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def test_smollm2_with_the_parts_of_gpt2():
    new = LlamaConfig()
    shared = ("vocab_size", "context_length", "emb_dim", "n_heads", "n_layers")
    with torch.device("meta"):
        llama = LlamaModel(new)
        gpt2 = GPTModel({name: getattr(new, name) for name in shared})
    more = {"all": count(gpt2) - count(llama), "positions": count(gpt2.pos_emb)}
    for part in ("att", "ff"):
        theirs, ours = (getattr(model.trf_blocks[0], part) for model in (gpt2, llama))
        more[part] = new.n_layers * (count(theirs) - count(ours))
    more["norms"] = (2 * new.n_layers + 1) * new.emb_dim
    assert more["all"] == sum(more.values()) / 2
    said = answer(10, 2)
    assert said.startswith(f"{more['all']:,} more: {count(gpt2):,} instead of {count(llama):,}.")
    assert all(f"{n:,}" in said for n in more.values())


def test_bits_of_a_weight_without_a_minimum():
    n_bytes = SCALE_BYTES + BLOCK_SIZE // 2
    assert answer(10, 3).startswith(
        f"{8 * n_bytes / BLOCK_SIZE} bits: {n_bytes} bytes for {BLOCK_SIZE} weights."
    )
