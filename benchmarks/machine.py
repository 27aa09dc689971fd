"""What this machine computes fastest with, beside what a run chooses by itself.

    python -m benchmarks.machine [--busy 1] [--rounds 5] [--model gpt2-tiny] [--json FILE]

A contestant trains on the bundled data, then answers prompts, with a given number format, number
of threads and way of waiting (a thread that waits for another spins for long, as is OpenMP's
default, or for a short time, as the project sets it). Each has a process of its own, and they work
in turns. The last contestant measures and chooses, as `finetune` does. With `--busy N`, N further
processes compute without a pause, as a browser may.

First come the machine's own measures: the speed of matrix products in both number formats and the
memory bandwidth. They have no peer. The peer of each other row is the automatic choice: a ratio
above 1 means that the automatic choice is faster.
"""

import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.harness import bandwidth, in_turns, matrix_peak, parser, report, row, serve
from ch07.utils.openmp import SHORT_SPIN

BATCH_SIZE = 48  # of the default run
BATCHES = 4  # per turn
PROMPTS = 64
NEW_TOKENS = 12
AUTO = ("auto", "auto", "short")
OPENMP_SPIN = "300000"  # the default of GNU's OpenMP
BUSY_LOOP = "while True: pass"


def processor():
    """The processor's name, as Linux gives it."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    return next(line for line in text.splitlines() if "model name" in line).split(": ")[1]


def contestants():
    """(number format, threads, waiting) of every fixed choice worth trying, and the automatic."""
    import torch

    from ch07.utils.compute_choice import thread_counts
    from ch07.utils.device import has_bfloat16_units

    formats = ["float32"]
    if has_bfloat16_units(torch.device("cpu")):
        formats.append("bfloat16")
    fixed = [
        (dtype, threads, waiting)
        for dtype in formats
        for threads in thread_counts(torch.get_num_threads())
        for waiting in (("short", "long") if threads > 1 else ("short",))
    ]
    return [*fixed, AUTO]


def contest(dtype, threads, waiting, size):
    """One contestant in a process of its own; each turn trains, then answers."""
    # OpenMP reads it when PyTorch is loaded, below.
    os.environ["GOMP_SPINCOUNT"] = {"short": SHORT_SPIN, "long": OPENMP_SPIN}[waiting]
    import torch

    from ch07.config import FinetuneOptions
    from ch07.generation.decoding import generate
    from ch07.training.optimizers import choose_optimizer
    from ch07.training.run_plan import build_plan
    from ch07.utils.malloc_tuning import keep_freed_memory
    from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
    from train_loop import train_step

    keep_freed_memory()
    given = {"dtype": dtype, "threads": None if threads == "auto" else int(threads)}
    plan = build_plan(FinetuneOptions(batch_size=BATCH_SIZE, **given), lambda text: None)
    model = GPTModel(GPTConfig(**MODEL_SIZES[size]), torch.Generator().manual_seed(0)).train()
    optimizer = choose_optimizer("muon", model, 1e-3, 0.1, plan.settings.dtype)
    batches = iter(plan.train_loader)
    prompts = torch.randint(
        0, 50257, (PROMPTS, 20), generator=torch.Generator().manual_seed(0)
    ).tolist()

    def work():
        turn = [next(batches) for _ in range(BATCHES)]
        started = time.perf_counter()
        for batch in turn:
            train_step([batch], model, optimizer, "cpu", 1e-3, plan.settings)
        trained = time.perf_counter()
        generate(model, prompts, NEW_TOKENS, end_id=-1)
        answered = time.perf_counter()
        tokens = sum(int((inputs != 50256).sum()) for inputs, _ in turn)
        return {
            "speed": tokens / (trained - started),
            "answers": PROMPTS * NEW_TOKENS / (answered - trained),
        }

    chosen = f"{plan.settings.dtype}, {plan.compute.threads} threads"
    serve({"chosen": chosen}, work)


def measures():
    """The machine's own measures, as rows without a peer."""
    import torch

    from ch07.utils.device import has_bfloat16_units

    cpu = torch.device("cpu")
    rows = [row("matrix products, float32, GFLOP/s", matrix_peak("float32") / 1e9, None, None)]
    if has_bfloat16_units(cpu):
        peak = matrix_peak("bfloat16") / 1e9
        rows.append(row("matrix products, bfloat16, GFLOP/s", peak, None, None))
    return [*rows, row("memory bandwidth, GB/s", bandwidth() / 1e9, None, None)]


def compare(given):
    """All rows: the machine's measures, then each fixed choice beside the automatic one."""
    print(f"{processor()}, {os.cpu_count()} cores, {given.busy} busy neighbours", flush=True)
    rows = measures()
    busy = [subprocess.Popen([sys.executable, "-c", BUSY_LOOP]) for _ in range(given.busy)]
    try:
        options = ("--model", given.model)
        first, turns = in_turns("benchmarks.machine", contestants(), options, given.rounds)
    finally:
        for process in busy:
            process.kill()
    name = f"auto ({first[AUTO]['chosen']})"
    for what, key in (("training", "speed"), ("answering", "answers")):
        auto = [turn[key] for turn in turns[AUTO]]
        for contestant in turns:
            if contestant == AUTO:
                continue
            fixed = [turn[key] for turn in turns[contestant]]
            dtype, threads, waiting = contestant
            label = f"{what}: {dtype}, {threads} threads, {waiting} waiting"
            result = row(label, statistics.median(fixed), statistics.median(auto), name)
            pairs = zip(auto, fixed, strict=True)
            rows.append({**result, "ratio": statistics.median(a / b for a, b in pairs)})
    return rows


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--model", default="gpt2-tiny")
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--busy", type=int, default=0, help="processes that compute beside it")
    arguments.add_argument("--as", dest="who", nargs=3, help="used internally")
    given = arguments.parse_args()
    if given.who:
        return contest(*given.who, given.model)
    report(compare(given), given.json)


if __name__ == "__main__":
    main()
