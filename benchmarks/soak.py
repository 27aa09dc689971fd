"""Does an hour of training and answering leak memory or file handles?

    python -m benchmarks.soak [--minutes 60] [--calls 10000] [--json FILE]

One process trains the default run in rounds, each with an evaluation, a checkpoint, a resume and 64
answers; then it calls `respond` with one question at a time. Memory and open files are sampled
every minute; the first tenth of the time is a warm-up. "Ours" is the level at the end, "peer" the
level after the warm-up; without a leak the ratio is 1.
"""

import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.harness import memory, parser, report, row
from ch07.config import FinetuneOptions
from ch07.data.tokenizer import load_tokenizer
from ch07.generation.respond import respond
from ch07.runs.checkpoint import load_checkpoint, save_checkpoint
from ch07.training.job import build_job
from ch07.utils.malloc_tuning import release_freed_memory
from train_loop import TrainState, train_model

STEPS_PER_ROUND = 60


def resources_in_use():
    """(bytes of memory, open file handles) of this process; Linux only."""
    return memory("VmRSS"), len(os.listdir("/proc/self/fd"))


def rounds(minutes, folder):
    """Train and answer for `minutes`; samples (second, bytes, handles) about once a minute."""
    job = build_job(FinetuneOptions(eval_freq=30), lambda text: None)
    settings = replace(job.plan.settings, num_epochs=10**6, max_steps=None)
    state, samples, started = TrainState(), [], time.monotonic()
    while time.monotonic() - started < 60 * minutes:
        until = state.step + STEPS_PER_ROUND
        train_model(
            job.model,
            job.plan.train_loader,
            job.plan.val_loader,
            job.optimizer,
            job.plan.device,
            settings,
            state,
            on_step=lambda state, until=until: state.step >= until,
            progress=False,
        )
        del state.history[:-1]  # the history grows with the run by design
        save_checkpoint(folder, job.model, job.optimizer, state)
        state, _ = load_checkpoint(folder, job.model, job.optimizer)
        release_freed_memory()  # as a run does before it answers
        respond(job.model, load_tokenizer(), job.plan.rows.entries("test")[:64], job.plan.style, 64)
        seconds = time.monotonic() - started
        if not samples or seconds - samples[-1][0] >= 60:
            samples.append((seconds, *resources_in_use()))
            print(f"{seconds / 60:.0f} min, step {state.step}: {samples[-1][1:]}", file=sys.stderr)
    return job, samples


def calls(job, n):
    """Call `respond` n times; samples (call, bytes, handles) at every hundredth of them."""
    samples = []
    entries = job.plan.rows.entries("test")
    for i in range(n):
        respond(job.model, load_tokenizer(), [entries[i % len(entries)]], job.plan.style, 16)
        if i % (n // 100) == 0:
            samples.append((i, *resources_in_use()))
    return samples


def grown(what, samples):
    """Rows for memory and handles: the last tenth of samples compared with the second tenth."""
    part = max(1, len(samples) // 10)
    early, late = samples[part : 2 * part] or samples, samples[-part:]
    for column, name in ((1, "bytes"), (2, "file handles")):
        before, after = (statistics.median(s[column] for s in group) for group in (early, late))
        yield row(f"{what}: {name}", after, before, "after warm-up", floor=before)


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=60)
    arguments.add_argument("--calls", type=int, default=10_000)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job, samples = rounds(given.minutes, Path(folder) / "checkpoint")
    rows = list(grown(f"{given.minutes:g} min of training and answers", samples))
    rows += grown(f"{given.calls:,} calls of respond", calls(job, given.calls))
    report(rows, given.json)


if __name__ == "__main__":
    main()
