"""What the doctor looks at: machine, data, tokens, the run to come; a `Check` for each thing.

The one idea: a check has a level, a sentence with its figure, the rows it is about, and where
something is wrong, what mends it.
"""

import os
import platform
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from ch07.data import dataset_statistics
from ch07.data.entries import count, group_by_kind
from ch07.data.row_checks import BOUNDARY_MERGE
from ch07.data.splits import normalised_prompt
from ch07.data.tokenizer import TokenizerError, load_tokenizer
from ch07.models import hub_download
from ch07.models.hub_download import PUBLISHED
from ch07.models.resource_estimate import as_bytes, as_time, count_parameters
from ch07.runs.run_lock import check_disk_space, check_new_folder
from ch07.systems.data_curation.quality_flags import FLAGS, count_flags
from ch07.training.cost_estimate import estimate_costs, too_large
from ch07.training.dry_run import PATIENCE, dry_run
from ch07.utils.dependencies import INSTALL_COMMAND, read_requirements, unmet_requirements
from ch07.utils.device import available_memory, cpu_has_bfloat16

HELLO = "Hello world", [15496, 995]  # the ids of transformers' documentation of GPT2Tokenizer
FEW_STEPS = 100
ROOM = 1e9  # bytes on the disk: ten runs of the default size


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    part: str
    level: str  # "ok", "look" or "wrong"
    text: str
    mend: str = ""
    rows: tuple = ()


# --- the machine --------------------------------------------------------------------------------
def check_machine():
    """Python, packages, processor, memory, disk, tokenizer: a list of `Check`s."""

    def check(level, text, mend=""):
        checks.append(Check("machine", level, text, mend))

    checks, missing = [], unmet_requirements()
    python = f"Python {platform.python_version()}, PyTorch {torch.__version__}"
    check("ok", f"{python}, threads: {torch.get_num_threads()}, cores: {os.cpu_count()}")
    if missing:
        check("wrong", f"requirements: {'; '.join(missing)}", INSTALL_COMMAND)
    else:
        check(
            "ok",
            f"all {len(read_requirements())} requirements are installed, in the versions wanted",
        )
    units = "has" if cpu_has_bfloat16() else "has no"
    check("ok", f"the processor {units} bfloat16 units; CUDA: {_cuda()}")
    disk = shutil.disk_usage(Path.cwd()).free
    memory = available_memory(torch.device("cpu"))
    check(
        "ok" if disk >= ROOM else "look",
        f"{as_bytes(memory)} of memory and {as_bytes(disk)} of disk are free",
    )
    try:
        tokenizer = load_tokenizer()
        good = tokenizer.encode_ordinary(HELLO[0]) == HELLO[1]
        mend = "" if good else INSTALL_COMMAND
        check("ok" if good else "wrong", f"tokenizer: GPT-2, {tokenizer.n_vocab:,} tokens", mend)
    except TokenizerError as error:
        check("wrong", f"tokenizer: {error}", INSTALL_COMMAND)
    return checks


def _cuda():
    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none"


# --- the data -----------------------------------------------------------------------------------
def check_data(plan, options, clean):
    """`Check`s of the file, its rows and its splits; `clean` is the command that mends it."""
    return [*_about_rows(plan, options, clean), *_about_splits(plan)]


def _about_rows(plan, options, clean):
    file, datasets = plan.rows.file, plan.rows.datasets
    sizes = ", ".join(f"{len(dataset):,} {name}" for name, dataset in datasets.items())
    n = sum(len(dataset) for dataset in datasets.values())
    part = "data"
    yield Check(part, "ok", f"{file.path}: {n:,} rows can be used: {sizes}")
    for text in plan.log.notes:
        yield Check(part, "look", text.removeprefix("data: "))
    for (level, what), rows in group_by_kind(plan.rows.findings).items():
        if what == BOUNDARY_MERGE:  # has a check of its own, with the tokens
            continue
        refused = level == "error" and not options.skip_bad_rows
        text = f"{'' if level == 'note' else 'left out: '}{what} ({len(rows)})"
        mend = clean if refused else ""
        yield Check(part, "wrong" if refused else "look", text, mend, tuple(rows))
    groups = dataset_statistics.conflicting_answers(file.entries)
    if groups:
        rows = tuple(file.places[row] for group in groups for row in group)
        text = f"{count(len(groups), 'prompt')} asked more than once, with different answers"
        yield Check(part, "look", text, rows=rows)
    flagged = count_flags(file.entries)
    if flagged:
        rows = {row: None for numbers in flagged.values() for row in numbers}
        kinds = "; ".join(f"{FLAGS[name]} ({len(numbers)})" for name, numbers in flagged.items())
        text = f"{count(len(rows), 'row')} may teach something wrong: {kinds}"
        yield Check(part, "look", text, rows=tuple(file.places[row] for row in rows))


def _about_splits(plan):
    part, entries, places = "splits", plan.rows.file.entries, plan.rows.file.places
    splits = {name: dataset.indices for name, dataset in plan.rows.datasets.items()}
    trained = {normalised_prompt(entries[row]) for row in splits["train"]}
    for name in ("test", "validation"):
        leaks = [row for row in splits[name] if normalised_prompt(entries[row]) in trained]
        text = f"{len(leaks)} of {len(splits[name])} {name} prompts are also in training"
        text += ": without a 'split' of their own, rows are split so that none is" if leaks else ""
        rows = tuple(places[row] for row in leaks)
        if splits[name]:
            yield Check(part, "look" if leaks else "ok", text, rows=rows)
    held_out = len(splits["test"]) + len(splits["validation"])
    n = len(splits["train"])
    within = dataset_statistics.near_duplicates_within_training(entries, plan.rows.datasets)
    whose = {
        f"of {held_out} held-out prompts closely resemble a training prompt": (
            plan.rows.near_duplicates
        ),
        f"of {n:,} training prompts closely resemble another": within,
    }
    for text, pairs in whose.items():
        if pairs is None:
            yield Check(part, "ok", f"too many rows to look at how many {text}")
            continue
        nearest = sorted(pairs, key=lambda pair: -pair[2])
        rows = tuple(f"{places[a]} and {places[b]} ({s:.2f})" for a, b, s in nearest)
        n = len({a for a, _, _ in pairs})
        yield Check(part, "look" if n else "ok", f"{n:,} {text}", rows=rows)


# --- the tokens ---------------------------------------------------------------------------------
def check_tokens(plan, options):
    """(`Check`s, {"limits", "counted", "seams"}, lines of a histogram).

    What limits cost, what counts, where prompt and answer would merge.
    """
    lengths, allowed = plan.rows.lengths, plan.allowed_max_length
    tokens = sorted(n for n, _ in lengths)
    limits = dataset_statistics.informative_limits(lengths, plan.config.context_length)
    limits = sorted({*limits, *([allowed] if allowed else [])})
    costs = [dataset_statistics.truncation_cost(lengths, limit) for limit in limits]
    lines = list(dataset_statistics.histogram(tokens, allowed))
    for cost in costs:
        chosen = " (chosen)" if cost.limit == allowed else ""
        end, answer = (f"{100 * n / cost.rows:.1f} %" for n in (cost.end, cost.answer))
        where = f"at {cost.limit} tokens{chosen}"
        lines.append(f"{where} {end} of rows lose their end, {answer} their whole answer")
    train = plan.rows.datasets["train"]
    roles = dataset_statistics.counted_targets_by_role(train, plan.style, options.loss_on, allowed)
    counted = sum(roles.values())
    share = counted / sum(min(n, allowed or n) for n in train.lengths.tolist())
    by_role = ", ".join(f"{role} {100 * n / counted:.0f} %" for role, n in roles.items())
    median = tokens[len(tokens) // 2]
    checks = [
        f"the loss counts {100 * share:.0f} % of all targets; of these: {by_role}",
        f"{tokens[0]} to {tokens[-1]} tokens a row, half of them at most {median}:",
    ]
    about_counts, about_lengths = (Check("tokens", "ok", text) for text in checks)
    about_merges, merges = _about_boundary_merges(plan)
    details = {"limits": [asdict(cost) for cost in costs], "counted": roles, "seams": merges}
    return [about_counts, about_merges, about_lengths], details, lines


def _about_boundary_merges(plan):
    """(`Check`, its figures): rows that would have other tokens if tokenized as one text."""
    merges = dataset_statistics.find_boundary_merges(plan.rows, plan.style)
    n, of, end = len(merges.rows), merges.n_rows, merges.template_end
    text = f"{n:,} of {of:,} rows would have other tokens where the answer begins, if the prompt "
    text += f"(it ends in {end!r}) and the answer were tokenized as one text"
    if n:
        examples = "; ".join(example["tokens"] for example in merges.examples)
        text += f"; here their ids are joined ({examples})"
    rows = tuple(plan.rows.file.places[row] for row in merges.rows)
    figures = {"rows": n, "of": of, "template_end": end, "examples": merges.examples}
    return Check("tokens", "look" if n else "ok", text, rows=rows), figures


# --- the run ------------------------------------------------------------------------------------
def _about_place(plan, options):
    """Whether weights and folder are there, or can be."""
    try:
        check_new_folder(options.out)
        if not options.force:
            check_disk_space(options.out, count_parameters(plan.config)[0])
    except ValueError as error:
        yield Check("run", "wrong", str(error))
    if options.model in PUBLISHED and hub_download.cached(options.model) is None:
        offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
        size = as_bytes(4 * count_parameters(plan.config)[0])
        text = f"{options.model} is not on this disk: {size} will be fetched"
        text += ", but HF_HUB_OFFLINE forbids it" if offline else ""
        yield Check("run", "wrong" if offline else "look", text)


def check_run(plan, options):
    """Estimated memory and time, and the longest batch as a dry run: a list of `Check`s."""
    costs = estimate_costs(plan, options)
    text = f"{as_bytes(costs.needed)} of memory, {as_time(costs.seconds)} for {costs.steps:,} steps"
    checks = [Check("run", "ok", f"estimate: {text}"), *_about_place(plan, options)]
    if costs.needed > costs.free:
        level = "look" if options.force else "wrong"
        return [*checks, Check("run", level, too_large(options, plan, costs))]
    if options.from_random and costs.steps < FEW_STEPS:
        text = f"{count(costs.steps, 'update')} from random weights teach hardly anything: "
        ways = "try a smaller --batch-size, more --epochs, or a --model that knows English"
        checks.append(Check("run", "look", text + ways))
    if costs.seconds / costs.steps > PATIENCE:
        text = f"dry run left out: a step would take {as_time(costs.seconds / costs.steps)}"
        return [*checks, Check("run", "ok", text)]
    try:
        seen = dry_run(plan, options)
    except (RuntimeError, ValueError) as error:
        return [*checks, Check("run", "wrong", f"the longest batch fails: {error}")]
    checks.append(
        Check(
            "run",
            "ok",
            f"the longest batch, {seen.rows} rows of {seen.tokens} tokens: {seen.seconds:.2f} s, "
            f"{as_bytes(seen.peak_bytes)} in all",
        )
    )
    text = (
        f"its loss on {plan.device.type} in {plan.settings.dtype}: {seen.loss:.4f}; "
        f"on the CPU in float32: {seen.loss_on_cpu:.4f}"
    )
    if seen.agrees:
        return [*checks, Check("run", "ok", text)]
    mend = "python -m ch07 finetune --device cpu --dtype float32"
    return [*checks, Check("run", "wrong", f"{text}: this device computes wrongly", mend)]
