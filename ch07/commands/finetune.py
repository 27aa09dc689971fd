"""The main job: data -> training -> answers -> scores, all of it kept in a run folder.

    python -m ch07 finetune [--data FILE] ...
    torchrun --nproc-per-node 2 -m ch07 finetune [--data FILE] ...

Reads top to bottom: prepare, train, answer, score, report. Results go to standard output,
progress and notes to standard error. With several processes, only the first writes and prints.
"""

import io
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from ch07.commands.training_view import TrainingView, check_log
from ch07.config import RANDOM_START, FinetuneOptions
from ch07.data.dataloader import rows_of_batches
from ch07.evaluation.held_out_answers import (
    SAMPLE_MAX_NEW_TOKENS,
    answer_entries,
    sample_indices,
    save_answers,
)
from ch07.evaluation.score_report import next_commands, print_before_after, print_scores
from ch07.generation.respond import Answer
from ch07.models.model_slice import USUAL_TARGETS, USUAL_TOKENS, choose_for_training
from ch07.models.saved_run import save_model
from ch07.runs import run_folder
from ch07.runs.new_run_folder import check_new_folder, new_run_folder
from ch07.runs.run_folder import Config
from ch07.runs.run_lock import check_resumable_folder, run_lock
from ch07.training.held_out_question import AnswerAt, answer_function, question_of_run
from ch07.training.interruption import (
    checkpoint_callback,
    explain_failures,
    report_interruption,
    stop_on_signal,
)
from ch07.training.job import Job, build_job, describe_job, distribute_job, gather_job
from ch07.training.repeated_shapes import limit_kernels
from ch07.training.resume import (
    check_same_on_all_ranks,
    check_sources,
    check_sources_exist,
    check_unchanged,
    mark_launch,
    options_from_run,
    read_resumable_config,
    report_differences,
    restore_checkpoint,
    resumed_options,
    should_resume,
)
from ch07.training.run_plan import RunPlan, find_model
from ch07.utils import distributed
from ch07.utils.atomic_files import write_bytes
from ch07.utils.console import count, log_rank0, shell_path, terminal_line
from ch07.utils.device import choose_device
from ch07.utils.errors import DivergedError, OptionError
from ch07.utils.malloc_tuning import release_freed_memory
from instruction_dataset import Entry
from train_loop import Record, TrainState, plot_losses, total_steps, train_model


def finetune(*, resume: bool = False, like: str | None = None, **given: Any) -> int:
    """Run the job with the given settings (see `FinetuneOptions`); returns the exit code.

    With `resume`, the run in `given["out"]` is resumed from its last checkpoint; all other settings
    must be unchanged. With `like`, a run folder, that run's settings are the defaults.
    """
    with distributed.process_group():
        return _resume_run(given) if should_resume(given, resume) else _start_run(given, like)


def _start_run(given: dict[str, Any], like: str | None) -> int:
    if distributed.get_world_size() > 1 and like is None:
        given = {**given, "dtype": distributed.run_on_rank0(_dtype_for_all_ranks, given)}
    options, job, config = distributed.all_ranks_or_raise(_prepare, given, like)
    check_same_on_all_ranks(config)
    with ExitStack() as stack:
        folder = distributed.run_on_rank0(_create_folder, options.out, config, stack)
        with explain_failures(folder):
            before = _answers_before_training(job)
            job = distribute_job(job, options, log_rank0)
            return _train_and_report(job, options, folder, TrainState(), config, before)


def _dtype_for_all_ranks(given: dict[str, Any]) -> str:
    """The number format that rank 0 measures: all ranks must compute in the same one."""
    dtype = given.get("dtype", "auto")
    if dtype != "auto":
        return dtype
    shape, _ = find_model(given.get("model", RANDOM_START))
    device = choose_device(given.get("device", "auto"))
    limit_kernels(shape.emb_dim)
    return choose_for_training(shape, USUAL_TOKENS, USUAL_TARGETS, device, threads=1).dtype


def _prepare(given: dict[str, Any], like: str | None) -> tuple[FinetuneOptions, Job, Config]:
    """(options, `Job`, config.json) of a new run; nothing is written."""
    options = FinetuneOptions(**given) if like is None else options_from_run(like, given)
    if like is not None and options.text and not given.get("text"):
        raise OptionError(f"{like} was trained on plain text: use python -m ch07 pretrain")
    check_new_folder(options.out)
    check_log(options)
    job = build_job(options, log_rank0)
    config = describe_job(options, job)
    if like is not None:
        check_sources(like, config, given)
        report_differences(like, config, log_rank0)
    return options, job, config


def _create_folder(out: str | None, config: Config, stack: ExitStack) -> Path:
    """A new run folder with its config, locked until `stack` is closed."""
    folder = stack.enter_context(run_lock(new_run_folder(out)))
    with explain_failures(folder):
        mark_launch(folder)
        run_folder.save_config(folder, config)
    return folder


def _resume_run(given: dict[str, Any]) -> int:
    folder = Path(given["out"])
    with ExitStack() as stack:
        distributed.run_on_rank0(_lock_resumable_folder, folder, stack)
        with explain_failures(folder):
            config = distributed.run_on_rank0(read_resumable_config, folder, log_rank0)
            options = distributed.all_ranks_or_raise(resumed_options, config, given)
            distributed.all_ranks_or_raise(check_log, options)
            how = {
                "model": "--model PATH",
                "data": "--corpus PATH" if options.text else "--data PATH",
            }
            distributed.all_ranks_or_raise(
                check_sources_exist, given["out"], options.model, options.data, how
            )
            job = distributed.all_ranks_or_raise(build_job, options, log_rank0, new=False)
            before = _answers_before_training(job)
            now = describe_job(options, job)
            distributed.all_ranks_or_raise(check_unchanged, folder, config, now, log_rank0)
            check_same_on_all_ranks(now)
            job = distribute_job(job, options, log_rank0)
            assert job.optimizer is not None  # the job has only just been built
            state = restore_checkpoint(
                folder,
                config,
                job.model,
                job.optimizer,
                train_loader=job.plan.train_loader,
                settings=job.plan.settings,
                report=log_rank0,
            )
            return _train_and_report(job, options, folder, state, config, before)


def _lock_resumable_folder(folder: Path, stack: ExitStack) -> None:
    """Lock the folder of a run until `stack` is closed."""
    check_resumable_folder(folder)
    stack.enter_context(run_lock(folder))


def _answers_before_training(job: Job) -> list[Answer]:
    """Answers of the initial weights to the sample entries; the same again in a resumed run."""
    held_out = job.plan.rows.entries("test")
    sample = [held_out[i] for i in sample_indices(held_out)]
    return answer_entries(
        job.model, job.plan.tokenizer, job.plan.style, sample, SAMPLE_MAX_NEW_TOKENS
    )


def _train_and_report(
    job: Job,
    options: FinetuneOptions,
    folder: Path,
    state: TrainState,
    config: Config,
    answers_before: Sequence[Answer],
) -> int:
    """Train to the end, answer, score, report."""
    try:
        finished = _train(job, options, folder, state, config)
    except FloatingPointError as error:
        message = _describe_divergence(error, job, options, folder, state)
        distributed.raise_on_one_rank(DivergedError(message), error)
    if not finished:
        return report_interruption(folder, state.step)
    job = gather_job(job)
    distributed.run_on_rank0(save_model, folder, job.model, job.plan.tokenizer)
    release_freed_memory()
    held_out = job.plan.rows.entries("test")
    log_rank0(f"answering {len(held_out)} held-out entries ...")
    answers = answer_entries(job.model, job.plan.tokenizer, job.plan.style, held_out)
    distributed.run_on_rank0(
        _report, folder, held_out, answers_before, answers, state, options.text
    )
    return 0


def _report(
    folder: Path,
    held_out: Sequence[Entry],
    before: Sequence[Answer],
    after: Sequence[Answer],
    state: TrainState,
    text: bool,
) -> None:
    """Save and print the answers and their scores; a run on plain `text` has none."""
    if held_out:
        print_scores(save_answers(folder, held_out, after, state.seconds))
    else:
        log_rank0("no held-out rows, so there is no score")
    rows = sample_indices(held_out)
    print_before_after([held_out[i] for i in rows], before, [after[i] for i in rows])
    place = terminal_line(str(folder), width=None)
    print(f"\nThe run is in {place}: try\n{next_commands(folder, text)}")


# --- when training diverges ---------------------------------------------------------------------
def _describe_divergence(
    error: FloatingPointError, job: Job, options: FinetuneOptions, folder: Path, state: TrainState
) -> str:
    """What to do about a number that is not finite, and which rows of the file it came from."""
    where = f"after step {state.step}: {error}"
    if "evaluation" not in str(error):
        batches = rows_of_batches(job.plan.train_loader, state.epoch)
        window = batches[state.batch : state.batch + options.accumulation_steps]
        rows = [job.plan.rows.place_of("train", i) for batch in window for i in batch]
        where += f". Its batch: {', '.join(rows)}"
    assert options.lr is not None  # the recipe has set it
    lower = f"--lr {options.lr / 4:g}"
    if options.text:  # `pretrain` has no --like
        remedy = f"start a new run with a lower learning rate, {lower}"
    else:
        remedy = (
            "start a new run with a lower learning rate:\n"
            f"  python -m ch07 finetune --like {shell_path(folder)} {lower}"
        )
    return f"{where}. Resuming would fail again; {remedy}"


# --- training -----------------------------------------------------------------------------------
def _train(
    job: Job, options: FinetuneOptions, folder: Path, state: TrainState, config: Config
) -> bool:
    """Train with checkpoints; True if training finished, False if it was asked to stop."""
    assert job.optimizer is not None  # only a finished job has none
    plan = job.plan
    n_steps = total_steps(plan.train_loader, plan.settings)
    _log_start(plan, n_steps)
    view = TrainingView(folder, options, n_steps, _answer_function(job, options))

    def on_eval(record: Record) -> None:
        distributed.run_on_rank0(view.show, state.history)

    with stop_on_signal(log_rank0) as stop_requested, view:
        distributed.run_on_rank0(view.begin, state.history)
        on_step = checkpoint_callback(
            folder,
            job.model,
            job.optimizer,
            config,
            minutes=options.checkpoint_minutes,
            last_step=n_steps,
            stop_requested=stop_requested,
        )
        train_model(
            job.trained_model,
            plan.train_loader,
            plan.val_loader,
            job.optimizer,
            plan.device,
            settings=replace(plan.settings, seed=distributed.seed_for_rank(plan.settings.seed)),
            state=state,
            on_eval=on_eval,
            on_step=on_step,
            progress=distributed.get_rank() == 0,
        )
        finished = state.step == n_steps and not distributed.any_rank(stop_requested())
        distributed.run_on_rank0(view.end, finished)
    distributed.run_on_rank0(run_folder.save_metrics, folder, state.history)
    distributed.run_on_rank0(_plot, folder, state.history)
    if state.skipped:
        log_rank0(f"{state.skipped} updates were skipped: their batches had no counted target")
    return finished


def _log_start(plan: RunPlan, n_steps: int) -> None:
    hardware = str(plan.device)
    if plan.device.type == "cpu":
        hardware += f" with {count(plan.compute.threads, 'thread')}"
    if distributed.get_world_size() > 1:
        hardware += f", {distributed.get_world_size()} processes"
    n_rows = len(plan.rows.datasets["train"])
    if plan.compute.reason:
        hardware += f" ({plan.compute.reason})"
    log_rank0(f"training on {n_rows} rows, {n_steps} steps in {plan.settings.dtype} on {hardware}")


def _answer_function(job: Job, options: FinetuneOptions) -> AnswerAt | None:
    """What answers one held-out question at each evaluation; None if nothing can.

    A model whose weights are spread over several processes can't answer on one of them alone, and
    all of them together would exchange all weights for each token.
    """
    if options.sample_tokens == 0:
        return None
    if distributed.is_sharded(job.model):
        log_rank0("with --shard, no answer is shown at an evaluation: it would take too long")
        return None
    context_length = job.model.config.context_length
    plan = job.plan
    question = question_of_run(
        plan.rows, plan.tokenizer, plan.style, context_length, text=options.text
    )
    if question is None:
        log_rank0("nothing held out can be asked, so no answer is shown at an evaluation")
        return None
    return answer_function(question, job.model, plan.tokenizer, options.sample_tokens)


def _plot(folder: Path, history: Sequence[Record]) -> None:
    figure = plot_losses(**run_folder.loss_columns(history))
    png = io.BytesIO()
    figure.savefig(png, dpi=150, metadata={"Software": None})
    write_bytes(folder / run_folder.PLOT, png.getvalue())
