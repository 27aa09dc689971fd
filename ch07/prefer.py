"""A run that learns which answers are liked better: direct preference optimization.

    python -m ch07 prefer RUN [DATA] [--out NEW] [--beta X]

The one idea: the run is both where training starts and what it is held against, and it stays as it
is; what was learned goes into a run folder of its own, to be asked like any other.
"""

import hashlib
import json
import sys
from contextlib import ExitStack
from dataclasses import asdict

from ch07 import run_folder as rf
from ch07.claim import check_new_folder, check_space, held, new_run_folder
from ch07.data import DataError, DataFile, count, load_entries, summary
from ch07.estimate import count_parameters
from ch07.files import sha256_of
from ch07.held_out import shown
from ch07.machine import choose_device, versions
from ch07.options import OptionError
from ch07.report import print_before_after, safe
from ch07.respond import respond
from ch07.splits import split_entries
from ch07.stopping import polite_stop
from ch07.systems.dpo import train_on_pairs
from ch07.systems.preferences import fitting, pair_loader, read_preferences
from ch07.systems.toy_preferences import toy_preferences
from ch07.toy_instructions.build import DATA_FILE
from train_loop import TrainSettings, make_optimizer, total_steps

INTERRUPTED = 130  # the exit code after Ctrl-C
WEIGHT_DECAY = 0.01  # of the matrices
# Raschka's, for 355M parameters; so few steps of it leave the small model here as it was
LR, LR_OF_SMALL, SMALL = 5e-6, 5e-5, 20_000_000


def note(text):
    """Progress and notes go to standard error."""
    print(safe(text), file=sys.stderr, flush=True)


def prefer(folder, data=None, out=None, device="auto", skip_bad_rows=False, **how):
    """Train the run in a folder on pairs and write a new run; the exit code.

    `how`: epochs, batch_size, lr, beta, label_smoothing, reduction, seed, eval_freq, max_steps.
    Without `data` the pairs are toy ones: the bundled answers, with a full stop and without.
    """
    check_new_folder(out)
    run = rf.load_run(folder, choose_device(device))
    if rf.has_prefix(run.config):
        raise OptionError(f"{folder} is a prefix beside frozen weights: train a whole model")
    file = toy_file(how["seed"]) if data is None else read_preferences(data, skip_bad_rows)
    pairs, findings = _split(file, run, how["seed"], skip_bad_rows)
    for line in summary(file.findings + findings):
        note(f"data: {line}")
    if not len(pairs["train"]):
        raise DataError(f"{file.path}: no pair is left to train on")
    n_parameters = count_parameters(run.model.config)[0]
    check_space(out, n_parameters)
    how["lr"] = how["lr"] or (LR_OF_SMALL if n_parameters < SMALL else LR)
    with ExitStack() as until_the_end:
        new = until_the_end.enter_context(held(new_run_folder(out)))
        asked = {"data": data, "model": str(folder), "out": out, "device": device}
        asked |= {"skip_bad_rows": skip_bad_rows, **how}
        return _trained(run, pairs, new, asked, file.sha256)


def toy_file(seed):
    """Toy pairs of the bundled entries, as if they stood in a file: 400 to train on, 50 held out.

    What is held out was so when the bundled data were trained on, too.
    """
    entries = load_entries(DATA_FILE)
    kept = [entry for entry in entries if "split" in entry]
    trained = [entry for entry in entries if "split" not in entry]
    pairs = toy_preferences(trained, 400, seed=seed) + toy_preferences(kept, 50, seed=seed)
    digest = hashlib.sha256(json.dumps(pairs).encode()).hexdigest()
    return DataFile(DATA_FILE, pairs, [f"pair {i}" for i in range(len(pairs))], [], digest)


def _split(file, run, seed, skip_bad_rows):
    """({"train", "test", "validation"}: `PairDataset`}, findings)."""
    context, pairs, findings = run.model.config.context_length, {}, []
    for name, rows in split_entries(file.entries, seed=seed).items():
        pairs[name], found = fitting(file, rows, run.style, context, skip_bad_rows)
        findings += found
    return pairs, findings


def _trained(run, pairs, new, asked, data_sha256):
    """Train, answer a few held-out prompts before and after, and write the new run."""
    settings = TrainSettings(
        num_epochs=asked["epochs"],
        peak_lr=asked["lr"],
        eval_freq=asked["eval_freq"],
        max_steps=asked["max_steps"],
        seed=asked["seed"],
    )
    loader = pair_loader(pairs["train"], asked["batch_size"], asked["seed"])
    held_out = pair_loader(pairs["validation"], asked["batch_size"])
    config = _config(run, pairs, asked, settings, data_sha256)
    rf.save_config(new, config)
    tests = [{**pair, "output": pair["chosen"]} for pair in pairs["test"].pairs]
    tests = [tests[i] for i in shown(tests)]
    before = _answers(run, tests)
    n_steps, records = total_steps(loader, settings), []
    note(f"training on {count(len(pairs['train']), 'pair')}, {count(n_steps, 'step')}")

    def keep(record):
        records.append(record)
        rf.save_metrics(new, records)

    with polite_stop(note) as asked_to_stop:
        train_on_pairs(
            run.model,
            loader,
            held_out,
            make_optimizer(run.model.parameters(), asked["lr"], WEIGHT_DECAY),
            settings,
            asked["beta"],
            asked["label_smoothing"],
            next(run.model.parameters()).device,
            asked["reduction"],
            on_eval=keep,
            on_step=lambda step: asked_to_stop(),
        )
        stopped = asked_to_stop()
    if stopped:
        note(f"stopped before its end: {new} has metrics, but no model; begin anew")
        return INTERRUPTED
    rf.save_model(new, run.model)
    _tell(records)
    print_before_after(tests, before, _answers(run, tests))
    print(f"\nThe run is in {new}: try\n  python -m ch07 chat {new}")
    return 0


def _config(run, pairs, asked, settings, data_sha256):
    """config.json of the new run: what `finetune` writes, and how its pairs were learned from."""
    own = {"beta", "label_smoothing", "reduction"}
    settings = {name: v for name, v in asdict(settings).items() if not callable(v)}
    return {
        "options": {k: v for k, v in asked.items() if k not in own} | {"optimizer": "adamw"},
        "model": asdict(run.model.config),
        "prompt_style": asdict(run.style),
        "settings": settings,
        "preference": {name: asked[name] for name in sorted(own)},
        "facts": {
            "data_sha256": data_sha256,
            "start_sha256": sha256_of(run.folder / rf.MODEL),
            "rows": {name: len(dataset) for name, dataset in pairs.items()},
            "tokenizer": run.tokenizer.name,
            "versions": versions(next(run.model.parameters()).device),
        },
    }


def _answers(run, entries):
    return respond(run.model, run.tokenizer, entries, run.style, max_new_tokens=64)


def _tell(records):
    """The first and the last record, as a table."""
    print("\nstep   pairs       loss  margin  accuracy")
    for record in (records[0], records[-1]):
        for name, kind in (("train", "training"), ("val", "held out")):
            found = [record[f"{name}_{what}"] for what in ("loss", "margin", "accuracy")]
            if None not in found:
                print(f"{record['step']:>4}   {kind:<9} " + "  ".join(f"{x:>7.4f}" for x in found))
