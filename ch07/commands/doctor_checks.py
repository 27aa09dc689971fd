"""What the doctor checks: machine, data, tokens, the run to come; a `Check` for each thing.

The one idea: a check has a level, a sentence with its figure, the rows it is about and, where
something is wrong, the command that fixes it.
"""

import os
import platform
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from ch07.config import FinetuneOptions
from ch07.data import dataset_statistics
from ch07.data.dataset_statistics import RowPair
from ch07.data.findings import group_by_kind
from ch07.data.reference_formats.label_row_dataset import JOINT_ROWS
from ch07.data.row_checks import BOUNDARY_MERGE
from ch07.data.splits import group_key
from ch07.data.tokenizer import TokenizerError, load_tokenizer
from ch07.models import hub_download
from ch07.models.hub_download import PUBLISHED
from ch07.models.resource_estimate import count_parameters, format_bytes, format_duration
from ch07.runs.new_run_folder import check_disk_space, check_new_folder
from ch07.systems.data_curation.quality_flags import FLAGS, count_flags
from ch07.training.cost_estimate import estimate_costs, memory_advice
from ch07.training.dry_run import MAX_STEP_SECONDS, dry_run
from ch07.training.run_plan import RunPlan
from ch07.utils.console import count
from ch07.utils.dependencies import INSTALL_COMMAND, read_requirements, unmet_requirements
from ch07.utils.device import available_memory, has_bfloat16_units
from ch07.utils.errors import UserError

HELLO_TEXT = "Hello world"
HELLO_IDS = [15496, 995]  # from the documentation of transformers' GPT2Tokenizer
FEW_STEPS = 100
MIN_FREE_DISK = 1e9  # bytes: ten runs of the default size

Level = Literal["ok", "look", "wrong"]


@dataclass(frozen=True)
class Check:
    """One thing that was checked.

    "wrong" means that training would fail or compute the wrong thing, "look" that a person should
    decide.
    """

    part: str
    level: Level
    text: str
    fix: str = ""  # the command that fixes it, if there is one
    rows: tuple[str, ...] = ()  # their places in the file
    changes_results: bool = False  # whether it may change what the model learns, or its score


# --- the machine --------------------------------------------------------------------------------
def check_machine() -> list[Check]:
    """`Check`s of Python, packages, processor, memory, disk and tokenizer."""
    part = "machine"
    python = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    threads = f"threads: {torch.get_num_threads()}, cores: {os.cpu_count()}"
    checks = [Check(part, "ok", f"{python}, {threads}")]
    unmet = unmet_requirements()
    if unmet:
        checks.append(
            Check(part, "wrong", f"requirements: {'; '.join(unmet)}", fix=INSTALL_COMMAND)
        )
    else:
        n = len(read_requirements())
        text = f"all {n} requirements are installed, in the required versions"
        checks.append(Check(part, "ok", text))
    units = "has" if has_bfloat16_units(torch.device("cpu")) else "has no"
    cuda = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    checks.append(Check(part, "ok", f"the processor {units} bfloat16 units; CUDA: {cuda}"))
    disk = shutil.disk_usage(Path.cwd()).free
    memory = available_memory(torch.device("cpu"))
    text = f"{format_bytes(memory)} of memory and {format_bytes(disk)} of disk are free"
    checks.append(Check(part, "ok" if disk >= MIN_FREE_DISK else "look", text))
    return [*checks, _check_tokenizer()]


def _check_tokenizer() -> Check:
    part = "machine"
    try:
        tokenizer = load_tokenizer()
    except TokenizerError as error:
        return Check(part, "wrong", f"tokenizer: {error}", fix=INSTALL_COMMAND)
    text = f"tokenizer: GPT-2, {tokenizer.n_vocab:,} tokens"
    if tokenizer.encode_ordinary(HELLO_TEXT) != HELLO_IDS:
        return Check(part, "wrong", text, fix=INSTALL_COMMAND)
    return Check(part, "ok", text)


# --- the data -----------------------------------------------------------------------------------
def check_data(plan: RunPlan, options: FinetuneOptions, clean: str) -> list[Check]:
    """`Check`s of the file, its rows and its splits; `clean` is the command that fixes the file."""
    return [*_check_rows(plan, options, clean), *_check_splits(plan)]


def _check_rows(plan: RunPlan, options: FinetuneOptions, clean: str) -> Iterator[Check]:
    part = "data"
    file = plan.rows.file
    sizes = {name: len(dataset) for name, dataset in plan.rows.datasets.items()}
    by_split = ", ".join(f"{n:,} {name}" for name, n in sizes.items())
    n_usable = sum(sizes.values())
    yield Check(part, "ok", f"{file.path}: {n_usable:,} rows can be used: {by_split}")
    for note in plan.log.notes:
        yield Check(part, "look", note.removeprefix("data: "), changes_results=True)
    for (level, what), places in group_by_kind(plan.rows.findings).items():
        if what == BOUNDARY_MERGE:  # has a check of its own, with the tokens
            continue
        refused = level == "error" and not options.skip_bad_rows
        yield Check(
            part,
            "wrong" if refused else "look",
            f"{'' if level == 'note' else 'left out: '}{what} ({len(places)})",
            fix=clean if refused else "",
            rows=tuple(places),
            changes_results=True,
        )
    groups = dataset_statistics.conflicting_answers(file.entries)
    if groups:
        rows = tuple(file.places[row] for group in groups for row in group)
        text = f"{count(len(groups), 'prompt')} asked more than once, with different answers"
        yield Check(part, "look", text, rows=rows, changes_results=True)
    flagged = count_flags(file.entries)
    if flagged:
        numbers = dict.fromkeys(row for found in flagged.values() for row in found)
        kinds = "; ".join(f"{FLAGS[name]} ({len(found)})" for name, found in flagged.items())
        text = f"{count(len(numbers), 'row')} may teach something wrong: {kinds}"
        rows = tuple(file.places[row] for row in numbers)
        yield Check(part, "look", text, rows=rows, changes_results=True)


def _check_splits(plan: RunPlan) -> Iterator[Check]:
    part = "splits"
    file = plan.rows.file
    splits = {name: dataset.indices for name, dataset in plan.rows.datasets.items()}
    trained = {group_key(file.entries[row]) for row in splits["train"]}
    for name in ("test", "validation"):
        if not splits[name]:
            continue
        leaks = [row for row in splits[name] if group_key(file.entries[row]) in trained]
        text = f"{len(leaks)} of {len(splits[name])} {name} prompts are also in training"
        if leaks:
            text += "; without a `split` field, rows are split so that this can't happen"
        rows = tuple(file.places[row] for row in leaks)
        yield Check(part, "look" if leaks else "ok", text, rows=rows, changes_results=bool(leaks))
    n_held_out = len(splits["test"]) + len(splits["validation"])
    yield _check_near_duplicates(
        f"of {n_held_out} held-out prompts closely resemble a training prompt",
        plan.rows.near_duplicates,
        file.places,
    )
    yield _check_near_duplicates(
        f"of {len(splits['train']):,} training prompts closely resemble another",
        dataset_statistics.near_duplicates_within_training(file.entries, plan.rows.datasets),
        file.places,
    )


def _check_near_duplicates(
    text: str, pairs: Sequence[RowPair] | None, places: Sequence[str]
) -> Check:
    """A `Check` of pairs of rows, the most similar first; None: there are too many rows."""
    part = "splits"
    if pairs is None:
        return Check(part, "ok", f"too many rows to count how many {text}")
    most_similar = sorted(pairs, key=lambda pair: -pair[2])
    rows = tuple(f"{places[a]} and {places[b]} ({score:.2f})" for a, b, score in most_similar)
    n = len({a for a, _, _ in pairs})
    level: Level = "look" if n else "ok"
    return Check(part, level, f"{n:,} {text}", rows=rows, changes_results=n > 0)


# --- the tokens ---------------------------------------------------------------------------------
def check_tokens(
    plan: RunPlan, options: FinetuneOptions
) -> tuple[list[Check], dict[str, Any], list[str]]:
    """(`Check`s, their figures, the lines of a histogram of the rows' lengths).

    The figures: what each limit costs, how many targets of each role count, and the rows whose
    tokens would merge where prompt and answer meet.
    """
    lengths = plan.rows.lengths
    allowed = plan.allowed_max_length
    tokens = sorted(n for n, _ in lengths)
    limits = set(dataset_statistics.informative_limits(lengths, plan.config.context_length))
    if allowed:
        limits.add(allowed)
    costs = [dataset_statistics.truncation_cost(lengths, limit) for limit in sorted(limits)]
    lines = list(dataset_statistics.histogram(tokens, allowed))
    for cost in costs:
        chosen = " (chosen)" if cost.limit == allowed else ""
        end, answer = (f"{100 * n / cost.rows:.1f} %" for n in (cost.end, cost.answer))
        place = f"at {cost.limit} tokens{chosen}"
        lines.append(f"{place} {end} of rows lose their end, {answer} their whole answer")
    train = plan.rows.datasets["train"]
    roles = dataset_statistics.counted_targets_by_role(
        train, plan.tokenizer, plan.style, options.loss_on, allowed
    )
    merge_check, merges = _check_boundary_merges(plan, options.rows in JOINT_ROWS)
    median = tokens[len(tokens) // 2]
    checks = [
        Check("tokens", "ok", _describe_counted_targets(roles, train.lengths.tolist(), allowed)),
        merge_check,
        # the histogram is printed below this one
        Check(
            "tokens",
            "ok",
            f"{tokens[0]} to {tokens[-1]} tokens a row, half of them at most {median}:",
        ),
    ]
    costs_as_json = [asdict(cost) for cost in costs]
    figures = {"limits": costs_as_json, "counted": roles, "boundary_merges": merges}
    return checks, figures, lines


def _describe_counted_targets(
    roles: dict[str, int], lengths: list[int], allowed_max_length: int | None
) -> str:
    """Which share of all targets the loss counts, and how the counted ones divide by role."""
    n_counted = sum(roles.values())
    share = n_counted / sum(min(n, allowed_max_length or n) for n in lengths)
    by_role = ", ".join(f"{role} {100 * n / n_counted:.0f} %" for role, n in roles.items())
    return f"the loss counts {100 * share:.0f} % of all targets; of these: {by_role}"


def _check_boundary_merges(plan: RunPlan, joint: bool) -> tuple[Check, dict[str, Any]]:
    """(`Check`, its figures): rows that have other tokens if tokenized as one text.

    `joint`: in this run they are.
    """
    merges = dataset_statistics.find_boundary_merges(plan.rows, plan.tokenizer, plan.style)
    n = len(merges.rows)
    examples = "; ".join(example["tokens"] for example in merges.examples)
    if joint:
        text = (
            f"{n:,} of {merges.n_rows:,} rows have a token that spans prompt and answer, because "
            "both are tokenized as one text"
        )
        how = "; at inference the prompt ends before it"
    else:
        text = (
            f"{n:,} of {merges.n_rows:,} rows would be tokenized differently where the answer "
            f"begins if the prompt (which ends in {merges.template_end!r}) and the answer were one "
            "text"
        )
        how = "; here they are tokenized separately, in training and inference"
    if n:
        text += f"{how} ({examples})"
    rows = tuple(plan.rows.file.places[row] for row in merges.rows)
    figures = {
        "rows": n,
        "of": merges.n_rows,
        "template_end": merges.template_end,
        "examples": merges.examples,
    }
    return Check("tokens", "look" if n else "ok", text, rows=rows), figures


# --- the run ------------------------------------------------------------------------------------
def check_run(plan: RunPlan, options: FinetuneOptions, on_cpu: str) -> list[Check]:
    """`Check`s of estimated memory and time, and of a dry run of the longest batch.

    `on_cpu` is the command that trains on the CPU in float32.
    """
    part = "run"
    costs = estimate_costs(plan, options)
    duration = format_duration(costs.seconds)
    text = f"{format_bytes(costs.needed)} of memory, {duration} for {costs.steps:,} steps"
    checks = [Check(part, "ok", f"estimate: {text}"), *_check_folder_and_weights(plan, options)]
    if not costs.fit:
        level: Level = "look" if options.force else "wrong"
        return [*checks, Check(part, level, memory_advice(options, plan, costs))]
    if options.from_random and costs.steps < FEW_STEPS:
        text = (
            f"{count(costs.steps, 'update')} from random weights teach hardly anything: try a "
            "smaller --batch-size, more --epochs, or a --model that knows English"
        )
        checks.append(Check(part, "look", text, changes_results=True))
    if costs.seconds / costs.steps > MAX_STEP_SECONDS:
        text = f"no dry run, since a step would take {format_duration(costs.seconds / costs.steps)}"
        return [*checks, Check(part, "ok", text)]
    return [*checks, *_check_dry_run(plan, options, on_cpu)]


def _check_folder_and_weights(plan: RunPlan, options: FinetuneOptions) -> Iterator[Check]:
    """Whether the folder can be written, and whether the weights are there or can be downloaded."""
    try:
        check_new_folder(options.out)
        if not options.force:
            check_disk_space(options.out, count_parameters(plan.config)[0])
    except UserError as error:
        yield Check("run", "wrong", str(error))
    if options.model in PUBLISHED and hub_download.cached(options.model) is None:
        offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
        size = format_bytes(4 * count_parameters(plan.config)[0])
        text = f"{options.model} is not on this disk: {size} will be downloaded"
        if offline:
            text += ", but HF_HUB_OFFLINE forbids it"
        yield Check("run", "wrong" if offline else "look", text)


def _check_dry_run(plan: RunPlan, options: FinetuneOptions, on_cpu: str) -> Iterator[Check]:
    """Whether a step on the longest batch works, and computes what the CPU computes."""
    try:
        result = dry_run(plan, options)
    except (RuntimeError, ValueError, FloatingPointError) as error:
        yield Check("run", "wrong", f"the longest batch fails: {error}")
        return
    yield Check(
        "run",
        "ok",
        f"the longest batch, {result.rows} rows of {result.tokens} tokens: {result.seconds:.2f} s, "
        f"{format_bytes(result.peak_bytes)} in all",
    )
    text = (
        f"its loss on {plan.device.type} in {plan.settings.dtype}: {result.loss:.4f}; "
        f"on the CPU in float32: {result.loss_on_cpu:.4f}"
    )
    if result.agrees:
        yield Check("run", "ok", text)
        return
    yield Check("run", "wrong", f"{text}: this device gives wrong results", fix=on_cpu)
