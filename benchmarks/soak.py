"""Does an hour of training and answering leak memory or file handles?

    python -m benchmarks.soak [--minutes 60] [--calls 10000] [--json FILE]

One process trains the default run round after round, with an evaluation, a checkpoint, a resume
and 64 answers in each; then asks `respond` one question at a time. What it holds is read each
minute; the first tenth of the time warms up. "Ours" is what was held at the end, "peer" what was
held after the warm-up; the floor of the ratio is 1.
"""

import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.measured import memory, parser, report, row
from ch07.config import FinetuneOptions
from ch07.data.tokenizer import load_tokenizer
from ch07.generation.respond import respond
from ch07.runs.checkpoint import load_checkpoint, save_checkpoint
from ch07.training.job import build_job
from ch07.utils.malloc_tuning import release_freed_memory
from train_loop import TrainState, train_model

STEPS = 60  # of a round


def held():
    """(bytes, open file handles) of this process; Linux only."""
    return memory("VmRSS"), len(os.listdir("/proc/self/fd"))


def rounds(minutes, folder):
    """Train and answer for so many minutes; (second, bytes, handles) about once a minute."""
    job = build_job(FinetuneOptions(eval_freq=30), lambda text: None)
    settings = replace(job.plan.settings, num_epochs=10**6, max_steps=None)
    state, seen, started = TrainState(), [], time.monotonic()
    while time.monotonic() - started < 60 * minutes:
        until = state.step + STEPS
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
        del state.history[:-1]  # it grows with the run, as it must
        save_checkpoint(folder, job.model, job.optimizer, state)
        state, _ = load_checkpoint(folder, job.model, job.optimizer)
        release_freed_memory()  # as a run does before it answers
        respond(job.model, load_tokenizer(), job.plan.rows.entries("test")[:64], job.plan.style, 64)
        seconds = time.monotonic() - started
        if not seen or seconds - seen[-1][0] >= 60:
            seen.append((seconds, *held()))
            print(f"{seconds / 60:.0f} min, step {state.step}: {seen[-1][1:]}", file=sys.stderr)
    return job, seen


def calls(job, n):
    """Ask `respond` n times in this process; (call, bytes, handles) at each hundredth."""
    seen = []
    entries = job.plan.rows.entries("test")
    for i in range(n):
        respond(job.model, load_tokenizer(), [entries[i % len(entries)]], job.plan.style, 16)
        if i % (n // 100) == 0:
            seen.append((i, *held()))
    return seen


def grown(what, seen):
    """Rows of memory and handles: the last tenth against what came after the first tenth."""
    part = max(1, len(seen) // 10)
    early, late = seen[part : 2 * part] or seen, seen[-part:]
    for column, name in ((1, "bytes"), (2, "file handles")):
        before, after = (statistics.median(s[column] for s in group) for group in (early, late))
        yield row(f"{what}: {name}", after, before, "after warm-up", floor=before)


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=60)
    arguments.add_argument("--calls", type=int, default=10_000)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job, seen = rounds(given.minutes, Path(folder) / "checkpoint")
    rows = list(grown(f"{given.minutes:g} min of training and answers", seen))
    rows += grown(f"{given.calls:,} calls of respond", calls(job, given.calls))
    report(rows, given.json)


if __name__ == "__main__":
    main()
