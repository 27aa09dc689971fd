"""How seconds and memory grow with rows, tokens per row and rows per batch.

    python -m benchmarks.growth [--model gpt2-tiny] [--most 1000000] [--png FILE] [--json FILE]

The rows are generated, and each measurement has a process of its own. The first ones go from a
file to a plan that is ready to train, with entries in memory and with a token store (`python -m
ch07 tokenize`), and then make training steps. Further ones make steps on 4 rows of 128 to 1,024
tokens, and on 1 to 64 rows of 128 tokens. "Exponent" is k in cost = c * n^k, a least-squares fit to
the logarithms of the three largest sizes: with 1 the cost is proportional to n, with 0 constant.
"""

import json
import math
import random
import statistics
import tempfile
import time
from pathlib import Path

import torch

from benchmarks import harness
from benchmarks.harness import in_a_process, memory, parser, report, row
from ch07.config import FinetuneOptions
from ch07.data.prompt_styles import get_style
from ch07.data.token_store import write_store
from ch07.training.cross_entropy import summed_cross_entropy_in_place
from ch07.training.repeated_shapes import limit_kernels
from ch07.training.run_plan import build_plan
from ch07.utils.malloc_tuning import keep_freed_memory
from gpt_model import MODEL_SIZES, GPTConfig, GPTModel
from train_loop import TrainSettings, count_tokens, make_optimizer, train_step

ROWS = (1_000, 10_000, 100_000, 1_000_000)
LENGTHS = (128, 256, 512, 1024)  # tokens per row
BATCHES = (1, 4, 16, 64)  # rows per batch
MAX_ROWS_IN_MEMORY = 100_000  # larger files are only measured as a token store
STEPS = 5
LETTERS = "etaoinshrdlucmfwypvbgkjqxz"


def write_rows(path, n):
    """Write JSONL rows of made-up words, distributed as in a language (Zipf's law)."""
    r = random.Random(0)
    weights = range(len(LETTERS), 0, -1)
    words = ["".join(r.choices(LETTERS, weights, k=r.randint(2, 9))) for _ in range(20_000)]
    common, total = [], 0.0
    for i in range(len(words)):
        total += 1 / (i + 3)
        common.append(total)

    def some(least, most):
        return " ".join(r.choices(words, cum_weights=common, k=r.randint(least, most)))

    with open(path, "w", encoding="utf-8") as file:
        for _ in range(n):
            entry = {"instruction": some(4, 12), "input": "", "output": some(2, 30)}
            file.write(json.dumps(entry) + "\n")


# --- in a process of its own --------------------------------------------------------------------


def tokenize(source, store):
    before, started = memory("VmRSS"), time.perf_counter()
    write_store(source, store, get_style("book"))
    return {"seconds": time.perf_counter() - started, "memory": memory() - before}


def plan(data, model):
    """Go from a file, or a token store, to the first batch; then make some steps."""
    keep_freed_memory()
    before, started = memory("VmRSS"), time.perf_counter()
    planned = build_plan(FinetuneOptions(data=data, batch_size=8), lambda text: None)
    batches = iter(planned.train_loader)
    next(batches)
    result = {"seconds": time.perf_counter() - started, "memory": memory() - before}
    return result | {"speed": _speed([next(batches) for _ in range(STEPS + 1)], model)["speed"]}


def steps(tokens, rows, model):
    """Make steps on rows of the given number of tokens, all counted."""
    keep_freed_memory()
    limit_kernels(MODEL_SIZES[model]["emb_dim"])
    before, stream = memory("VmRSS"), torch.Generator().manual_seed(0)
    shape = int(rows), int(tokens)
    ids = [torch.randint(0, 50257, shape, generator=stream) for _ in range(2)]
    return _speed([ids] * (STEPS + 1), model) | {"memory": memory() - before}


def _speed(batches, size):
    model = GPTModel(GPTConfig(**MODEL_SIZES[size]), torch.Generator().manual_seed(0)).train()
    dtype = harness.faster_dtype()
    settings = TrainSettings(dtype=dtype, cross_entropy=summed_cross_entropy_in_place)
    optimizer, speeds = make_optimizer(model.parameters()), []
    for i, batch in enumerate(batches):
        started = time.perf_counter()
        train_step([batch], model, optimizer, "cpu", 1e-4, settings)
        if i:  # the first is a warm-up
            speeds.append(count_tokens(batch[1]) / (time.perf_counter() - started))
    return {"speed": statistics.median(speeds)}


ONCE = {"tokenize": tokenize, "plan": plan, "steps": steps}

# --- all of them --------------------------------------------------------------------------------


def exponent(sizes, costs):
    """k of cost = c * size^k, by least squares on the logarithms of the last three.

    >>> round(exponent([1, 10, 100], [3, 300, 30_000]), 6)
    2.0
    """
    x, y = ([math.log(value) for value in values[-3:]] for values in (sizes, costs))
    mean_x, mean_y = statistics.mean(x), statistics.mean(y)
    above = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True))
    return above / sum((a - mean_x) ** 2 for a in x)


def curves(given):
    """{what: [(size, cost), ...]} of all measurements."""
    found = {}

    def add(what, n, cost):
        found.setdefault(what, []).append((n, cost))
        print(f"{what}, {n:,}: {cost:,.4g}", flush=True)

    def once(*arguments):
        return in_a_process("benchmarks.growth", "--once", *arguments)

    with tempfile.TemporaryDirectory() as folder:
        for n in (n for n in ROWS if n <= given.most):
            source, store = Path(folder) / f"{n}.jsonl", Path(folder) / f"{n}"
            write_rows(source, n)
            written = once("tokenize", source, store)
            ways = {"from a store": store} | (
                {"in memory": source} if n <= MAX_ROWS_IN_MEMORY else {}
            )
            add("rows: seconds to write a store", n, written["seconds"])
            add("rows: bytes held to write a store", n, written["memory"])
            for way, data in ways.items():
                done = once("plan", data, given.model)
                add(f"rows: seconds to the first batch, {way}", n, done["seconds"])
                add(f"rows: bytes held at the first batch, {way}", n, done["memory"])
                add(f"rows: training, tokens/s, {way}", n, done["speed"])
    shapes = [("tokens a row", tokens, tokens, 4) for tokens in LENGTHS]
    for what, n, tokens, rows in shapes + [("rows a batch", n, 128, n) for n in BATCHES]:
        done = once("steps", tokens, rows, given.model)
        add(f"{what}: training, tokens/s", n, done["speed"])
        add(f"{what}: bytes held", n, done["memory"])
    return found


def draw(found, path):
    """Draw the curves, a panel for each kind of size and cost."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, NullFormatter

    kinds = ("rows: seconds", "rows: bytes", "rows: training", "tokens a row: training",
             "rows a batch: training", "rows a batch: bytes")  # fmt: skip
    figure = Figure(figsize=(12, 7), layout="constrained")
    for axes, kind in zip(figure.subplots(2, 3).flat, kinds, strict=True):
        for (what, points), mark in zip(
            ((w, p) for w, p in found.items() if w.startswith(kind)), "osD^", strict=False
        ):
            label = f"{what.split(': ')[1]}: n^{exponent(*zip(*points, strict=True)):.2f}"
            axes.loglog(*zip(*points, strict=True), f"{mark}-", label=label)
        xlabel, title = kind.split(": ")
        axes.set(xlabel=xlabel, title=title)
        axes.set_ylim(axes.get_ylim()[0] / 3, axes.get_ylim()[1] * 3)
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(EngFormatter(sep=""))
            axis.set_minor_formatter(NullFormatter())
        axes.set_xticks([n for what, points in found.items() if what.startswith(kind)
                         for n, _ in points])  # fmt: skip
        axes.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--model", default="gpt2-tiny", choices=MODEL_SIZES)
    arguments.add_argument(
        "--most", type=int, default=ROWS[-1], help="the largest number of rows to measure"
    )
    arguments.add_argument("--png", metavar="FILE", help="also draw the curves")
    arguments.add_argument("--once", nargs="+", help="used internally")
    given = arguments.parse_args()
    if given.once:
        return print(json.dumps(ONCE[given.once[0]](*given.once[1:])))
    found = curves(given)
    rows = [row(f"{what} (n = {n:,})", cost, None, "") for what, points in found.items()
            for n, cost in points]  # fmt: skip
    for what, points in found.items():
        rows.append(row(f"{what}: exponent", exponent(*zip(*points, strict=True)), None, ""))
    report(rows, given.json)
    if given.png:
        draw(found, given.png)


if __name__ == "__main__":
    main()
