"""Training and decoding on a GPU, from 124 million to 1.5 billion weights, compared with others.

    python -m benchmarks.gpu [--sizes gpt2-small gpt2-medium ...] [--json FILE]
    python -m benchmarks.gpu --dry-run    a tiny model on any device, to run every line once

Random weights, random rows of 1,024 tokens, all counted; AdamW, bfloat16 where the contestant
supports it (the book's code uses float32). Decoding: one prompt of 64 tokens, 256 new tokens,
greedy. "Floor" is the share of the limit that is reached. The limit of training is six operations
per weight and token (Kaplan et al. 2020, section 2.1) at the speed of a large bfloat16 matrix
product, known as model FLOPs utilization. The limit of decoding is reading every weight once per
token at the speed of a large copy.
"""

import json
import statistics
import time

import torch

from benchmarks import peers
from benchmarks.harness import in_a_process, parser, report, row
from ch07.config import FinetuneOptions
from ch07.generation.decoding import generate
from ch07.models.resource_estimate import count_parameters
from ch07.training.cross_entropy import summed_cross_entropy_in_place
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from train_loop import TrainSettings, make_optimizer, train_step

SIZES = ["gpt2-small", "gpt2-medium", "gpt2-large", "gpt2-xl"]
BATCH_SIZES = {"gpt2-small": 32, "gpt2-medium": 16, "gpt2-large": 12, "gpt2-xl": 8}
CONTESTANTS = ("ours", "ours, compiled", "transformers", "the book's code")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
LR = FinetuneOptions(model="gpt2-small").lr


def wait():
    """Wait until the GPU has finished all its work."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def timed(work, tries):
    """Median seconds of some tries, after two warm-up calls."""
    seconds = []
    for i in range(tries + 2):
        wait()
        started = time.perf_counter()
        work()
        wait()
        if i >= 2:
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def contestant(who, size):
    """The model of one of `CONTESTANTS` on the device, and whether it is ours."""
    start = GPTModel(GPTConfig(**MODEL_SIZES[size]), torch.Generator().manual_seed(0))
    if who == "transformers":
        return peers.hf_model(start).to(DEVICE), False
    if who == "the book's code":
        return peers.book_model(start).to(DEVICE), False
    model = start.to(DEVICE)
    return torch.compile(model) if who.endswith("compiled") else model, True


def train(who, size, rows, tokens, tries):
    """Tokens per second."""
    model, ours = contestant(who, size)
    model.train()
    ids, targets = (torch.randint(0, 50257, (int(rows), int(tokens))) for _ in range(2))
    if ours:
        optimizer = make_optimizer(model.parameters(), LR)
        settings = TrainSettings(dtype="bfloat16", cross_entropy=summed_cross_entropy_in_place)

        def step():
            train_step([(ids, targets)], model, optimizer, DEVICE, LR, settings)
    else:
        options = {"fused": True} if who == "transformers" else {}
        optimizer = torch.optim.AdamW(model.parameters(), lr=LR, **options)
        device_ids, device_targets = ids.to(DEVICE), targets.to(DEVICE)

        def step():
            wide = who != "transformers"
            with torch.autocast(DEVICE, torch.bfloat16, enabled=not wide):
                logits = model(device_ids)
                logits = logits if wide else logits.logits
                loss = torch.nn.functional.cross_entropy(
                    logits.flatten(0, 1), device_targets.flatten()
                )
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    return int(rows) * int(tokens) / timed(step, int(tries))


def decode(who, size, prompt, new, tries):
    """Tokens per second after one prompt."""
    model, ours = contestant(who, size)
    dtype = torch.float32 if who == "the book's code" else torch.bfloat16
    model.eval().to(dtype)
    ids, new = torch.randint(0, 50257, (1, int(prompt))), int(new)
    if ours:
        return new / timed(lambda: generate(model, ids.tolist(), new, end_id=-1), int(tries))
    if who == "transformers":
        model.generation_config.eos_token_id = None
        options = {"max_new_tokens": new, "do_sample": False, "pad_token_id": peers.END}
        given = ids.to(DEVICE)
        return new / timed(lambda: model.generate(input_ids=given, **options), int(tries))
    from llms_from_scratch.ch05 import generate as book_generate

    return new / timed(lambda: book_generate(model, ids.to(DEVICE), new, 1024), int(tries))


def peaks(size):
    """Operations per second of a bfloat16 matrix product, bytes per second of a copy."""
    a = torch.randn(int(size), int(size), device=DEVICE).bfloat16()
    numbers = torch.empty(2 * int(size) ** 2, device=DEVICE)
    return [2 * int(size) ** 3 / timed(lambda: a @ a, 20),
            2 * numbers.nbytes / timed(lambda: numbers.clone(), 20)]  # fmt: skip


ONCE = {"train": train, "decode": decode, "peaks": peaks}


def compare(sizes, rows_of, tokens, prompt, new, tries, matrix):
    """All rows of the table; a contestant that fails is reported and left out."""

    def once(*arguments):
        try:
            return in_a_process("benchmarks.gpu", "--once", *arguments)
        except RuntimeError as error:
            print(f"{arguments}: {str(error).strip().splitlines()[-1]}", flush=True)

    operations, copied = in_a_process("benchmarks.gpu", "--once", "peaks", matrix)
    found = [row("bfloat16 matrix product, operations/s", operations, None, ""),
             row("copy, bytes/s read and written", copied, None, "")]  # fmt: skip
    for size in sizes:
        config = GPTConfig(**MODEL_SIZES[size])
        weights = count_parameters(config)[1] + config.vocab_size * config.emb_dim
        limits = {"train": operations / (6 * weights), "decode": copied / (2 * weights)}
        for what, shape in (("train", (rows_of(size), tokens)), ("decode", (prompt, new))):
            speeds = {who: once(what, who, size, *shape, tries) for who in CONTESTANTS}
            best = max((speeds[who] for who in CONTESTANTS[:2] if speeds[who]), default=None)
            for who, speed in speeds.items():
                if speed and best:
                    name = f"{size}, {what}: {who}, tokens/s"
                    found.append(row(name, best, speed, who))
                    found[-1] |= {"ratio": best / speed, "floor_share": best / limits[what]}
    return found


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--sizes", nargs="+", default=SIZES, choices=SIZES)
    arguments.add_argument("--dry-run", action="store_true", help="a tiny model, on any device")
    arguments.add_argument("--once", nargs="+", help="used internally")
    given = arguments.parse_args()
    if given.once:
        what, *values = given.once
        return print(json.dumps(ONCE[what](*values)))
    if given.dry_run:
        found = compare(["gpt2-tiny"], lambda size: 2, 64, 8, 8, 1, 256)
    elif DEVICE == "cpu":
        raise SystemExit("no GPU here; --dry-run runs every line once on a tiny model")
    else:
        found = compare(given.sizes, BATCH_SIZES.get, 1024, 64, 256, 5, 8192)
    report(found, given.json)


if __name__ == "__main__":
    main()
