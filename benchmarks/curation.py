"""Do few chosen rows teach more than many unchosen ones, if a quarter of the answers is spoiled?

    python -m benchmarks.curation [--seeds 3] [--keep 1000] [--steps 240] [--json FILE]

The pool is the training split of the bundled instructions, with a quarter of its answers spoiled in
six ways: three that `quality_flags` can see, three that no rule sees. Four choices of it train the
same model for the same number of steps, and answer the same untouched test entries: all rows; k at
random; the k longest answers; k that no rule objects to and that differ (`select_diverse`).

Each seed spoils, chooses, starts and trains anew. "Interval" is a 95 % bootstrap over test entries,
paired where two choices are compared; it says nothing of the seeds, so their range stands beside
it. This can't show what LIMA claims: there, few rows only bring out what a large model learned in
pretraining. This model knows nothing but its rows.
"""

import random
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

from benchmarks.measured import parser, report
from ch07.data import load_entries
from ch07.files import write_json
from ch07.options import FinetuneOptions
from ch07.prepare import prepare
from ch07.respond import respond
from ch07.scoring import exact_match
from ch07.splits import split_entries
from ch07.systems.curation import select_diverse, select_longest, select_random
from ch07.systems.quality import quality_flags
from ch07.tokenizer import load_tokenizer
from ch07.toy_instructions.build import DATA_FILE
from train_loop import calc_loss_loader, train_model

SPOILED = 0.25  # of the pool
RESAMPLES = 2000
ANSWER = 40  # tokens; the longest right answer has fewer


# --- spoiling -----------------------------------------------------------------------------------


def not_available(row, other, dice):
    return "N/A"


def merged(row, other, dice):
    n = dice.randint(4, 20)
    return (
        f"{row['output']}\n##\n{n}. Instruction: {other['instruction']}\n"
        f"{n}. Input:\n{other['input'] or '<noinput>'}\n{n}. Output:\n{other['output']}"
    )


def control_character(row, other, dice):
    place = dice.randrange(len(row["output"]) + 1)
    return row["output"][:place] + dice.choice("\x00\x07\x1b\x7f") + row["output"][place:]


def answer_of_another(row, other, dice):
    return other["output"]


def wrong_word(row, other, dice):
    words = row["output"].split(" ")
    words[dice.randrange(len(words))] = dice.choice(other["output"].split(" "))
    return " ".join(words)


def cut_off(row, other, dice):
    return row["output"][: max(1, len(row["output"]) // 2)]


WAYS = (not_available, merged, control_character, answer_of_another, wrong_word, cut_off)


def spoiled(rows, seed, share=SPOILED):
    """The rows, a share of them with an answer that differs; those have the way in "spoiled"."""
    dice, families = random.Random(seed), defaultdict(list)
    for row in rows:
        families[row["family"]].append(row)
    result = [dict(row) for row in rows]
    for i in dice.sample(range(len(rows)), int(share * len(rows))):
        row, way = rows[i], dice.choice(WAYS)
        output = row["output"]
        while output == row["output"]:  # a word may be replaced by itself, a letter has no half
            output = way(row, dice.choice(families[row["family"]]), dice).strip()
            way = dice.choice(WAYS) if output == row["output"] else way
        result[i] |= {"output": output, "spoiled": way.__name__}
    return result


# --- choosing and training ----------------------------------------------------------------------


def choices(pool, k, seed):
    """{name: rows} of the four choices."""
    clean = [row for row in pool if not quality_flags(row)]
    return {
        "all": pool,
        "random": select_random(pool, k, seed),
        "longest": select_longest(pool, k),
        "curated": select_diverse(clean, k, "family", seed=seed),
    }


def trained(rows, test, steps, seed, folder):
    """Train the default model on rows; (1 or 0 for each test entry, loss on them, seconds)."""
    path = Path(folder) / "rows.json"
    train = [{key: row[key] for key in ("instruction", "input", "output")} for row in rows]
    write_json(path, train + [{**row, "split": "test"} for row in test])
    options = FinetuneOptions(
        data=str(path), seed=seed, max_steps=steps, epochs=10**6, eval_freq=10**9, force=True
    )
    started = time.perf_counter()
    job = prepare(options, lambda text: None)
    train_model(
        job.model, job.train_loader, None, job.optimizer, job.device, job.settings, progress=False
    )
    seconds = time.perf_counter() - started
    answers = respond(job.model, load_tokenizer(), test, job.style, ANSWER)
    right = [exact_match(a.text, row["output"]) for a, row in zip(answers, test, strict=True)]
    return right, test_loss(job, test), seconds


def test_loss(job, test):
    """Mean loss of the answers' tokens."""
    from ch07.batching import make_loader
    from instruction_dataset import InstructionDataset

    dataset = InstructionDataset(test, load_tokenizer(), job.style, with_prompt_length=True)
    loader = make_loader(dataset, 64, "response")
    return calc_loss_loader(loader, job.model, job.device, dtype=job.settings.dtype)


def bootstrap(values, resamples=RESAMPLES, seed=0):
    """95 % interval of a mean: what the middle 95 % of means of redrawn values are."""
    dice, n = random.Random(seed), len(values)
    means = sorted(sum(dice.choices(values, k=n)) / n for _ in range(resamples))
    return [means[int(0.025 * resamples)], means[int(0.975 * resamples) - 1]]


def compare(given):
    splits = split_entries(load_entries(DATA_FILE))
    test, done = splits["test"], defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seeds):
            pool = spoiled(splits["train"], seed)
            for name, rows in choices(pool, given.keep, seed).items():
                right, loss, seconds = trained(rows, test, given.steps, seed, folder)
                bad = sum("spoiled" in row for row in rows) / len(rows)
                done[name].append({"right": right, "loss": loss, "spoiled": bad})
                print(
                    f"seed {seed}, {name}: {len(rows):,} rows, {100 * bad:.1f} % spoiled: "
                    f"{100 * statistics.mean(right):.1f} % right, loss {loss:.3f}, {seconds:.0f} s",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
    return [line for name in done for line in lines(name, done)]


def lines(name, done):
    """A choice's rows of the table: what it scores, beside "all"."""

    def of(name, key):
        return [run[key] for run in done[name]]

    def per_entry(name):
        return [statistics.mean(column) for column in zip(*of(name, "right"), strict=True)]

    mine, theirs = per_entry(name), per_entry("all")
    apart = [a - b for a, b in zip(mine, theirs, strict=True)]
    by_seed = [statistics.mean(right) for right in of(name, "right")]
    found = {
        "exact match": (mine, theirs, bootstrap(mine), by_seed),
        "exact match beyond all's": (apart, None, bootstrap(apart), None),
        "loss": (of(name, "loss"), of("all", "loss"), None, of(name, "loss")),
        "share spoiled": (of(name, "spoiled"), of("all", "spoiled"), None, of(name, "spoiled")),
    }
    for what, (ours, peer, interval, seeds) in found.items():
        yield {
            "what": f"{name}: {what}", "ours": statistics.mean(ours),
            "peer": peer and statistics.mean(peer), "peer_name": "all", "ratio": None,
            "floor_share": None, "interval": interval, "seeds": seeds,
        }  # fmt: skip


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--keep", type=int, default=1000, help="rows of a choice")
    arguments.add_argument("--steps", type=int, default=240, help="updates of each run")
    given = arguments.parse_args()
    rows = compare(given)
    report(rows, given.json)
    for row in rows:
        if row["interval"]:
            low, high = row["interval"]
            seeds = ", ".join(f"{value:.3f}" for value in row["seeds"] or ())
            print(f"{row['what']}: {row['ours']:.3f}, 95 % {low:.3f} to {high:.3f}  {seeds}")


if __name__ == "__main__":
    main()
