"""Score a finished run on entries with known answers, with counts and intervals.

python -m ch07 evaluate RUN [--data FILE] [--losses] [--json] [--judge BACKEND] [--weights FORMAT]
"""

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from torch import nn

from ch07.config import ANSWER_TOKENS, CHATGLM_LENGTH
from ch07.data.chat_dataset import fit_conversations
from ch07.data.chat_forms import entries_of_turns
from ch07.data.data_files import Source
from ch07.data.entries import load_entries, read_data
from ch07.data.findings import Finding, summarize_findings
from ch07.data.prompt_styles import CHATGLM_STYLE
from ch07.data.reference_formats.chatglm_evaluation import chatglm_evaluation_rows
from ch07.data.reference_formats.label_row_dataset import (
    chatglm_tokens,
    single_question,
    with_pairs,
)
from ch07.evaluation.judge_scores import HUNDRED, SCALES
from ch07.evaluation.llm_judge import judge as judge_answers
from ch07.evaluation.llm_judge import judgement_lines, summarise
from ch07.evaluation.metrics import score_answers
from ch07.evaluation.score_report import print_scores
from ch07.generation.backends import open_backend
from ch07.generation.completion import Complete
from ch07.generation.respond import answer_prompts, respond
from ch07.models.architectures import BaseModel
from ch07.models.lora import unmerge
from ch07.models.model_slice import use_fastest_threads
from ch07.models.model_to_answer import load_model_to_answer
from ch07.models.peft_format import load_adapter
from ch07.models.resource_estimate import MAX_ANSWERS_AT_ONCE
from ch07.models.saved_run import Run, TrainedModel, load_run
from ch07.runs import run_folder
from ch07.training.resume import check_data, options_from_run, report_version_changes
from ch07.training.run_plan import build_plan
from ch07.utils.console import count, terminal_line
from ch07.utils.device import versions
from ch07.utils.errors import InputError, OptionError, RunFolderError
from ch07.utils.exit_codes import EXIT_FAILED
from instruction_dataset import Entry
from train_loop import evaluate_model


def evaluate(
    folder: str,
    *,
    data: str | list[str] | None = None,
    every_turn: bool = False,
    device: str = "auto",
    max_new_tokens: int = ANSWER_TOKENS,
    as_json: bool = False,
    skip_bad_rows: bool = False,
    judge: str | None = None,
    judge_model: str | None = None,
    judge_scale: str = HUNDRED.name,
    losses: bool = False,
    weights: str = "float32",
    as_chatglm: bool = False,
) -> int:
    """Answer and score every entry of `data`, or the run's own held-out entries; returns 0.

    With a `judge` (a backend's name), a language model scores the answers, too; returns 1 if it
    stopped before the last one. Of a conversation the last answer is scored, or with `every_turn`
    each, after the true answers before it. With `as_chatglm`, prompts and references are those of
    `chatglm_evaluation_rows`. With `losses`, the last logged losses are computed again instead.
    Changes nothing in the run folder.
    """
    if losses:
        _check_options_of_losses(every_turn, as_chatglm, weights)
        return recompute_losses(folder, data, device, as_json)
    complete = _open_judge(judge, judge_model, device)
    run = load_model_to_answer(folder, device, weights, _log)
    entries = _entries_to_score(run, data, skip_bad_rows)
    if every_turn:
        entries = entries_of_turns(entries)
    device_used = next(run.model.parameters()).device
    use_fastest_threads(run.model.config, MAX_ANSWERS_AT_ONCE, device_used)
    if as_chatglm:
        entries, prompts = _entries_of_chatglm(run, entries)
        answers = answer_prompts(run.model, run.tokenizer, prompts, max_new_tokens)
    else:
        entries = _fit_prompts(run, entries)
        answers = respond(run.model, run.tokenizer, entries, run.style, max_new_tokens)
    texts = [answer.text for answer in answers]
    stopped = [answer.stopped == "end" for answer in answers]
    scores = score_answers(entries, texts, stopped)
    if not as_json:
        print_scores(scores)
    if complete is not None:
        _log(f"judging {len(texts)} answers ...")
        judgement = judge_answers(complete, entries, texts, SCALES[judge_scale])
        scores["judge"] = summarise(judgement, entries, texts)
    return _print_remaining(scores, as_json)


def _check_options_of_losses(every_turn: bool, as_chatglm: bool, weights: str) -> None:
    """OptionError for an option that would change nothing."""
    flags = {
        "--every-turn": every_turn,
        "--as-chatglm": as_chatglm,
        f"--weights {weights}": weights != "float32",
    }
    for flag, is_given in flags.items():
        if is_given:
            raise OptionError(f"--losses computes as in training: leave out {flag}")


def _open_judge(name: str | None, model: str | None, device: str) -> Complete | None:
    """The judge as a `complete`; OptionError, before anything is answered, if it can't be asked."""
    if name is None:
        if model is not None:
            raise OptionError("--judge-model needs --judge ADDRESS, the server with that model")
        return None
    if "://" in name and not model:
        raise OptionError(f"--judge {name} needs --judge-model: which of its models to ask")
    return open_backend(name, model, raw=False, device=device, report=_log)


def _print_remaining(scores: dict[str, Any], as_json: bool) -> int:
    """Print the scores that have not been printed yet; returns the exit code."""
    judged = scores.get("judge")
    if as_json:
        print(json.dumps(scores, indent=2))
    elif judged:
        print("\n" + "\n".join(judgement_lines(judged)))
    if judged and judged["error"] is not None:
        n = count(judged["n_judged"], "answer")
        _log(f"error: the judge stopped after {n}: {judged['error']}")
        return EXIT_FAILED
    return 0


def recompute_losses(
    folder: str, data: Source | None = None, device: str = "auto", as_json: bool = False
) -> int:
    """The losses of a run's last evaluation, computed again from its weights.

    On the same machine, with the same versions, they are equal to the bit: returns 0, else 1. With
    LoRA, whose corrections have been merged and are subtracted again, they are equal within 0.001.
    """
    run = load_run(folder)
    given = {"device": device, "data": data, "model": str(folder), "force": True}
    given = {name: value for name, value in given.items() if value not in (None, "auto")}
    plan = build_plan(options_from_run(folder, given), lambda text: None)
    check_data(folder, plan)
    report_version_changes(run.config, {"facts": {"versions": versions(plan.device)}}, _log)
    logged = _last_evaluation(folder)
    # the training loss was estimated on the first batches of the epoch that had just been trained
    sampler: Any = plan.train_loader.batch_sampler
    sampler.set_epoch(max(0, math.ceil(logged["epoch"]) - 1))
    model = _unmerged_model(run).to(plan.device)
    try:
        losses = evaluate_model(
            model,
            plan.train_loader,
            plan.val_loader,
            plan.device,
            plan.settings.eval_iter,
            ignore_index=plan.settings.ignore_index,
            dtype=plan.settings.dtype,
            cross_entropy=plan.settings.cross_entropy,
            batch_loss=plan.settings.batch_loss,
        )
    except FloatingPointError as error:
        raise InputError(f"{folder}: {error}: its weights can't be used") from None
    found: dict[str, Any] = {"step": logged["step"]}
    for name, now in zip(("train_loss", "val_loss"), losses, strict=True):
        found[name] = {"logged": logged[name], "now": now, "equal": _equal(run, logged[name], now)}
    same = all(found[name]["equal"] for name in ("train_loss", "val_loss"))
    if as_json:
        print(json.dumps(found, indent=2))
        return 0 if same else EXIT_FAILED
    for name in ("train_loss", "val_loss"):
        a, b, equal = found[name].values()
        difference = "they differ" if None in (a, b) else f"they differ by {abs(a - b):.3g}"
        verdict = "equal" if a == b else "equal within rounding" if equal else difference
        print(f"{name} at step {logged['step']}: logged {a}, now {b}: {verdict}")
    return 0 if same else EXIT_FAILED


def _unmerged_model(run: Run) -> nn.Module:
    """The model with its corrections beside the weights, as they were in training."""
    if run.config["options"].get("method") != "lora":
        return run.model
    merged = cast(BaseModel, load_adapter(run.model, run.folder / run_folder.ADAPTER))
    return unmerge(merged).eval()


def _equal(run: Run, logged: float | None, now: float | None) -> bool:
    """Equal to the bit; with LoRA, whose corrections were merged and subtracted, within 0.001."""
    if logged is None or now is None or run.config["options"].get("method") != "lora":
        return logged == now
    return abs(logged - now) <= 1e-3


def _log(text: str) -> None:
    print(terminal_line(text, width=None), file=sys.stderr)


def _last_evaluation(folder: str) -> dict[str, Any]:
    """The record of the last evaluation; RunFolderError if it holds no losses."""
    records = run_folder.read_metrics(folder)
    if not records or None in (records[-1]["epoch"], records[-1]["train_loss"]):
        raise RunFolderError(f"{folder}/{run_folder.METRICS} holds no losses")
    return records[-1]


def _fit_prompts(run: TrainedModel, entries: Sequence[Entry]) -> Sequence[Entry]:
    """The entries, of which conversations that exceed the context lost their oldest turns.

    A run on ChatGLM's rows reads a whole conversation as one question.
    """
    if run.style == CHATGLM_STYLE:
        return [single_question(entry) for entry in entries]
    findings: list[Finding] = []
    places = [f"entry {i}" for i in range(1, len(entries) + 1)]
    context = run.model.config.context_length
    fitting = fit_conversations(entries, places, run.tokenizer, run.style, context, findings)
    for line in summarize_findings(findings):
        _log(f"data: {line}")
    return fitting


def _entries_of_chatglm(
    run: TrainedModel, entries: Sequence[Entry]
) -> tuple[list[Entry], list[list[int]]]:
    """(entries with the reference answers of ChatGLM's evaluation, the prompts of that evaluation).

    OptionError unless the run was trained on ChatGLM's rows.
    """
    if run.style != CHATGLM_STYLE:
        raise OptionError(
            "--as-chatglm needs a run of python -m ch07 finetune --rows chatglm, but "
            f"{run.name} has the prompt style {run.style.name!r}"
        )
    n_system = sum(bool(entry.get("system")) for entry in entries)
    if n_system:
        _log(f"data: {count(n_system, 'system message')} left out: ChatGLM's prompts have none")
    pairs = [with_pairs(entry) for entry in entries]
    rows, dropped = chatglm_evaluation_rows(
        pairs,
        run.tokenizer,
        chatglm_tokens(run.tokenizer),
        original=True,
        **_chatglm_lengths(run),
    )
    if dropped:
        _log(f"data: {count(len(dropped), 'row')} left out: no question or no answer")
    left_out = {i for i, _ in dropped}
    kept = [entry for i, entry in enumerate(entries) if i not in left_out]
    scored: list[Entry] = []
    for entry, row in zip(kept, rows, strict=True):
        reference = run.tokenizer.decode(row.labels[:-2])  # without [gMASK] and bos
        scored.append({**entry, "output": reference})
    return scored, [row.ids for row in rows]


def _chatglm_lengths(run: TrainedModel) -> dict[str, int]:
    """The lengths at which a run cut questions and answers; ChatGLM evaluates with the same."""
    options = run.config["options"] if isinstance(run, Run) else {}
    names = ("max_source_length", "max_target_length")
    return {name: options.get(name) or CHATGLM_LENGTH for name in names}


def _entries_to_score(
    run: TrainedModel, data: Source | None, skip_bad_rows: bool
) -> Sequence[Entry]:
    """The entries of the file, or else the run's own held-out ones."""
    if data is not None:
        file = read_data(data, skip_bad_rows)
        for line in summarize_findings(file.findings):
            _log(f"data: {line}")
        return file.entries
    path = Path(run.name) / run_folder.RESPONSES
    if not isinstance(run, Run) or not path.is_file():
        raise RunFolderError(f"{run.name} has no held-out entries: name some with --data FILE")
    return load_entries(path)
