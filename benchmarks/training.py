"""Training speed and memory, compared with the book's code and transformers.

    python -m benchmarks.training [--data FILE] [--model gpt2-small] [--rounds 5] [--json FILE]

All contestants have the same random weights; AdamW, batches of 8, every target counted. Each
contestant has a process of its own, and they work in turns. Speed is in real tokens per second,
without padding. All must first compute the same loss.

The limit of the speed is six operations per weight and real token (Kaplan et al. 2020, section
2.1), at the speed of a large matrix product measured before every turn. The floor of the memory is
16 bytes per weight: the weight, its gradient, AdamW's two moments.
"""

import time
from functools import partial

import torch

from benchmarks import harness, peers
from benchmarks.harness import contest_main, row, speeds
from ch07.data.dataloader import make_loader
from ch07.data.entries import load_entries
from ch07.data.splits import positional_split
from ch07.data.tokenizer import load_tokenizer
from ch07.models.resource_estimate import count_parameters
from ch07.training.cross_entropy import summed_cross_entropy_in_place
from ch07.training.repeated_shapes import limit_kernels, should_round
from ch07.training.shared_beginning import sum_loss_with_shared_beginning
from ch07.utils.malloc_tuning import keep_freed_memory
from collate import custom_collate_fn
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from instruction_dataset import InstructionDataset
from train_loop import TrainSettings, make_optimizer, train_step

BATCH_SIZE = 8  # batch size, learning rate and weight decay are the book's
LR = 5e-5
DECAY = 0.1
BATCHES = 8  # per turn


def rows_of(data):
    """The book's training rows of a data file, as an `InstructionDataset`."""
    return InstructionDataset(positional_split(load_entries(data))["train"], load_tokenizer())


class Ours:
    """This project's loop, as `finetune` runs it with `--loss-on all`."""

    def __init__(self, model, dataset, dtype):
        keep_freed_memory()
        self.model = model.train()
        self.settings = TrainSettings(
            dtype=dtype,
            cross_entropy=summed_cross_entropy_in_place,
            batch_loss=partial(
                sum_loss_with_shared_beginning,
                round_sizes=should_round(torch.device("cpu"), dtype, model.config.emb_dim),
            ),
        )
        self.optimizer = make_optimizer(model.parameters(), LR, DECAY)
        self.loader = make_loader(dataset, BATCH_SIZE, "all", seed=123)

    def loss(self, rows):
        with torch.no_grad():
            batch, loss = custom_collate_fn(rows), self.settings.cross_entropy
            total, n = self.settings.batch_loss(*batch, self.model, "cpu", cross_entropy=loss)
        return (total / n).item()

    def step(self, batch):
        train_step([batch], self.model, self.optimizer, "cpu", LR, self.settings)
        return int((batch[1] != -100).sum())


class Book:
    """The loop of the book's chapter 7 (`train_model_simple` of `llms_from_scratch.ch05`)."""

    def __init__(self, model, dataset, dtype):
        self.model = peers.book_model(model).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LR, weight_decay=DECAY)
        generator = torch.Generator().manual_seed(123)
        self.loader = peers.book_loader(list(dataset), BATCH_SIZE, generator)

    def _loss(self, inputs, targets):
        from llms_from_scratch.ch05 import calc_loss_batch

        return calc_loss_batch(inputs, targets, self.model, torch.device("cpu"))

    def loss(self, rows):
        with torch.no_grad():
            return self._loss(*custom_collate_fn(rows)).item()

    def step(self, batch):
        self.optimizer.zero_grad()
        self._loss(*batch).backward()
        self.optimizer.step()
        return int((batch[1] != -100).sum())


class Transformers:
    """`GPT2LMHeadModel` and `DataCollatorForSeq2Seq`, in a plain loop with fused AdamW."""

    def __init__(self, model, dataset, dtype):
        self.model, self.dtype = peers.hf_model(model).train(), dtype
        options = {"lr": LR, "weight_decay": DECAY, "fused": True}
        self.optimizer = torch.optim.AdamW(self.model.parameters(), **options)
        generator = torch.Generator().manual_seed(123)
        self.loader = peers.hf_loader(list(dataset), BATCH_SIZE, generator)

    def loss(self, rows):
        batch = next(iter(peers.hf_loader(rows, len(rows), torch.Generator())))
        with torch.no_grad():
            return peers.hf_loss(self.model, batch).item()

    def step(self, batch):
        self.optimizer.zero_grad()
        peers.hf_loss(self.model, batch, self.dtype).backward()
        self.optimizer.step()
        return int((batch["labels"] != -100).sum()) - len(batch["labels"])  # first has no target


CONTESTANTS = {"ours": Ours, "book": Book, "transformers": Transformers}


def contest(who, dtype, size, data):
    """One contestant in a process of its own: prints its loss, then one line per turn."""
    if who == "ours":
        limit_kernels(MODEL_SIZES[size]["emb_dim"])
    dataset, empty = rows_of(data), harness.memory("VmRSS")
    start = GPTModel(GPTConfig(**MODEL_SIZES[size]), torch.Generator().manual_seed(0))
    contestant = CONTESTANTS[who](start, dataset, dtype)
    del start
    batches = _endless(contestant.loader)

    def work():
        turn, peak = [next(batches) for _ in range(BATCHES)], harness.matrix_peak(dtype)
        started = time.perf_counter()
        tokens = sum(contestant.step(batch) for batch in turn)
        seconds = time.perf_counter() - started
        return {"speed": tokens / seconds, "peak": peak, "memory": harness.memory() - empty}

    loss = contestant.loss([dataset[i] for i in range(BATCH_SIZE)])
    harness.serve({"loss": loss}, work)


def _endless(loader):
    while True:
        yield from loader


def run_contest(contestants, rounds, size, data):
    """Measure each (who, dtype): lists of speeds and their limits, and peak memory.

    AssertionError unless all compute the same loss.
    """
    config = GPTConfig(**MODEL_SIZES[size])
    options = ("--model", size, "--data", data)
    first, turns = harness.in_turns("benchmarks.training", contestants, options, rounds)
    losses = [first_line["loss"] for first_line in first.values()]
    assert max(losses) - min(losses) < 1e-4, first
    return {
        c: {
            "speeds": [t["speed"] for t in done],
            "limits": [t["peak"] / (6 * _weights_at_work(config)) for t in done],
            "memory": max(t["memory"] for t in done),
        }
        for c, done in turns.items()
    }


def _weights_at_work(config):
    """Weights used in matrix products; the tied embedding counts once, as the output head."""
    return count_parameters(config)[1] + config.vocab_size * config.emb_dim


def compare(given):
    """All rows of the table."""
    peers.require_peers()
    fast = harness.faster_dtype()
    ours, book, hf = ("ours", fast), ("book", "float32"), ("transformers", "float32")
    tuned = ("transformers", fast)
    entrants = list(dict.fromkeys((ours, book, hf, tuned)))
    first = run_contest(entrants, given.rounds, given.model, given.data)
    wide = ("ours", "float32")
    second = run_contest([wide, book], given.rounds, given.model, given.data)

    def against(results, ours, peer, name, what):
        own = results[ours]
        return speeds(what, own["speeds"], results[peer]["speeds"], name, own["limits"])

    speed, names = "training, tokens/s", {hf: "transformers", tuned: f"transformers, {fast}"}
    floor = 16 * count_parameters(GPTConfig(**MODEL_SIZES[given.model]))[0]
    peak, peaks = "training, peak bytes", {c: first[c]["memory"] for c in entrants}
    return [
        against(first, ours, book, "the book's code", f"{speed} ({fast})"),
        *(against(first, ours, c, names[c], f"{speed} ({fast})") for c in entrants[2:]),
        against(second, wide, book, "the book's code", f"{speed} (float32)"),
        row(f"{peak} ({fast})", peaks[ours], peaks[book], "the book's code", floor),
        row(f"{peak} ({fast})", peaks[ours], peaks[hf], "transformers", floor),
        row(f"{peak} (float32)", second[wide]["memory"], peaks[book], "the book's code", floor),
    ]


if __name__ == "__main__":
    contest_main(__doc__, 2, contest, compare)
