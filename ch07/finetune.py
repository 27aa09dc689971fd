"""The main job: data -> training -> answers -> scores, all of it kept in a run folder.

    python -m ch07 finetune [--data FILE] ...
    torchrun --nproc-per-node 2 -m ch07 finetune [--data FILE] ...

Reads top to bottom: prepare, train, answer, score, report. Results go to standard output,
progress and notes to standard error. Of several processes the first one writes and speaks.
"""

import io
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ch07 import ranks
from ch07 import run_folder as rf
from ch07.claim import check_new_folder, check_run, held, new_run_folder
from ch07.files import write_bytes
from ch07.going_on import (
    check_alike,
    check_sources,
    check_the_same,
    goes_on,
    mark_launch,
    options_like,
    options_to_go_on,
    resumed,
    stored_config,
    tell_differences,
)
from ch07.held_out import answer, first_answers, keep_answers, shown
from ch07.keeping import ending_in_words, keeper, note, stopped_politely, what_is_kept
from ch07.machine import give_freed_memory_back
from ch07.options import FinetuneOptions, OptionError
from ch07.prepare import gathered, prepare, spread
from ch07.report import next_steps, print_before_after, print_scores
from ch07.stopping import polite_stop
from train_loop import TrainState, plot_losses, total_steps, train_model


def finetune(given, resume=False, like=None):
    """Run the job with the options in `given` (a dict); returns the exit code.

    With `resume`, the run in `given["out"]` goes on from its last checkpoint; what is given
    besides must be as it was. With `like`, a run folder, its options hold where none is given.
    """
    with ranks.group():
        return _go_on(given) if goes_on(given, resume) else _begin(given, like)


def _begin(given, like):
    def ready():
        options = FinetuneOptions(**given) if like is None else options_like(like, given)
        if like is not None and options.text and not given.get("text"):
            raise OptionError(f"{like} read plain text: read with python -m ch07 pretrain")
        check_new_folder(options.out)
        job = prepare(options, note)
        if like is not None:
            check_sources(like, options, job, given)
            tell_differences(like, options, job, note)
        return options, job

    options, job = ranks.agreed(ready)
    config = rf.describe(options, job)
    check_alike(config)
    with ExitStack() as until_the_end:

        def claimed():
            return until_the_end.enter_context(held(new_run_folder(options.out)))

        folder = ranks.from_first(claimed)
        with ending_in_words(folder):
            ranks.from_first(lambda: (mark_launch(folder), rf.save_config(folder, config)))
            before = first_answers(job)
            job = spread(job, options, note)
            return _finish(job, options, folder, TrainState(), config, before)


def _go_on(given):
    folder = Path(given["out"])
    with ExitStack() as until_the_end:

        def claimed():
            check_run(folder)
            return until_the_end.enter_context(held(folder))

        ranks.from_first(claimed)
        with ending_in_words(folder):
            config = ranks.from_first(lambda: stored_config(folder, note))
            options = ranks.agreed(lambda: options_to_go_on(config, given))
            job = ranks.agreed(lambda: prepare(options, note, new=False))
            before = first_answers(job)
            now = rf.describe(options, job)
            ranks.agreed(lambda: check_the_same(folder, config, now, note))
            check_alike(now)
            job = spread(job, options, note)
            state = resumed(folder, config, job.model, job.optimizer, note)
            return _finish(job, options, folder, state, config, before)


def _finish(job, options, folder, state, config, before):
    """Train to the end, answer, score, report."""
    try:
        whole = _train(job, options, folder, state, config)
    except FloatingPointError as error:
        about = _about_numbers(error, job, options, folder, state)
        ranks.raise_once(FloatingPointError(about), error)
    if not whole:
        return stopped_politely(folder, state.step)
    job = gathered(job)
    ranks.from_first(lambda: rf.save_model(folder, job.model))
    give_freed_memory_back()
    held_out = job.splits["test"]
    note(f"answering {len(held_out)} held-out entries ...")
    answers = answer(job, held_out)
    ranks.from_first(lambda: _report(folder, held_out, before, answers, state, options.text))
    return 0


def _report(folder, held_out, before, after, state, text):
    if held_out:
        print_scores(keep_answers(folder, held_out, after, state.seconds))
    else:
        note("no held-out rows, so there is no score")
    rows = shown(held_out)
    print_before_after([held_out[i] for i in rows], before, [after[i] for i in rows])
    print(f"\nThe run is in {folder}: try\n{next_steps(folder, text)}")


# --- when it can't go on ------------------------------------------------------------------------


def _about_numbers(error, job, options, folder, state):
    """What to do about a number that is not finite, and in which rows of the reader's file."""
    where = f"after step {state.step}: {error}"
    if "evaluation" not in str(error):
        sampler = job.train_loader.batch_sampler
        sampler = getattr(sampler, "batches", sampler)  # of all ranks
        sampler.set_epoch(state.epoch)
        window = list(sampler)[state.batch : state.batch + options.accumulation_steps]
        rows = (job.place_of(i) for batch in window for i in batch)
        where += f". Its batch: {', '.join(rows)}"
    anew = f"python -m ch07 finetune --like {folder} --lr {options.lr / 4:g}"
    return (
        f"{where}. A resume would meet the same numbers; begin anew, more slowly:\n  {anew}\n"
        f"{what_is_kept(folder)}"
    )


# --- training -----------------------------------------------------------------------------------


def _train(job, options, folder, state, config):
    """Train with checkpoints; True if it came to its end, False if it was asked to stop."""
    n_steps = total_steps(job.train_loader, job.settings)
    rows = len(job.splits["train"])
    on = f"{job.device}" + f", {ranks.size()} processes" * (ranks.size() > 1)
    note(f"training on {rows} rows, {n_steps} steps in {job.settings.dtype} on {on}")

    def on_eval(record):
        ranks.from_first(lambda: rf.save_metrics(folder, state.history))

    with polite_stop(note) as asked_to_stop:
        minutes = options.checkpoint_minutes
        on_step = keeper(folder, job, config, minutes, n_steps, asked_to_stop)
        train_model(
            job.trained,
            job.train_loader,
            job.val_loader,
            job.optimizer,
            job.device,
            replace(job.settings, seed=ranks.own_seed(job.settings.seed)),
            state,
            on_eval,
            on_step,
            progress=ranks.rank() == 0,
        )
    ranks.from_first(lambda: rf.save_metrics(folder, state.history))
    ranks.from_first(lambda: _plot(folder, state.history))
    if state.skipped:
        note(f"{state.skipped} updates were skipped: their batches had no counted target")
    return state.step == n_steps and not ranks.any_of(asked_to_stop())


def _plot(folder, history):
    columns = ("epoch", "tokens_seen", "train_loss", "val_loss")
    figure = plot_losses(*([record[key] for record in history] for key in columns))
    png = io.BytesIO()
    figure.savefig(png, dpi=150, metadata={"Software": None})
    write_bytes(folder / rf.PLOT, png.getvalue())
