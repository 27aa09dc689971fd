"""The main job: data -> training -> answers -> scores, all of it kept in a run folder.

    python -m ch07 finetune [--data FILE] ...

Reads top to bottom: prepare, train, answer, score, report. Results go to standard output,
progress and notes to standard error.
"""

import io
import signal
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from ch07 import run_folder as rf
from ch07.checkpoint import load_checkpoint, save_checkpoint
from ch07.files import write_bytes, write_json
from ch07.machine import give_freed_memory_back
from ch07.options import FREE_ON_RESUME, FinetuneOptions, OptionError
from ch07.prepare import prepare
from ch07.report import print_before_after, print_scores
from ch07.respond import respond
from ch07.scoring import score_answers
from ch07.tokenizer import load_tokenizer
from train_loop import TrainState, plot_losses, total_steps, train_model

SHOWN = 5  # held-out entries whose answers are printed, before and after
INTERRUPTED = 130  # the exit code after Ctrl-C


def note(text):
    """Progress and notes go to standard error."""
    print(text, file=sys.stderr, flush=True)


def finetune(given, resume=False):
    """Run the job with the options in `given` (a dict); returns the exit code.

    With `resume`, the run in `given["out"]` goes on from its last checkpoint; what is given
    besides must be as it was.
    """
    options = _options_of_run(given) if resume else FinetuneOptions(**given)
    if not resume:
        rf.check_new_folder(options.out)
    job = prepare(options, note, new=not resume)
    folder = Path(options.out) if resume else rf.new_run_folder(options.out)
    held_out = job.splits["test"]
    shown = _shown(held_out)  # row numbers
    # of the weights that training starts from: a resumed run makes the same ones again
    before = _answer(job, [held_out[i] for i in shown], max_new_tokens=32)
    if resume:
        state = _resumed(folder, options, job)
    else:
        state = TrainState()
        rf.save_config(folder, options, job)
    if not _train(job, options, folder, state):
        note(f"\nstopped after step {state.step}; go on with:\n{_how_to_resume(folder)}")
        return INTERRUPTED
    rf.save_model(folder, job.model)
    give_freed_memory_back()
    note(f"answering {len(held_out)} held-out entries ...")
    answers = _answer(job, held_out)
    print_scores(_keep_answers(folder, held_out, answers, state))
    print_before_after([held_out[i] for i in shown], before, [answers[i] for i in shown])
    print(f"\nThe run is in {folder}: try\n  python -m ch07 chat {folder}")
    return 0


# --- training -----------------------------------------------------------------------------------


def _train(job, options, folder, state):
    """Train with checkpoints; True if it came to its end, False if it was asked to stop."""
    n_steps = total_steps(job.train_loader, job.settings)
    rows = len(job.splits["train"])
    note(f"training on {rows} rows, {n_steps} steps in {job.settings.dtype} on {job.device}")
    last_saved = time.monotonic()

    def on_eval(record):
        rf.save_metrics(folder, state.history)

    def on_step(state):
        nonlocal last_saved
        due = time.monotonic() - last_saved >= 60 * options.checkpoint_minutes
        if due or asked_to_stop() or state.step == n_steps:
            save_checkpoint(folder / rf.CHECKPOINT, job.model, job.optimizer, state)
            last_saved = time.monotonic()
        return asked_to_stop()

    with _polite_stop() as asked_to_stop:
        train_model(
            job.model,
            job.train_loader,
            job.val_loader,
            job.optimizer,
            job.device,
            job.settings,
            state,
            on_eval,
            on_step,
        )
    rf.save_metrics(folder, state.history)
    _plot(folder, state.history)
    if state.skipped:
        note(f"{state.skipped} updates were skipped: their batches had no counted target")
    return state.step == n_steps and not asked_to_stop()


@contextmanager
def _polite_stop():
    """Ctrl-C or SIGTERM ends the run after the present step; a second one ends it at once."""
    asked = False

    def ask(number, frame):
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        note("\nstopping after this step (once more: at once) ...")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _plot(folder, history):
    columns = ("epoch", "tokens_seen", "train_loss", "val_loss")
    figure = plot_losses(*([record[key] for record in history] for key in columns))
    png = io.BytesIO()
    figure.savefig(png, dpi=150, metadata={"Software": None})
    write_bytes(folder / rf.PLOT, png.getvalue())


# --- going on -----------------------------------------------------------------------------------


def _options_of_run(given):
    """The options of the run in given["out"]; OptionError names each that was given otherwise."""
    if given.get("out") is None:
        raise OptionError("--resume needs --out RUN, the folder of the run to go on with")
    config = rf.read_config(given["out"])
    # what "auto" was on the machine where the run began
    stored = {**config["options"], "dtype": config["settings"].get("dtype")}
    changed = [
        f"{name} was {stored.get(name)!r}, now {value!r}"
        for name, value in given.items()
        if name not in FREE_ON_RESUME and value != stored.get(name)
    ]
    if changed:
        raise OptionError(
            f"{given['out']} can't go on with other settings: {'; '.join(changed)}. "
            "Leave them out, or start a new run"
        )
    try:
        return FinetuneOptions(**{**stored, **given})
    except TypeError as error:
        raise rf.RunFolderError(f"{given['out']}/{rf.CONFIG} was altered: {error}") from None


def _resumed(folder, options, job):
    """Weights, optimizer and place of the last checkpoint; ValueError names what is different."""
    stored, now = rf.read_config(folder), rf.describe(options, job)
    parts = [("facts", name) for name in ("data_sha256", "start_sha256", "tokenizer")]
    parts += [(part, name) for part in ("settings", "model", "prompt_style") for name in now[part]]
    changed = [
        f"its {name} was {stored[part].get(name)!r}, now it is {now[part][name]!r}"
        for part, name in parts
        if stored[part].get(name) != now[part][name]
    ]
    if changed:
        raise ValueError(f"{folder} can't go on where it stopped: {'; '.join(changed)}")
    state, problems = load_checkpoint(folder / rf.CHECKPOINT, job.model, job.optimizer)
    for problem in problems:
        note(f"checkpoint passed over: {problem}")
    if state is None:
        note("no checkpoint yet: starting from the beginning")
        return TrainState()
    note(f"going on from step {state.step}")
    return state


def _how_to_resume(folder):
    return f"  python -m ch07 finetune --resume --out {folder}"


# --- answers ------------------------------------------------------------------------------------


def _answer(job, entries, max_new_tokens=256):
    return respond(job.model, load_tokenizer(), entries, job.style, max_new_tokens)


def _shown(entries):
    """Row numbers of the first few entries, each of another family where there are families."""
    first = {}
    for i, entry in enumerate(entries):
        first.setdefault(entry.get("family", i), i)
    return list(first.values())[:SHOWN]


def _keep_answers(folder, entries, answers, state):
    """Write responses.json and scores.json; returns the scores, None without held-out entries."""
    if not entries:
        note("no held-out rows, so there is no score")
        return None
    texts, stopped = [a.text for a in answers], [a.stopped == "end" for a in answers]
    responses = [
        {key: entry[key] for key in ("instruction", "input", "output", "family") if key in entry}
        | {"model_response": answer.text, "stopped": answer.stopped}
        for entry, answer in zip(entries, answers, strict=True)
    ]
    write_json(folder / rf.RESPONSES, responses)
    scores = score_answers(entries, texts, stopped)
    scores["train_seconds"] = round(state.seconds, 1)
    write_json(folder / rf.SCORES, scores)
    return scores
