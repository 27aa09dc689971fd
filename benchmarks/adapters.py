"""All weights, LoRA or a prefix: what each costs, what it learns, and what it forgets.

    python -m benchmarks.adapters [--out FOLDER] [--json FILE]

The bundled families are divided: a model learns all but four of them from random weights, as a
default run does; then it learns those four, in four ways, and in two of them once more with some
old rows among the new ones. Exact match on the held-out entries of the four says what was learned,
on those of the others what was forgotten. "Peer" is training all weights, the loss on the response
alone. Each way has a process of its own, so that memory is its own; seconds are those of training.
It takes about a quarter of an hour on two cores.
"""

import random
from statistics import mean

from benchmarks.measured import in_a_folder, in_a_process, memory, row
from ch07.commands.cli import main as ch07
from ch07.config import FinetuneOptions
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.evaluation.metrics import exact_match
from ch07.generation.respond import respond
from ch07.models.resource_estimate import count_parameters
from ch07.models.saved_run import load_run
from ch07.runs import run_folder as rf
from ch07.training.cost_estimate import count_trained_parameters
from ch07.utils.atomic_files import read_json, write_json
from gpt_model import GPTConfig

NEW = ("negation", "passive", "past tense", "question")
PEER = "all weights"
SHARED = ["--epochs", "6", "--batch-size", "16"]
WAYS = {  # each with the best learning rate of those tried
    PEER: ["--lr", "1e-3"],
    "all weights, loss on all tokens": ["--lr", "1e-3", "--loss-on", "all"],
    "LoRA": ["--method", "lora", "--lr", "5e-3"],
    "prefix": "--method prefix --lr 1e-2 --prefix-length 32 --prefix-hidden 128".split(),
    "all weights, old rows too": ["--lr", "1e-3"],
    "LoRA, old rows too": ["--method", "lora", "--lr", "5e-3"],
}
OLD_ROWS = 0.5  # of old families among the new ones, for each new one


def divided(folder):
    """Write the rows of the old families, of the new ones, of both, and the old held-out ones."""
    data = read_json(DATA_FILE)
    old, new = ([row for row in data if (row["family"] in NEW) == is_new] for is_new in (0, 1))
    write_json(folder / "old.json", old)
    write_json(folder / "new.json", new)
    trained = [row for row in old if "split" not in row]
    few = random.Random(0).sample(trained, int(OLD_ROWS * len(new)))
    write_json(folder / "both.json", new + few)
    held_out = [e for e in data if e["family"] not in NEW and e.get("split") == "test"]
    write_json(folder / "old-test.json", held_out)


def share_right(run, entries):
    """The share of entries that a run answers exactly."""
    answers = respond(run.model, run.tokenizer, entries, run.style)
    pairs = zip(answers, entries, strict=True)
    return mean(exact_match(answer.text, entry["output"]) for answer, entry in pairs)


def train(folder, out, *arguments):
    """A run, and what it cost; memory is that of this process at its worst."""
    before = memory("VmRSS")
    assert ch07(["finetune", "--out", str(folder / out), *arguments]) == 0
    peak = memory() - before
    run, options = (
        load_run(folder / out),
        FinetuneOptions(**rf.read_config(folder / out)["options"]),
    )
    config = GPTConfig(**run.config["model"])
    whole, _ = count_parameters(config)
    scores = read_json(folder / out / rf.SCORES)
    return {
        "share of parameters trained": (count_trained_parameters(config, options) or whole) / whole,
        "seconds of training": scores["train_seconds"],
        "peak memory, bytes": peak,
        "exact match, new families": scores["exact_match"],
        "exact match, old families": share_right(run, read_json(folder / "old-test.json")),
    }


def once(folder, way):
    """Train one way from the base, or with `way` "base" the base itself."""
    if way == "base":
        return train(folder, "base", "--data", str(folder / "old.json"))
    name = "both.json" if "old rows" in way else "new.json"
    start = ["--data", str(folder / name), "--model", str(folder / "base")]
    return train(folder, way.replace(" ", "-"), *start, *SHARED, *WAYS[way])


def compare(folder):
    folder.mkdir(parents=True, exist_ok=True)
    divided(folder)
    if not (folder / "base" / rf.SCORES).exists():
        in_a_process("benchmarks.adapters", "--once", folder, "base")
    base = load_run(folder / "base")
    old, new = (read_json(folder / f"{name}.json") for name in ("old-test", "new"))
    new = [entry for entry in new if entry.get("split") == "test"]
    found = []
    for name, entries in (("old", old), ("new", new)):
        what = f"before: exact match, {name} families"
        found.append(row(what, share_right(base, entries), None, ""))
    results = {way: in_a_process("benchmarks.adapters", "--once", folder, way) for way in WAYS}
    for way, result in results.items():
        for what, value in result.items():
            found.append(row(f"{way}: {what}", value, results[PEER][what], PEER))
    return found


if __name__ == "__main__":
    in_a_folder(__doc__, once, compare)
