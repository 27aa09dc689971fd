"""Train a run on preference pairs: direct preference optimization (DPO).

    python -m ch07 prefer RUN [DATA] [--out NEW] [--beta X]
    python -m ch07 prefer --resume --out NEW

The one idea: the run is both the starting point and the reference model, and it is not changed;
the result is a run folder of its own, to be used like any other.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch.optim import Optimizer
from torch.utils.data import DataLoader

from ch07.commands.training_view import TrainingView, check_log
from ch07.config import (
    DEFAULT_COUNTED,
    PREFER_LR,
    PREFER_LR_OF_SMALL_MODELS,
    PreferOptions,
)
from ch07.data.chat_forms import describe_conversations, merge_descriptions
from ch07.data.entries import DataFile
from ch07.data.findings import Finding, summarize_findings
from ch07.data.splits import split_rows
from ch07.data.tokenizer import end_token_id
from ch07.evaluation.held_out_answers import sample_indices
from ch07.evaluation.score_report import next_commands, print_before_after
from ch07.generation.respond import Answer, respond
from ch07.models.adapters import LanguageModel
from ch07.models.prefix_tuning import PrefixTuned
from ch07.models.pretrained import find_weights
from ch07.models.resource_estimate import count_parameters
from ch07.models.saved_run import TrainedModel, load_trained_model, save_model
from ch07.runs import run_folder
from ch07.runs.new_run_folder import check_disk_space, check_new_folder, new_run_folder
from ch07.runs.run_folder import Config
from ch07.runs.run_lock import check_resumable_folder, run_lock
from ch07.systems.preference_tuning.dpo import DPOSettings, train_on_pairs
from ch07.systems.preference_tuning.preference_data import (
    PairDataset,
    fitting_pairs,
    load_toy_preferences,
    pair_loader,
    read_preferences,
)
from ch07.training.held_out_question import AnswerAt, answer_function, question_among
from ch07.training.interruption import (
    checkpoint_callback,
    explain_failures,
    report_interruption,
    stop_on_signal,
)
from ch07.training.job import describe_run
from ch07.training.resume import (
    check_sources_exist,
    check_unchanged,
    merge_resumed_values,
    read_resumable_config,
    restore_checkpoint,
)
from ch07.utils.console import count, log_rank0, terminal_line
from ch07.utils.device import choose_device, versions
from ch07.utils.errors import DataError, OptionError, RunFolderError
from ch07.utils.validation import check_field_types
from instruction_dataset import Entry
from train_loop import TrainSettings, TrainState, make_optimizer, total_steps

WEIGHT_DECAY = 0.01  # of the matrices
SMALL_MODEL = 20_000_000  # parameters
# Stored under "preference" in config.json.
LOSS_SETTINGS = ("beta", "label_smoothing", "reduction", "counted")


@dataclass(frozen=True)
class PreferenceJob:
    """Everything that preference training needs: a run that is ready to start."""

    run: TrainedModel
    pairs: dict[str, PairDataset]  # "train", "test" and "validation"
    train_loader: DataLoader[Any]
    settings: TrainSettings
    optimizer: Optimizer
    facts: dict[str, Any]

    @property
    def model(self) -> LanguageModel:
        """The model that is trained."""
        return self.run.model


def prefer(*, resume: bool = False, **given: Any) -> int:
    """Train a run on pairs and write a new run, or resume one; returns the exit code."""
    if resume:
        return _resume_run(given)
    if "model" not in given:
        raise OptionError("prefer needs RUN, the folder to start from, or --resume --out NEW")
    options = PreferOptions(**given)
    check_new_folder(options.out)
    check_log(options)
    job = _prepare(options)
    check_disk_space(options.out, count_parameters(job.model.config)[0], can_force=False)
    with run_lock(new_run_folder(options.out)) as folder, explain_failures(folder):
        config = _config(options, job)
        run_folder.save_config(folder, config)
        return _train_and_report(job, options, folder, config, TrainState)


def _resume_run(given: dict[str, Any]) -> int:
    if "out" not in given:
        raise OptionError("--resume needs --out NEW, the folder of the run to resume")
    check_resumable_folder(given["out"])
    folder = Path(given["out"])
    with run_lock(folder), explain_failures(folder):
        config = read_resumable_config(folder, log_rank0)
        if "preference" not in config:
            raise RunFolderError(
                f"{folder} wasn't trained on pairs; resume it with: "
                f"{run_folder.resume_command(folder)}"
            )
        options = _stored_options(config, given)
        check_log(options)
        how = {"model": "prefer RUN --resume", "data": "prefer RUN DATA --resume"}
        check_sources_exist(given["out"], options.model, options.data, how)
        job = _prepare(options)
        check_unchanged(folder, config, _config(options, job), log_rank0)
        restore = partial(
            restore_checkpoint,
            folder,
            config,
            job.model,
            job.optimizer,
            train_loader=job.train_loader,
            settings=job.settings,
            report=log_rank0,
        )
        return _train_and_report(job, options, folder, config, restore)


def _stored_options(config: Config, given: dict[str, Any]) -> PreferOptions:
    """The options of the run, with what may change when it is resumed."""
    try:
        known = {
            "counted": DEFAULT_COUNTED,  # as in runs of older versions, which don't mention it
            **config["options"],
            **config["preference"],
        }
        check_field_types(PreferOptions, known)
        return PreferOptions(**merge_resumed_values(known, given))
    except TypeError as error:
        raise RunFolderError(f"{given['out']}/{run_folder.CONFIG} was altered: {error}") from None


def _prepare(options: PreferOptions) -> PreferenceJob:
    """Everything that training needs; nothing is written."""
    run = load_trained_model(options.model, choose_device(options.device))
    if isinstance(run.model, PrefixTuned):
        raise OptionError(
            f"{options.model} learned only a prefix, and its weights are frozen: choose a run "
            "whose own weights were trained, or corrected by LoRA"
        )
    if options.data is None:
        file = load_toy_preferences(options.seed)
    else:
        file = read_preferences(options.data, options.skip_bad_rows)
    pairs, findings = _split(file, run, options)
    for line in summarize_findings(file.findings + findings):
        log_rank0(f"data: {line}")
    if not len(pairs["train"]):
        raise DataError(f"{file.path}: no pair is left to train on")
    lr = _learning_rate(options, run)
    settings = TrainSettings(
        num_epochs=options.epochs,
        peak_lr=lr,
        eval_freq=options.eval_freq,
        max_steps=options.max_steps,
        seed=options.seed,
    )
    return PreferenceJob(
        run=run,
        pairs=pairs,
        train_loader=pair_loader(
            pairs["train"],
            options.batch_size,
            options.seed,
            pad_token_id=end_token_id(run.tokenizer),
        ),
        settings=settings,
        optimizer=make_optimizer(run.model.parameters(), lr, WEIGHT_DECAY),
        facts=_facts(file, run, pairs),
    )


def _learning_rate(options: PreferOptions, run: TrainedModel) -> float:
    """The peak rate that was given, or the default for a model of this size."""
    if options.lr is not None:
        return options.lr
    n_parameters, _ = count_parameters(run.model.config)
    return float(PREFER_LR_OF_SMALL_MODELS if n_parameters < SMALL_MODEL else PREFER_LR)


def _split(
    file: DataFile, run: TrainedModel, options: PreferOptions
) -> tuple[dict[str, PairDataset], list[Finding]]:
    """({"train", "test", "validation"}: `PairDataset`}, findings)."""
    pairs: dict[str, PairDataset] = {}
    findings: list[Finding] = []
    for name, rows in split_rows(file.entries, seed=options.seed).items():
        pairs[name], findings_of_part = fitting_pairs(
            file,
            rows,
            tokenizer=run.tokenizer,
            style=run.style,
            context_length=run.model.config.context_length,
            skip_bad_rows=options.skip_bad_rows,
            counted=options.counted,
        )
        findings += findings_of_part
    return pairs, findings


def _train_and_report(
    job: PreferenceJob,
    options: PreferOptions,
    folder: Path,
    config: Config,
    restore_state: Callable[[], TrainState],
) -> int:
    """Train, answer a few held-out prompts before and after, and write the new run."""
    tests = [{**pair, "output": pair["chosen"]} for pair in job.pairs["test"].pairs]
    tests = [tests[i] for i in sample_indices(tests)]
    before = _answers(job.run, tests)
    state, finished = _train(job, options, folder, config, restore_state)
    if not finished:
        return report_interruption(folder, state.step)
    save_model(folder, job.model, job.run.tokenizer)
    _print_metrics(state.history)
    print_before_after(tests, before, _answers(job.run, tests))
    place = terminal_line(str(folder), width=None)
    print(f"\nThe run is in {place}: try\n{next_commands(folder)}")
    return 0


def _train(
    job: PreferenceJob,
    options: PreferOptions,
    folder: Path,
    config: Config,
    restore_state: Callable[[], TrainState],
) -> tuple[TrainState, bool]:
    """(the `TrainState`, whether training finished); with checkpoints, as in `finetune`."""
    end_id = end_token_id(job.run.tokenizer)
    held_out = pair_loader(job.pairs["validation"], options.batch_size, pad_token_id=end_id)
    n_steps = total_steps(job.train_loader, job.settings)
    log_rank0(f"training on {count(len(job.pairs['train']), 'pair')}, {count(n_steps, 'step')}")
    view = TrainingView(folder, options, n_steps, _answer_function(job, options))

    def restore_and_begin() -> TrainState:
        state = restore_state()
        view.begin(state.history)
        return state

    with stop_on_signal(log_rank0) as stop_requested, view:
        on_step = checkpoint_callback(
            folder,
            job.model,
            job.optimizer,
            config,
            minutes=options.checkpoint_minutes,
            last_step=n_steps,
            stop_requested=stop_requested,
        )
        state = train_on_pairs(
            job.model,
            job.train_loader,
            held_out,
            job.optimizer,
            job.settings,
            dpo=DPOSettings(options.beta, options.label_smoothing, options.reduction),
            device=next(job.model.parameters()).device,
            restore_state=restore_and_begin,
            on_eval=view.show,
            on_step=on_step,
        )
        finished = state.step == n_steps and not stop_requested()
        view.end(finished)
    return state, finished


def _answer_function(job: PreferenceJob, options: PreferOptions) -> AnswerAt | None:
    """What answers one held-out prompt at each evaluation; None if there is nothing to answer."""
    if options.sample_tokens == 0:
        return None
    pairs = job.pairs["validation"].pairs or job.pairs["test"].pairs
    entries = [{**pair, "output": pair["chosen"]} for pair in pairs]
    run = job.run
    question = question_among(entries, run.tokenizer, run.style, job.model.config.context_length)
    if question is None:
        log_rank0("nothing held out can be asked, so no answer is shown at an evaluation")
        return None
    return answer_function(question, job.model, run.tokenizer, options.sample_tokens)


def _config(options: PreferOptions, job: PreferenceJob) -> Config:
    """config.json of the new run: what `finetune` writes, and the settings of the loss."""
    config = describe_run(
        options,
        model_config=job.model.config,
        style=job.run.style,
        settings=job.settings,
        facts=job.facts,
    )
    return {**config, "preference": {name: config["options"].pop(name) for name in LOSS_SETTINGS}}


def _facts(file: DataFile, run: TrainedModel, pairs: dict[str, PairDataset]) -> dict[str, Any]:
    conversations = merge_descriptions(run.conversations, describe_conversations(file.entries))
    return {
        **({} if conversations is None else {"conversations": conversations}),
        "data_sha256": file.sha256,
        "start_sha256": find_weights(run.name).sha256(),
        "rows": {name: len(dataset) for name, dataset in pairs.items()},
        "tokenizer": run.tokenizer.name,
        "versions": versions(next(run.model.parameters()).device),
    }


def _answers(run: TrainedModel, entries: Sequence[Entry]) -> list[Answer]:
    return respond(run.model, run.tokenizer, entries, run.style, max_new_tokens=64)


def _print_metrics(records: Sequence[dict[str, Any]]) -> None:
    """Print the first and the last record as a table."""
    print("\nstep   pairs       loss  margin  accuracy")
    for record in (records[0], records[-1]):
        for prefix, pairs in (("train", "training"), ("val", "held out")):
            values = [record[f"{prefix}_{metric}"] for metric in ("loss", "margin", "accuracy")]
            if None not in values:
                numbers = "  ".join(f"{value:>7.4f}" for value in values)
                print(f"{record['step']:>4}   {pairs:<9} {numbers}")
