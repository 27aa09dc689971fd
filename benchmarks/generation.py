"""Tokens per second when answering, compared with the book's code and transformers.

    python -m benchmarks.generation [--data FILE] [--model gpt2-small] [--rounds 5] [--json FILE]

All contestants have the same random weights and generate 64 tokens greedily after each of 110
held-out prompts, ignoring end-of-text tokens. The book's code answers one prompt at a time, in
float32, without a KV cache. transformers uses the number format and batch size that suit it best
(tried first). All must generate the same first tokens.

The limit for many prompts is two operations per weight and token, at the speed of a large matrix
product measured after the contest; for one prompt it is reading every weight once per token, at
memory bandwidth.
"""

import time

import torch

from benchmarks import harness, peers
from benchmarks.harness import contest_main, speeds
from ch07.data.entries import load_entries
from ch07.data.splits import positional_split
from ch07.data.tokenizer import load_tokenizer
from ch07.generation.decoding import generate
from ch07.models.resource_estimate import count_parameters
from ch07.utils.malloc_tuning import keep_freed_memory
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from instruction_dataset import encode_prompt

N_NEW_TOKENS = 64  # per prompt
N_PROMPTS = 110
N_CHECKED_TOKENS = 16  # must be the same for all contestants


def prompts_of(data):
    """The first `N_PROMPTS` held-out prompts of a data file, as token ids."""
    entries = positional_split(load_entries(data))["test"][:N_PROMPTS]
    return [encode_prompt(entry, load_tokenizer()) for entry in entries]


class Ours:
    def __init__(self, model, dtype, at_once):
        keep_freed_memory()
        self.model = model.to(getattr(torch, dtype))

    def answer(self, prompts, n_new):
        return generate(self.model, prompts, n_new, end_id=-1)


class Book:
    def __init__(self, model, dtype, at_once):
        self.model = peers.book_model(model).eval()

    def answer(self, prompts, n_new):
        from llms_from_scratch.ch05 import generate as book_generate

        answers = []
        for prompt in prompts:
            ids = book_generate(self.model, torch.tensor([prompt]), n_new, 1024)
            answers.append(ids[0, len(prompt) :].tolist())
        return answers


class Transformers:
    def __init__(self, model, dtype, at_once):
        self.model = peers.hf_model(model).eval().to(getattr(torch, dtype))
        self.model.generation_config.eos_token_id = None  # never stop
        self.at_once = int(at_once)

    @torch.inference_mode()
    def answer(self, prompts, n_new):
        answers = []
        for i in range(0, len(prompts), self.at_once):
            some = prompts[i : i + self.at_once]
            longest = max(map(len, some))
            ids = torch.tensor([[peers.END] * (longest - len(p)) + p for p in some])
            mask = torch.tensor([[0] * (longest - len(p)) + [1] * len(p) for p in some])
            options = {"max_new_tokens": n_new, "do_sample": False, "pad_token_id": peers.END}
            new = self.model.generate(input_ids=ids, attention_mask=mask, **options)
            answers += new[:, longest:].tolist()
        return answers


CONTESTANTS = {"ours": Ours, "book": Book, "transformers": Transformers}


def contest(who, dtype, at_once, n_prompts, size, data):
    """One contestant in a process of its own: prints some tokens, then one line per turn."""
    prompts = prompts_of(data)[: int(n_prompts)]
    start = GPTModel(GPTConfig(**MODEL_SIZES[size]), torch.Generator().manual_seed(0))
    contestant = CONTESTANTS[who](start, dtype, at_once)
    del start

    def work():
        started = time.perf_counter()
        answers = contestant.answer(prompts, N_NEW_TOKENS)
        assert all(len(answer) == N_NEW_TOKENS for answer in answers)
        return {"speed": N_NEW_TOKENS * len(prompts) / (time.perf_counter() - started)}

    harness.serve({"tokens": contestant.answer(prompts[:1], N_CHECKED_TOKENS)}, work)


def run_contest(contestants, rounds, size, data):
    """Measure each (who, dtype, batch size, number of prompts): a list of speeds for each.

    AssertionError unless all generate the same tokens.
    """
    options = ("--model", size, "--data", data)
    first, turns = harness.in_turns("benchmarks.generation", contestants, options, rounds)
    assert len({str(first_line["tokens"]) for first_line in first.values()}) == 1, first
    return {c: [turn["speed"] for turn in done] for c, done in turns.items()}


def limits(data, size, dtype, rounds):
    """Tokens per second at the machine's peak: for many prompts, for one prompt."""
    config = GPTConfig(**MODEL_SIZES[size])
    blocks, head = count_parameters(config)[1], config.vocab_size * config.emb_dim
    prompts = prompts_of(data)
    new = N_NEW_TOKENS * len(prompts)
    operations = 2 * (blocks * (sum(map(len, prompts)) + new) + head * new)
    n_bytes = (blocks + head) * torch.finfo(getattr(torch, dtype)).bits // 8
    many = [new / (operations / harness.matrix_peak(dtype)) for _ in range(rounds)]
    return many, [harness.bandwidth() / n_bytes for _ in range(rounds)]


def compare(given):
    """All rows of the table."""
    fast = harness.faster_dtype()
    size, data, rounds = given.model, given.data, given.rounds
    tried = [
        ("transformers", d, n, N_PROMPTS)
        for d in sorted({fast, "float32"})
        for n in (55, N_PROMPTS)
    ]
    speeds_of = run_contest(tried, 1, size, data)
    best = max(tried, key=lambda c: speeds_of[c][0])
    ours, book = ("ours", fast, N_PROMPTS, N_PROMPTS), ("book", "float32", 1, 1)
    turns = run_contest([ours, best, book], rounds, size, data)
    one = ("ours", fast, 1, 1)
    theirs = [("transformers", d, 1, 1) for d in sorted({fast, "float32"})]
    alone = run_contest([one, *theirs], rounds, size, data)
    many_limit, one_limit = limits(data, size, fast, rounds)
    what, name = f"{N_PROMPTS} prompts, tokens/s ({fast})", "transformers, {} {} at once"
    rows = [
        speeds(what, turns[ours], turns[book], "the book's generate", many_limit),
        speeds(what, turns[ours], turns[best], name.format(*best[1:3]), many_limit),
    ]
    what = f"one prompt, tokens/s ({fast})"
    rows += [speeds(what, alone[one], alone[t], f"transformers, {t[1]}", one_limit) for t in theirs]
    return rows


if __name__ == "__main__":
    contest_main(__doc__, 4, contest, compare)
