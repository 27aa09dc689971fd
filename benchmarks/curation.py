"""Do a few selected rows teach more than all rows, if a quarter of the answers is spoiled?

    python -m benchmarks.curation [--model RUN] [--seeds 3] [--keep 500] [--steps 400]
        [--json FILE]

The pool consists of the bundled training rows of eleven families about sentences, with a quarter of
the answers spoiled in six ways: three that `quality_flags` detects, three that no rule detects.
Four selections from the pool train the same model for the same number of steps, and are scored on
the same unspoiled held-out entries: all rows; k random rows; the k longest answers; k diverse rows
without a quality flag (`select_diverse`).

Each seed spoils, selects and trains anew, and without RUN it has its own initial weights.
"Interval" is a 95 % bootstrap over test entries, paired where two selections are compared; it does
not cover the variation between seeds, so each seed's score is printed, too. LIMA claims that a few
rows only bring out what a model learned in pretraining, so use `--model RUN` to start from a
pretrained run (`python -m ch07 pretrain --out RUN`). Without it the model knows nothing but its
rows, and 400 steps teach it little.
"""

import random
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean

from benchmarks.harness import parser, report
from ch07.config import FinetuneOptions
from ch07.data.entries import load_entries
from ch07.data.splits import split_entries
from ch07.data.tokenizer import load_tokenizer
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.evaluation.metrics import exact_match
from ch07.generation.respond import respond
from ch07.systems.data_curation.quality_flags import quality_flags
from ch07.systems.data_curation.row_selection import select_diverse, select_longest, select_random
from ch07.training.job import build_job
from ch07.utils.atomic_files import write_json
from collate import custom_collate_response_fn
from instruction_dataset import InstructionDataset
from train_loop import calc_loss_loader, train_model

FAMILIES = (
    "past tense", "future tense", "negation", "question", "passive", "pronoun", "object", "subject",
    "find the adjective", "replace a word", "join with and",
)  # fmt: skip
BATCH_SIZE = 16  # small, for many steps per minute
SPOILED_SHARE = 0.25  # of the pool
PRETRAINED_OPTIONS = {"lr": 2.5e-3, "optimizer": "muon"}  # to start from a pretrained run
RESAMPLES = 2000
MEASURES = ("exact match", "loss", "share spoiled")
MAX_ANSWER_TOKENS = 40  # more than the longest reference has


# --- spoiling -----------------------------------------------------------------------------------


def not_available(row, other, generator):
    return "N/A"


def merged(row, other, generator):
    n = generator.randint(4, 20)
    return (
        f"{row['output']}\n##\n{n}. Instruction: {other['instruction']}\n"
        f"{n}. Input:\n{other['input'] or '<noinput>'}\n{n}. Output:\n{other['output']}"
    )


def control_character(row, other, generator):
    place = generator.randrange(len(row["output"]) + 1)
    return row["output"][:place] + generator.choice("\x00\x07\x1b\x7f") + row["output"][place:]


def answer_of_another(row, other, generator):
    return other["output"]


def wrong_word(row, other, generator):
    words = row["output"].split(" ")
    words[generator.randrange(len(words))] = generator.choice(other["output"].split(" "))
    return " ".join(words)


def cut_off(row, other, generator):
    return row["output"][: max(1, len(row["output"]) // 2)]


WAYS = (not_available, merged, control_character, answer_of_another, wrong_word, cut_off)


def spoiled(rows, seed, share=SPOILED_SHARE):
    """The rows, a share of them with a spoiled answer; their key "spoiled" names the way."""
    generator, families = random.Random(seed), defaultdict(list)
    for row in rows:
        families[row["family"]].append(row)
    result = [dict(row) for row in rows]
    for i in generator.sample(range(len(rows)), int(share * len(rows))):
        row, way = rows[i], generator.choice(WAYS)
        output = row["output"]
        while output == row["output"]:  # the answer may stay the same by chance
            output = way(row, generator.choice(families[row["family"]]), generator).strip()
            way = generator.choice(WAYS) if output == row["output"] else way
        result[i] |= {"output": output, "spoiled": way.__name__}
    return result


# --- choosing and training ----------------------------------------------------------------------


def selections(pool, k, seed):
    """{name: rows} of the four selections."""
    clean = [row for row in pool if not quality_flags(row)]
    return {
        "all": pool,
        "random": select_random(pool, k, seed),
        "longest": select_longest(pool, k),
        "curated": select_diverse(clean, k, "family", seed=seed),
    }


def train_and_score(rows, test, steps, seed, folder, model=None):
    """Train a model on rows; returns exact match and mean loss of each test entry.

    `model` is a pretrained run, trained with the options that `pretrain` suggests; None: the
    default model.
    """
    path = Path(folder) / "rows.json"
    train = [{key: row[key] for key in ("instruction", "input", "output")} for row in rows]
    write_json(path, train + [{**row, "split": "test"} for row in test])
    start = PRETRAINED_OPTIONS | {"model": str(model)} if model else {}
    options = FinetuneOptions(
        data=str(path), seed=seed, batch_size=BATCH_SIZE, max_steps=steps, epochs=10**6,
        eval_freq=10**9, force=True, **start,
    )  # fmt: skip
    job = build_job(options, lambda text: None)
    plan = job.plan
    loop = job.model, plan.train_loader, None, job.optimizer, plan.device, plan.settings
    train_model(*loop, progress=False)
    answers = respond(job.model, load_tokenizer(), test, plan.style, MAX_ANSWER_TOKENS)
    pairs = zip(answers, test, strict=True)
    right = [exact_match(answer.text, row["output"]) for answer, row in pairs]
    dataset = InstructionDataset(test, load_tokenizer(), plan.style, with_prompt_length=True)
    how = {"dtype": plan.settings.dtype}
    one_by_one = ([custom_collate_response_fn([item])] for item in dataset)
    losses = [calc_loss_loader(batch, job.model, plan.device, **how) for batch in one_by_one]
    return {"exact match": right, "loss": losses}


def bootstrap(values, resamples=RESAMPLES, seed=0):
    """95 % bootstrap interval of a mean: the middle 95 % of the means of resampled values."""
    generator, n = random.Random(seed), len(values)
    means = sorted(sum(generator.choices(values, k=n)) / n for _ in range(resamples))
    return [means[int(0.025 * resamples)], means[int(0.975 * resamples) - 1]]


def compare(given):
    splits = split_entries([row for row in load_entries(DATA_FILE) if row["family"] in FAMILIES])
    test, done = splits["test"] + splits["validation"], defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(given.seeds):
            pool = spoiled(splits["train"], seed)
            for name, rows in selections(pool, given.keep, seed).items():
                started = time.process_time()
                found = train_and_score(rows, test, given.steps, seed, folder, given.model)
                bad = sum("spoiled" in row for row in rows) / len(rows)
                done[name].append(found | {"share spoiled": [bad]})
                scores = ", ".join(f"{key} {mean(values):.3f}" for key, values in found.items())
                print(
                    f"seed {seed}, {name}: {len(rows):,} rows, {100 * bad:.1f} % spoiled: {scores} "
                    f"of {len(test)}, {time.process_time() - started:.0f} s",
                    file=sys.stderr, flush=True,
                )  # fmt: skip
    return [line for name in done for key in MEASURES for line in lines(name, key, done)]


def lines(name, key, done):
    """Rows of the table: a selection's score beside that of "all", and their difference."""

    def per_entry(name):
        columns = zip(*(run[key] for run in done[name]), strict=True)
        return [mean(column) for column in columns]

    mine, theirs = per_entry(name), per_entry("all")
    table = {"peer": mean(theirs), "peer_name": "all", "ratio": None, "floor_share": None}
    by_seed = [mean(run[key]) for run in done[name]]
    score_row = {"what": f"{name}: {key}", "ours": mean(mine), **table, "seeds": by_seed}
    if len(mine) == 1:
        return [score_row]
    differences = [a - b for a, b in zip(mine, theirs, strict=True)]
    difference_row = {
        "what": f"{name}: {key} less all's",
        "ours": mean(differences),
        **table,
        "peer": None,
    }
    by_seed = [a - mean(run[key]) for a, run in zip(by_seed, done["all"], strict=True)]
    difference_row |= {"interval": bootstrap(differences), "seeds": by_seed}
    return [score_row | {"interval": bootstrap(mine)}, difference_row][: 1 if name == "all" else 2]


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--model", type=Path, help="start from this pretrained run")
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--keep", type=int, default=500, help="rows per selection")
    arguments.add_argument("--steps", type=int, default=400, help="optimizer steps per run")
    given = arguments.parse_args()
    rows = compare(given)
    report(rows, given.json)
    for row in rows:
        if "interval" in row:
            low, high = row["interval"]
            seeds = ", ".join(f"{value:.3f}" for value in row["seeds"])
            print(f"{row['what']}: {row['ours']:.3f}, 95 % {low:.3f} to {high:.3f}; seeds {seeds}")


if __name__ == "__main__":
    main()
