"""Full fine-tuning, LoRA and prefix tuning: what each costs, learns and forgets.

    python -m benchmarks.adapters [--out FOLDER] [--json FILE]

A base model is trained from random weights on all bundled families but four, as in a default run.
Then it learns those four with each of four methods, and with two of them also on a mix of new and
old rows. Exact match on the held-out entries of the four new families shows what was learned, on
those of the others what was forgotten. The peer is training all weights with the loss on the
response only. Each method runs in a process of its own, to measure its memory; seconds are training
time. Takes about a quarter of an hour on two cores.
"""

import random
from statistics import mean

from benchmarks.harness import in_a_folder, in_a_process, memory, row
from ch07.commands.cli import main as ch07
from ch07.config import FinetuneOptions
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.evaluation.metrics import exact_match
from ch07.generation.respond import respond
from ch07.models.resource_estimate import count_parameters
from ch07.models.saved_run import load_run
from ch07.runs import run_folder
from ch07.training.cost_estimate import count_trained_parameters
from ch07.utils.atomic_files import read_json, write_json
from gpt_model import GPTConfig

NEW_FAMILIES = ("negation", "passive", "past tense", "question")
PEER = "all weights"
SHARED_ARGUMENTS = ["--epochs", "6", "--batch-size", "16"]
METHODS = {  # each with the best learning rate of those tried
    PEER: ["--lr", "1e-3"],
    "all weights, loss on all tokens": ["--lr", "1e-3", "--loss-on", "all"],
    "LoRA": ["--method", "lora", "--lr", "5e-3"],
    "prefix": "--method prefix --lr 1e-2 --prefix-length 32 --prefix-hidden 128".split(),
    "all weights, old rows too": ["--lr", "1e-3"],
    "LoRA, old rows too": ["--method", "lora", "--lr", "5e-3"],
}
OLD_ROWS_PER_NEW_ROW = 0.5  # in the mix of new and old rows


def write_data_files(folder):
    """Write the rows of old families, new families and a mix, and the old held-out rows."""
    data = read_json(DATA_FILE)
    old = [row for row in data if row["family"] not in NEW_FAMILIES]
    new = [row for row in data if row["family"] in NEW_FAMILIES]
    write_json(folder / "old.json", old)
    write_json(folder / "new.json", new)
    trained = [row for row in old if "split" not in row]
    old_sample = random.Random(0).sample(trained, int(OLD_ROWS_PER_NEW_ROW * len(new)))
    write_json(folder / "both.json", new + old_sample)
    held_out = [e for e in data if e["family"] not in NEW_FAMILIES and e.get("split") == "test"]
    write_json(folder / "old-test.json", held_out)


def exact_match_share(run, entries):
    """The share of entries that a run answers exactly."""
    answers = respond(run.model, run.tokenizer, entries, run.style)
    pairs = zip(answers, entries, strict=True)
    return mean(exact_match(answer.text, entry["output"]) for answer, entry in pairs)


def train(folder, out, *arguments):
    """Train a run; returns its cost and scores. Memory is the peak of this process."""
    before = memory("VmRSS")
    assert ch07(["finetune", "--out", str(folder / out), *arguments]) == 0
    peak = memory() - before
    run = load_run(folder / out)
    options = FinetuneOptions(**run_folder.read_config(folder / out)["options"])
    config = GPTConfig(**run.config["model"])
    n_parameters, _ = count_parameters(config)
    scores = read_json(folder / out / run_folder.SCORES)
    return {
        "share of parameters trained": (count_trained_parameters(config, options) or n_parameters)
        / n_parameters,
        "seconds of training": scores["train_seconds"],
        "peak memory, bytes": peak,
        "exact match, new families": scores["exact_match"],
        "exact match, old families": exact_match_share(run, read_json(folder / "old-test.json")),
    }


def once(folder, method):
    """Train the base model with one method, or with "base" the base model itself."""
    if method == "base":
        return train(folder, "base", "--data", str(folder / "old.json"))
    name = "both.json" if "old rows" in method else "new.json"
    start = ["--data", str(folder / name), "--model", str(folder / "base")]
    return train(folder, method.replace(" ", "-"), *start, *SHARED_ARGUMENTS, *METHODS[method])


def compare(folder):
    folder.mkdir(parents=True, exist_ok=True)
    write_data_files(folder)
    if not (folder / "base" / run_folder.SCORES).exists():
        in_a_process("benchmarks.adapters", "--once", folder, "base")
    base = load_run(folder / "base")
    old, new = (read_json(folder / f"{name}.json") for name in ("old-test", "new"))
    new = [entry for entry in new if entry.get("split") == "test"]
    found = []
    for name, entries in (("old", old), ("new", new)):
        what = f"before: exact match, {name} families"
        found.append(row(what, exact_match_share(base, entries), None, ""))
    results = {
        method: in_a_process("benchmarks.adapters", "--once", folder, method) for method in METHODS
    }
    for method, result in results.items():
        for what, value in result.items():
            found.append(row(f"{method}: {what}", value, results[PEER][what], PEER))
    return found


if __name__ == "__main__":
    in_a_folder(__doc__, once, compare)
