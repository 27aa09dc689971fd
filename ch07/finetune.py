"""The main job: data -> training -> answers -> scores, all of it kept in a run folder.

    python -m ch07 finetune [--data FILE] ...

Reads top to bottom: prepare, train, answer, score, report. Results go to standard output,
progress and notes to standard error.
"""

import io
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from ch07 import run_folder as rf
from ch07.checkpoint import CheckpointError, newest_whole, save_checkpoint
from ch07.claim import check_new_folder, check_run, held, new_run_folder
from ch07.files import write_bytes, write_json
from ch07.going_on import (
    check_sources,
    options_like,
    options_to_go_on,
    resumed,
    stored_config,
    tell_differences,
)
from ch07.machine import give_freed_memory_back
from ch07.options import FinetuneOptions, OptionError
from ch07.prepare import prepare
from ch07.report import print_before_after, print_scores, safe
from ch07.respond import respond
from ch07.scoring import score_answers
from ch07.stopping import polite_stop
from ch07.tokenizer import load_tokenizer
from train_loop import TrainState, plot_losses, total_steps, train_model

SHOWN = 5  # held-out entries whose answers are printed, before and after
INTERRUPTED = 130  # the exit code after Ctrl-C


def note(text):
    """Progress and notes go to standard error."""
    print(safe(text), file=sys.stderr, flush=True)


def finetune(given, resume=False, like=None):
    """Run the job with the options in `given` (a dict); returns the exit code.

    With `resume`, the run in `given["out"]` goes on from its last checkpoint; what is given
    besides must be as it was. With `like`, a run folder, its options hold where none is given.
    """
    if resume:
        return _go_on(given)
    options = FinetuneOptions(**given) if like is None else options_like(like, given)
    check_new_folder(options.out)
    job = prepare(options, note)
    if like is not None:
        check_sources(like, options, job, given)
        tell_differences(like, options, job, note)
    folder = new_run_folder(options.out)
    with held(folder), _ending_in_words(folder):
        config = rf.describe(options, job)
        rf.save_config(folder, config)
        before = _first_answers(job)
        return _finish(job, options, folder, TrainState(), config, before)


def _go_on(given):
    if given.get("out") is None:
        raise OptionError("--resume needs --out RUN, the folder of the run to go on with")
    folder = Path(given["out"])
    check_run(folder)
    with held(folder), _ending_in_words(folder):
        config = stored_config(folder, note)
        options = options_to_go_on(config, given)
        job = prepare(options, note, new=False)
        before = _first_answers(job)
        state = resumed(folder, config, options, job, note)
        return _finish(job, options, folder, state, config, before)


def _finish(job, options, folder, state, config, before):
    """Train to the end, answer, score, report."""
    try:
        whole = _train(job, options, folder, state, config)
    except FloatingPointError as error:
        raise FloatingPointError(_about_numbers(error, job, options, folder, state)) from error
    if not whole:
        note(f"\nstopped after step {state.step}; go on with:\n{_how_to_resume(folder)}")
        return INTERRUPTED
    rf.save_model(folder, job.model)
    give_freed_memory_back()
    held_out = job.splits["test"]
    note(f"answering {len(held_out)} held-out entries ...")
    answers = _answer(job, held_out)
    scores = _keep_answers(folder, held_out, answers, state)
    print_scores(scores)
    shown = _shown(held_out)
    print_before_after([held_out[i] for i in shown], before, [answers[i] for i in shown])
    print(f"\nThe run is in {folder}: try\n  python -m ch07 chat {folder}")
    return 0


# --- when it can't go on ------------------------------------------------------------------------


@contextmanager
def _ending_in_words(folder):
    """A disk that is full, a second Ctrl-C: whatever ends a run, it says how to go on."""
    try:
        yield
    except BrokenPipeError:  # nobody reads the results, but they are kept
        raise
    except (OSError, CheckpointError) as error:
        why = getattr(error, "strerror", None) or error
        raise RuntimeError(f"{folder}: {why}. {_what_is_kept(folder)}") from error
    except KeyboardInterrupt:
        note(f"\nstopped at once. {_what_is_kept(folder)}")
        raise


def _about_numbers(error, job, options, folder, state):
    """What to do about a number that is not finite, and in which rows of the reader's file."""
    where = f"after step {state.step}: {error}"
    if "evaluation" not in str(error):
        sampler = job.train_loader.batch_sampler
        sampler.set_epoch(state.epoch)
        window = list(sampler)[state.batch : state.batch + options.accumulation_steps]
        entries = (job.splits["train"][i] for batch in window for i in batch)
        where += f". Its batch: {', '.join(job.places[id(entry)] for entry in entries)}"
    anew = f"python -m ch07 finetune --like {folder} --lr {options.lr / 4:g}"
    return (
        f"{where}. A resume would meet the same numbers; begin anew, more slowly:\n  {anew}\n"
        f"{_what_is_kept(folder)}"
    )


def _what_is_kept(folder):
    place, _, problems = newest_whole(folder / rf.CHECKPOINT)
    if place is None and problems:
        return f"Begin anew: python -m ch07 finetune --like {folder}"
    if place is None and not (folder / rf.CONFIG).exists():
        return "Nothing was begun yet"
    kept = "No checkpoint was written yet" if place is None else f"{place} is whole"
    return f"{kept}; go on with:\n{_how_to_resume(folder)}"


# --- training -----------------------------------------------------------------------------------


def _train(job, options, folder, state, config):
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
            save_checkpoint(folder / rf.CHECKPOINT, job.model, job.optimizer, state, config)
            last_saved = time.monotonic()
        return asked_to_stop()

    with polite_stop(note) as asked_to_stop:
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


def _plot(folder, history):
    columns = ("epoch", "tokens_seen", "train_loss", "val_loss")
    figure = plot_losses(*([record[key] for record in history] for key in columns))
    png = io.BytesIO()
    figure.savefig(png, dpi=150, metadata={"Software": None})
    write_bytes(folder / rf.PLOT, png.getvalue())


def _how_to_resume(folder):
    return f"  python -m ch07 finetune --resume --out {folder}"


# --- answers ------------------------------------------------------------------------------------


def _first_answers(job):
    """Of the weights that training starts from; a resumed run makes the same ones again."""
    held_out = job.splits["test"]
    return _answer(job, [held_out[i] for i in _shown(held_out)], max_new_tokens=32)


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
