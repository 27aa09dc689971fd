"""How training scales over processes: tokens per second and memory of 1, 2 and 4 ranks.

    python -m benchmarks.ranks [--data FILE] [--model gpt2-small] [--rounds 5] [--json FILE]

Random weights, AdamW, every target counted, the same batches of 16 rows in all contests. A rank is
a single-threaded process, started by torchrun over gloo, with a copy or a shard of the model. The
configurations are measured one after the other, in rounds. The peer is one process with one thread;
"floor" is the share reached of the peer's speed times the number of ranks with a core of their own.
One row shows by how much a step of two ranks exceeds half a step of one: the work that every rank
repeats (mainly the update) and the exchange of gradients, whose size in bytes is in another row.
"""

import json
import os
import statistics
import subprocess
import sys
import time

import torch

from benchmarks import harness
from benchmarks.harness import contest_main, row, speeds
from benchmarks.training import DECAY, LR, rows_of
from ch07.data.dataloader import make_loader
from ch07.models.resource_estimate import count_parameters
from ch07.training.cross_entropy import summed_cross_entropy_in_place
from ch07.training.repeated_shapes import limit_kernels
from ch07.utils import distributed
from ch07.utils.malloc_tuning import keep_freed_memory
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from train_loop import TrainSettings, count_tokens, make_optimizer, train_step

BATCH_SIZE = 16
BATCHES = 4  # per contest
CONTESTANTS = [  # number of ranks, and what each holds of the model
    (1, "copies"),
    (2, "copies"),
    (2, "parts"),
    (4, "copies"),
]


def contest(_, what, size, data):
    """Run as one of several ranks; rank 0 prints the speed and memory of some steps."""
    if what == "copies":  # as `ch07/training/job.py` does
        keep_freed_memory()
    limit_kernels(MODEL_SIZES[size]["emb_dim"])
    torch.set_num_threads(1)
    with distributed.process_group():
        result = _steps(what == "parts", size, data)
        if distributed.get_rank() == 0:
            print(json.dumps(result), flush=True)


def _steps(shard, size, data):
    dtype, dataset = harness.faster_dtype(), rows_of(data)
    empty = harness.memory("VmRSS")
    model = GPTModel(GPTConfig(**MODEL_SIZES[size]), torch.Generator().manual_seed(0)).train()
    model = distributed.distribute_model(model, shard)
    optimizer = make_optimizer(model.parameters(), LR, DECAY)
    settings = TrainSettings(
        dtype=dtype,
        cross_entropy=summed_cross_entropy_in_place,
        reduce=distributed.all_reduce_sum,
    )
    share = distributed.get_rank(), distributed.get_world_size()
    batches, seconds, tokens = iter(make_loader(dataset, BATCH_SIZE, seed=123, share=share)), [], 0
    for i in range(BATCHES + 1):  # the first is a warm-up
        batch = next(batches)
        started = time.perf_counter()
        loss = train_step([batch], model, optimizer, "cpu", LR, settings)
        if i:
            seconds.append(time.perf_counter() - started)
            tokens += distributed.all_reduce_sum(count_tokens(batch[1]))
    return {"speed": tokens / sum(seconds), "loss": loss.item(), "step": sum(seconds) / BATCHES,
            "memory": distributed.all_reduce_sum(harness.memory() - empty)
            / distributed.get_world_size()}  # fmt: skip


def turn(n, what, given):
    """One contest, in processes started by torchrun."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n)]
    command += ["-m", "benchmarks.ranks", "--as", str(n), what]
    command += ["--model", given.model, "--data", given.data]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        command,
        cwd=harness.ROOT,
        env=environment,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    result = json.loads(done.stdout.splitlines()[-1])
    print(f"{n} ranks with {what}: {result['speed']:.0f} tokens/s", flush=True)
    return result


def compare(given):
    """All rows of the table."""
    rounds = [{c: turn(*c, given) for c in CONTESTANTS} for _ in range(given.rounds)]
    losses = [result["loss"] for result in rounds[0].values()]
    assert max(losses) - min(losses) < 5e-3, losses  # bfloat16 rounds different sums differently
    alone, cores, rows = CONTESTANTS[0], os.cpu_count(), []
    n_bytes = 4 * count_parameters(GPTConfig(**MODEL_SIZES[given.model]))[0]
    one = [turns[alone]["speed"] for turns in rounds]
    for n, what in CONTESTANTS[1:]:
        many, name = [turns[n, what]["speed"] for turns in rounds], f"{n} ranks, {what}"
        limits = [speed * min(n, cores) for speed in one]
        rows.append(speeds(f"{name}: tokens/s", many, one, "1 rank", limits))
        memory = [statistics.median(t[c]["memory"] for t in rounds) for c in ((n, what), alone)]
        floor = 4 * n_bytes / (n if what == "parts" else 1)
        rows.append(row(f"{name}: peak bytes of a rank", *memory, "1 rank", floor))
    more = [turns[2, "copies"]["step"] - turns[alone]["step"] / 2 for turns in rounds]
    rows.append(
        row("2 ranks, copies: seconds a step more than half", statistics.median(more), None, "")
    )
    rows.append(row("bytes of gradient a step", n_bytes, None, ""))
    return rows


if __name__ == "__main__":
    contest_main(__doc__, 2, contest, compare)
